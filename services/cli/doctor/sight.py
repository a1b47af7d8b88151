"""Everything that the broker of a site holds retained, as whoever comes now is given it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from contracts.acl import VIEWER
from contracts.codec import ContractError, decode
from contracts.topic import Topic
from contracts.v1.device import DEVICE, DEVICE_STATE
from contracts.v1.pipeline import PIPELINE
from contracts.v1.service import SERVICE
from services.cli.connection import Access, connected
from services.cli.viewer import MOST_TOPICS
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.clock import SystemClock

P = TypeVar("P", bound=BaseModel)

QUIET_S = 0.3
"""Retained topics come in one go; this long after the last of them all are there."""
LISTEN_S = 1.0
"""So long what services say meanwhile is listened to: it shows their clocks."""
LONGEST_S = 30.0
TAKE_S = 5.0

_FIRST: tuple[Topic[Any], ...] = (SERVICE, DEVICE, DEVICE_STATE, PIPELINE)
SEEN: tuple[Topic[Any], ...] = (*_FIRST, *(topic for topic in VIEWER.reads if topic.retain and topic not in _FIRST))
"""Descriptions before values: a broker sends retained topics in the order of subscription, and a short queue cuts the
last ones off."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A message. kind: the name of its Topic. us: when it came, by this machine's clock, in microseconds.

    live: it was published while we listened.
    """

    kind: str
    levels: dict[str, str]
    data: bytes
    us: int
    live: bool


@dataclass(slots=True)
class Sight:
    """What was there, by topic. us: when it was looked at."""

    us: int
    messages: dict[str, Seen] = field(default_factory=dict)

    def of(self, topic: Topic[P]) -> Iterator[tuple[Seen, P]]:
        """Those of this class that keep their contract."""
        for name, seen in self.messages.items():
            if seen.kind == topic.name:
                with suppress(ContractError):
                    yield seen, decode(topic.payload, seen.data, topic=name)

    def broken(self) -> Iterator[tuple[Seen, ContractError]]:
        """Those that do not, with what is wrong."""
        models = {topic.name: topic.payload for topic in SEEN}
        for name, seen in self.messages.items():
            try:
                decode(models[seen.kind], seen.data, topic=name)
            except ContractError as error:
                yield seen, error


async def look(access: Access) -> Sight:
    """Connects, and takes what is retained. Raises ConnectionFailed."""
    sight = Sight(SystemClock().now_us())
    more = asyncio.Event()

    def follow(bus: Bus) -> None:
        """A subscription for each class."""
        for topic in SEEN:
            bus.subscribe_raw(topic, _taker(sight, topic.name, more), queue_size=MOST_TOPICS, timeout_s=TAKE_S)

    async with connected(access, follow) as bus:
        await bus.settled()
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_S):
                await _quiet(more)
        await asyncio.sleep(LISTEN_S)
    return sight


async def _quiet(more: asyncio.Event) -> None:
    """Returns when nothing retained has come for a moment."""
    with suppress(TimeoutError):
        while True:
            more.clear()
            async with asyncio.timeout(QUIET_S):
                await more.wait()


def _taker(sight: Sight, kind: str, more: asyncio.Event) -> Callable[[Delivery[bytes]], Awaitable[None]]:
    clock = SystemClock()

    async def take(delivery: Delivery[bytes]) -> None:
        """Keeps the newest; an empty message clears its topic."""
        if not delivery.payload:
            sight.messages.pop(delivery.topic, None)
            return
        now_us = clock.now_us()
        sight.messages[delivery.topic] = Seen(
            kind, delivery.levels, delivery.payload, now_us, live=not delivery.retained
        )
        if delivery.retained:
            more.set()

    return take
