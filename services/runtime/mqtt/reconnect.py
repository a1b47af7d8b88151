"""Connecting to the broker again and again, neither hastily nor ever giving up."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from services.runtime.logs import Log
from services.runtime.mqtt.delivery import BusUnavailable, LoginRefused
from services.runtime.retry import Backoff
from services.runtime.stopping import Stopping

STEADY_S = 5.0
"""After a connection that lasted this long the next attempt does not wait long."""
FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 1.5
"""A broker that is back shall be found within two seconds, however long it was away."""
SAY_AGAIN_S = 60.0
"""Once the waits have grown to the longest, the same failure is logged again only after so long."""


class Reconnection:
    """Makes one connection after the other until stopped."""

    def __init__(self, *, log: Log, random: Random | None = None) -> None:
        self._log = log
        self._backoff = Backoff(
            first_s=FIRST_RETRY_S,
            most_s=LONGEST_RETRY_S,
            random=random or Random(),  # noqa: S311 - it only spreads the attempts of many clients
        )
        self._said = ""
        self._say_at = float("-inf")
        self.stopping = Stopping()

    async def run(self, connect: Callable[[], Awaitable[None]]) -> None:
        """Calls `connect` after growing waits as long as it raises BusUnavailable, until stopping is set.

        connect: connects, and returns when the connection is no longer wanted. Other errors pass.
        """
        loop = asyncio.get_running_loop()
        while not self.stopping.is_set():
            begun = loop.time()
            try:
                await connect()
            except BusUnavailable as error:
                if loop.time() - begun >= STEADY_S:
                    self._backoff.reset()
                await self._wait_after(error)

    async def _wait_after(self, error: BusUnavailable) -> None:
        wait_s = self._backoff.next()
        self._tell(error, wait_s)
        await self.stopping.within(wait_s)

    def _tell(self, error: BusUnavailable, wait_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        if str(error) == self._said and now_s < self._say_at:
            return
        self._said = str(error)
        self._say_at = now_s + SAY_AGAIN_S if wait_s > LONGEST_RETRY_S / 2 else now_s
        retry_in_s = round(wait_s, 1)
        if isinstance(error, LoginRefused):
            self._log.error(
                "broker_refuses_login",
                user=error.username,
                reason=error.reason,
                mend=error.mend,
                retry_in_s=retry_in_s,
            )
        else:
            self._log.warning("broker_unavailable", error=str(error), retry_in_s=retry_in_s)
