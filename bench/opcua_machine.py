"""The variables of the OPC UA server that is measured with: all of them change at every tick."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from bench.stamps import Stamps

EPOCH = 116_444_736_000_000_000
"""1970 UTC in 100 ns since 1601."""

Tick = tuple[Sequence[float], int]
"""What the variables held after a tick, and its time."""


class Feed(Protocol):
    """Somebody who follows the variables."""

    def take(self, tick: Tick) -> None:
        """The next tick, just when it was."""
        ...


class Machine:
    """The variables. feeds: who is told of each tick."""

    def __init__(self, values: int, stamps: Stamps) -> None:
        source = random.Random(1)
        self._source = source
        self.levels = [source.uniform(10, 90) for _ in range(values)]
        self.counter = 0
        self.time = ticks_now()
        self.feeds: set[Feed] = set()
        self._stamps = stamps

    async def run(self, period_s: float, stop: asyncio.Event) -> None:
        """Changes every variable once a period, without drift, until stopped."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stop.is_set():
            choice = self._source.choice
            self.levels = [level + choice((-0.02, -0.01, 0.01, 0.02)) for level in self.levels]
            self.counter += 1
            self.levels[0] = float(self.counter)
            self.time = ticks_now()
            self._stamps.sent(self.counter)
            for feed in self.feeds:
                feed.take((self.levels, self.time))
            due = max(due + period_s, loop.time())
            try:
                async with asyncio.timeout_at(due + self._source.uniform(-0.005, 0.005)):
                    await stop.wait()
            except TimeoutError:
                continue


def ticks_now() -> int:
    """Now, in 100 ns since 1601."""
    return EPOCH + int(datetime.now(UTC).timestamp() * 1e6) * 10
