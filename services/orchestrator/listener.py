"""Triggers that listen on the bus: what comes while nobody listens is missed. For `deliver: every` see session."""

import asyncio
from collections.abc import Callable

from contracts.codec import decode
from contracts.v1.definition import EventFilter
from contracts.v1.event import EVENT, Events
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import decode_frame
from contracts.v1.run import RunTrigger
from contracts.v1.tag import TagValue
from plugins.api.clock import Clock
from services.orchestrator.hub import Hub
from services.orchestrator.tags import Tags
from services.orchestrator.trigger import Firing, TagChange, TagGate, lets_through
from services.runtime.bus import Delivery

WAITING = 1000
"""Messages of events that wait to be looked at."""
Fire = Callable[[Firing], None]


def frame_firing(data: bytes, *, topic: str, path: str) -> Firing | None:
    """What a frame fires: its last sample; None if it has none. Raises ContractError."""
    frame = decode_frame(data, topic=topic)
    if not frame.samples:
        return None
    sample = frame.samples[-1]
    return Firing(trigger=RunTrigger(kind="frame", by=path, t=sample.t), values={"values": dict(sample.v)})  # type: ignore[arg-type]


def tag_change(value: TagValue) -> TagChange:
    """A tag's value as a change."""
    return TagChange(value=value.value, q=value.q, t_us=value.ts * 1000)


def tag_firing(change: TagChange, *, path: str) -> Firing:
    """What a change of a tag fires."""
    values = {"value": change.value, "q": change.q}
    return Firing(trigger=RunTrigger(kind="tag", by=path, t=change.t_us), values=values)  # type: ignore[arg-type]


class FrameListener:
    """Fires for each frame of a group that has values. path: `device/group`."""

    def __init__(self, path: str, *, hub: Hub, fire: Fire) -> None:
        self._path = path
        self._fire = fire
        device, _, group = path.partition("/")
        # The newest counts: what a busy loop leaves waiting is replaced.
        self._end = hub.subscribe(FRAME, self._on_frame, queue_size=10, device=device, group=group)

    async def _on_frame(self, delivery: Delivery[bytes]) -> None:
        firing = frame_firing(delivery.payload, topic=delivery.topic, path=self._path)
        if firing is not None:
            self._fire(firing)

    async def close(self) -> None:
        """Fires no more."""
        await self._end()


class TagListener:
    """Fires for the changes of a tag that its gate lets through. path: `device/tag`."""

    def __init__(self, path: str, gate: TagGate, *, tags: Tags, clock: Clock, fire: Fire) -> None:
        self._path = path
        self._gate = gate
        self._clock = clock
        self._fire = fire
        self._timer: asyncio.TimerHandle | None = None
        device, _, tag = path.partition("/")
        self._leave = tags.follow(device, tag, self._on_value)
        last = tags.last(device, tag)
        if last is not None:
            self._on_value(last)

    def _on_value(self, value: TagValue) -> None:
        self._pass(self._gate.take(tag_change(value), now_s=self._clock.monotonic()))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gate.due_s is not None:
            wait_s = max(0.0, self._gate.due_s - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_time)

    def _on_time(self) -> None:
        self._pass(self._gate.tick(now_s=self._clock.monotonic()))
        self._set_timer()

    def _pass(self, change: TagChange | None) -> None:
        if change is not None:
            self._fire(tag_firing(change, path=self._path))

    async def close(self) -> None:
        """Fires no more."""
        self._leave()
        if self._timer is not None:
            self._timer.cancel()


class EventListener:
    """Fires for each event that the filter lets through."""

    def __init__(self, wanted: EventFilter, *, hub: Hub, fire: Fire) -> None:
        self._wanted = wanted
        self._fire = fire
        levels = {"scope": wanted.scope, "aggregate": wanted.aggregate, "id": wanted.id}
        given = {name: value for name, value in levels.items() if value is not None}
        self._end = hub.subscribe(EVENT, self._on_events, queue_size=WAITING, **given)

    async def _on_events(self, delivery: Delivery[bytes]) -> None:
        events = decode(Events, delivery.payload, topic=delivery.topic).events
        for event in events:
            if lets_through(self._wanted, event):
                data = {**event.data, "type": event.type, "aggregate_id": event.aggregate_id}
                by = f"{event.aggregate}/{event.aggregate_id} {event.type}"
                self._fire(Firing(trigger=RunTrigger(kind="event", by=by, t=event.t), values={"data": data}))

    async def close(self) -> None:
        """Fires no more."""
        await self._end()
