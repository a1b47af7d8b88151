"""One subscription per filter at the broker, however many here listen to it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from contracts.topic import Topic
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.mqtt.subscriptions import EndOfSubscription

TAKEN_S = 5.0
"""How long all listeners may take for one message."""

Listener = Callable[[Delivery[bytes]], Awaitable[None]]


@dataclass(slots=True)
class _Channel:
    listeners: list[Listener] = field(default_factory=list)
    end: EndOfSubscription | None = None

    async def pass_on(self, delivery: Delivery[bytes]) -> None:
        """To those that listen at this moment."""
        for listener in tuple(self.listeners):
            await listener(delivery)


class Hub:
    """Who joins a filter that others listen to already does not hear what is retained there."""

    def __init__(self, *, bus: Bus) -> None:
        self._bus = bus
        self._channels: dict[str, _Channel] = {}

    def subscribe(
        self, topic: Topic[Any], listener: Listener, *, queue_size: int = 1000, **levels: str
    ) -> EndOfSubscription:
        """Hands the messages of these levels to `listener` as bytes, until what is given is awaited.

        queue_size: of what waits for all listeners of the filter; that of the first counts.
        """
        key = f"{topic.name} {sorted(levels.items())}"
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel()
            channel.end = self._bus.subscribe_raw(
                topic, channel.pass_on, queue_size=queue_size, timeout_s=TAKEN_S, **levels
            )
        channel.listeners.append(listener)
        return partial(self._leave, key, channel, listener)

    async def _leave(self, key: str, channel: _Channel, listener: Listener) -> None:
        channel.listeners.remove(listener)
        if not channel.listeners and channel.end is not None:
            del self._channels[key]
            await channel.end()
