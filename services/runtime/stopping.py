"""That a part is asked to end, for what its run() does at intervals until then."""

import asyncio


class Stopping(asyncio.Event):
    """Set once the part is asked to end."""

    async def within(self, seconds: float) -> bool:
        """Waits until it is set, so long at the most; whether it is."""
        try:
            async with asyncio.timeout(seconds):
                return await self.wait()
        except TimeoutError:
            return False
