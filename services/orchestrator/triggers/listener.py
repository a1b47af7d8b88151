"""Triggers that listen on the bus: what comes while nobody listens is missed. For `deliver: every` see session."""

import asyncio
from collections.abc import Callable

from contracts.codec import decode
from contracts.v1.definition import EventFilter
from contracts.v1.event import EVENT, Event, Events
from contracts.v1.frame import FRAME
from contracts.v1.tag import TagValue
from plugins.api.clock import Clock
from services.orchestrator.hub import Hub
from services.orchestrator.tags import Tags
from services.orchestrator.triggers.firings import event_firing, frame_firing, tag_change, tag_firing
from services.orchestrator.triggers.lineage import MOST_LINKS, Lineage
from services.orchestrator.triggers.trigger import Firing, TagChange, TagGate, lets_through
from services.runtime.bus.bus import Delivery

WAITING = 1000
"""Messages of events that wait to be looked at."""
Fire = Callable[[Firing], None]


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
    """Fires for the changes of a tag that its gate lets through. path: `device/tag`. passed: is told of each."""

    def __init__(
        self,
        path: str,
        gate: TagGate,
        *,
        tags: Tags,
        clock: Clock,
        fire: Fire,
        passed: Callable[[TagChange], None],
    ) -> None:
        self._path = path
        self._gate = gate
        self._clock = clock
        self._fire = fire
        self._passed = passed
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
            self._passed(change)
            self._fire(tag_firing(change, path=self._path))

    async def close(self) -> None:
        """Fires no more."""
        self._leave()
        if self._timer is not None:
            self._timer.cancel()


class EventListener:
    """Fires for each event that the filter lets through. endless: is told of one that its own runs have led to."""

    def __init__(self, wanted: EventFilter, *, hub: Hub, fire: Fire, endless: Callable[[Event], None]) -> None:
        self._wanted = wanted
        self._fire = fire
        self._endless = endless
        self._lineage = Lineage()
        levels = {"scope": wanted.scope, "aggregate": wanted.aggregate, "id": wanted.id}
        given = {name: value for name, value in levels.items() if value is not None}
        self._end = hub.subscribe(EVENT, self._on_events, queue_size=WAITING, **given)

    async def _on_events(self, delivery: Delivery[bytes]) -> None:
        events = decode(Events, delivery.payload, topic=delivery.topic).events
        for event in events:
            links = self._lineage.links(event)
            if not lets_through(self._wanted, event):
                continue
            if links >= MOST_LINKS:
                self._endless(event)
            else:
                self._fire(event_firing(event))

    async def close(self) -> None:
        """Fires no more."""
        await self._end()
