"""Where commands are answered: what every such part has in common."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from services.runtime.bus.bus import Service


class Desk:
    """A Part: answers commands from its making until stop(). services: what it serves. threads: its own, to look in."""

    name = "desk"
    services: Sequence[Service[Any, Any]] = ()
    threads: Sequence[Executor] = ()

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Answers commands until stop(). What is looked up then goes on, and nobody hears of it."""
        try:
            await self._stopping.wait()
        finally:
            await asyncio.gather(*(service.close() for service in self.services))
            for some in self.threads:
                some.shutdown(wait=False, cancel_futures=True)

    async def stop(self) -> None:
        """Takes no more commands."""
        self._stopping.set()
