"""The last values of tags that somebody here wants to know: one subscription per tag, however many want it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from contracts.codec import decode
from contracts.v1.tag import TAG, TagValue
from plugins.api.clock import Clock
from services.runtime.bus.bus import Bus, Delivery

FIRST_S = 1.0
"""How long the first value of a tag is waited for: a retained one comes at once."""

EXPIRY_S = float(TAG.expiry_s or 0)

Listener = Callable[[TagValue], None]


class _Followed:
    def __init__(self) -> None:
        self.value: TagValue | None = None
        self.known = asyncio.Event()
        self.arrived_s = 0.0
        self.listeners: list[Listener] = []

    async def take(self, delivery: Delivery[bytes]) -> None:
        """Raises ContractError."""
        if not delivery.payload:  # the tag is no more
            self.value = None
            self.known.clear()
            return
        self.value, self.arrived_s = decode(TagValue, delivery.payload, topic=delivery.topic), delivery.arrived_s
        self.known.set()
        for listener in tuple(self.listeners):
            listener(self.value)

    def fresh(self, now_s: float) -> TagValue | None:
        """The last value, unless the broker has forgotten it since: then nobody vouches for it any more."""
        return self.value if now_s < self.arrived_s + EXPIRY_S else None


class Tags:
    """A tag once followed stays so: there are no more of them than the pipelines name."""

    def __init__(self, *, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
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
        return self._follow(device, tag).fresh(self._clock.monotonic())

    async def first(self, device: str, tag: str) -> TagValue | None:
        """As last(), waiting for a value up to FIRST_S."""
        followed = self._follow(device, tag)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await followed.known.wait()
        return followed.fresh(self._clock.monotonic())

    def _follow(self, device: str, tag: str) -> _Followed:
        followed = self._followed.get((device, tag))
        if followed is None:
            followed = self._followed[device, tag] = _Followed()
            self._bus.subscribe_raw(TAG, followed.take, device=device, tag=tag, queue_size=100)
        return followed


def _nothing() -> None:
    """Nobody listened."""


def _leave(listeners: list[Listener], listener: Listener) -> None:
    with suppress(ValueError):
        listeners.remove(listener)
