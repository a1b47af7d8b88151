"""The last values of tags that somebody here wants to know: one subscription per tag, however many want it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from contracts.v1.tag import TAG, TagValue
from services.runtime.bus import Bus, Delivery

FIRST_S = 1.0
"""How long the first value of a tag is waited for: a retained one comes at once."""

Listener = Callable[[TagValue], None]


class _Followed:
    def __init__(self) -> None:
        self.value: TagValue | None = None
        self.known = asyncio.Event()
        self.listeners: list[Listener] = []

    async def take(self, delivery: Delivery[TagValue]) -> None:
        self.value = delivery.payload
        self.known.set()
        for listener in tuple(self.listeners):
            listener(delivery.payload)


class Tags:
    """A tag once followed stays so: there are no more of them than the pipelines name."""

    def __init__(self, *, bus: Bus) -> None:
        self._bus = bus
        self._followed: dict[tuple[str, str], _Followed] = {}

    def follow(self, device: str, tag: str, listener: Listener | None = None) -> Callable[[], None]:
        """From now on the tag's last value is known here, and `listener` is told of each. What is given ends that."""
        followed = self._follow(device, tag)
        if listener is None:
            return _nothing
        followed.listeners.append(listener)
        return partial(_leave, followed.listeners, listener)

    def last(self, device: str, tag: str) -> TagValue | None:
        """The tag's last value; None if there is none, or it is not known yet."""
        return self._follow(device, tag).value

    async def first(self, device: str, tag: str) -> TagValue | None:
        """As last(), waiting for a value up to FIRST_S."""
        followed = self._follow(device, tag)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await followed.known.wait()
        return followed.value

    def _follow(self, device: str, tag: str) -> _Followed:
        followed = self._followed.get((device, tag))
        if followed is None:
            followed = self._followed[device, tag] = _Followed()
            self._bus.subscribe(TAG, followed.take, device=device, tag=tag, queue_size=100)
        return followed


def _nothing() -> None:
    """Nobody listened."""


def _leave(listeners: list[Listener], listener: Listener) -> None:
    with suppress(ValueError):
        listeners.remove(listener)
