"""The triggers of one pipeline at work, and how they are made out of its definition."""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from contracts.v1 import definition as form
from contracts.v1.definition import Definition, FrameTrigger, TagTrigger, Trigger
from contracts.v1.event import Event
from contracts.v1.node import CallNode, PipelineNode, WriteNode
from contracts.v1.run import RunTrigger
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.definition.level import level_of
from services.orchestrator.definition.schedule import Cron, Interval, Schedule, ScheduleError
from services.orchestrator.engine.execution import Execution
from services.orchestrator.pipelines.info import trigger_text
from services.orchestrator.pipelines.version import Name
from services.orchestrator.triggers.frame_mender import FrameMender
from services.orchestrator.triggers.lane import Lane
from services.orchestrator.triggers.listener import EventListener, FrameListener, TagListener
from services.orchestrator.triggers.notice import ENDLESS, MISSED, TriggerNotice
from services.orchestrator.triggers.outfit import TriggerOutfit
from services.orchestrator.triggers.session import SessionTrigger
from services.orchestrator.triggers.sources import FrameSource, TagSource, client_id
from services.orchestrator.triggers.trigger import Firing, TagChange, TagGate
from services.orchestrator.use_cases import RunOrder
from services.runtime.sqlite_file import DatabaseError

WAITING_EVENTS = 100
_ACTS = (WriteNode, CallNode, PipelineNode)
"""Nodes that change something in the plant, or may."""


class TriggerSet:
    """Of one pipeline. make() once; then close(). sessions: those at the broker."""

    def __init__(self, name: Name, definition: Definition, *, use: TriggerOutfit) -> None:
        self.name = name
        self.sessions: list[SessionTrigger] = []
        self._before: Mapping[str, SessionTrigger] = {}
        self._timed: set[str] = set()
        self._definition = definition
        self._use = use
        self._log = use.log.bind(pipeline=name[1])
        self._ends: list[Callable[[], Awaitable[None]]] = []

    @property
    def what(self) -> tuple[object, ...]:
        """What it is made of: another version with the same needs no other triggers."""
        return (self._definition.limits.runs, self._acts, *self._definition.triggers)

    @property
    def keys(self) -> set[str]:
        """Under which something of its triggers is remembered on disk, beside what sessions are."""
        kinds = form.EveryTrigger | form.CronTrigger | TagTrigger
        return {self._key(trigger) for trigger in self._definition.triggers if isinstance(trigger, kinds)}

    async def make(self, *, before: Mapping[str, SessionTrigger]) -> None:
        """Sets up every trigger, or none. before: the sessions of the pipeline's earlier triggers, by name.

        Raises sqlite3.Error, DatabaseError.
        """
        self._before = before
        whole = False
        try:
            for trigger in self._definition.triggers:
                await self._make(trigger)
            whole = True
        finally:
            if not whole:
                await self.close(forget=set())

    async def close(self, *, forget: set[str]) -> None:
        """Ends the triggers. forget: keys of which nothing is to be remembered."""
        while self._ends:
            await self._ends.pop()()
        self.sessions.clear()
        for key in self.keys & forget:
            await self._use.timekeeper.forget(key)
            with suppress(sqlite3.Error, DatabaseError):
                await self._use.progress.forget(key)

    @property
    def _acts(self) -> bool:
        nodes = level_of(self._definition, Catalogue()).walk()
        return any(isinstance(node, _ACTS) for _, _, node in nodes)

    async def _make(self, trigger: Trigger) -> None:
        if isinstance(trigger, form.EveryTrigger | form.CronTrigger):
            await self._watch_clock(trigger)
        elif isinstance(trigger, FrameTrigger | TagTrigger) and trigger.deliver == "every":
            await self._open_session(trigger)
        elif isinstance(trigger, TagTrigger):
            await self._watch_tag(trigger)
        else:
            lane, notice = self._lane(trigger, room=1 if isinstance(trigger, FrameTrigger) else WAITING_EVENTS)
            if isinstance(trigger, FrameTrigger):
                self._ends.append(FrameListener(trigger.frame, hub=self._use.hub, fire=lane.offer).close)
            else:

                def endless(event: Event) -> None:
                    """Told instead of fired."""
                    notice.tell(ENDLESS, f"{event.aggregate_id} {event.type}")

                listener = EventListener(trigger.event, hub=self._use.hub, fire=lane.offer, endless=endless)
                self._ends.append(listener.close)

    async def _watch_clock(self, trigger: form.EveryTrigger | form.CronTrigger) -> None:
        use, key, is_cron = self._use, self._key(trigger), isinstance(trigger, form.CronTrigger)
        if key in self._timed:
            return  # the pipeline has the same trigger twice
        try:
            schedule = _schedule_of(trigger)
        except ScheduleError as error:
            self._log.error("trigger_unusable", error=str(error))
            return
        by = trigger.cron if isinstance(trigger, form.CronTrigger) else f"{trigger.every:g} s"
        # An interval that its own run outlasts leaves out due times; a time of the calendar waits.
        lane, notice = self._lane(trigger, room=1 if is_cron else 0)

        def fire(due_us: int) -> None:
            """One due time, in microseconds since 1970 UTC."""
            note = partial(use.timekeeper.done, key, due_us) if is_cron else None
            lane.offer(Firing(trigger=RunTrigger(kind="cron" if is_cron else "every", by=by, t=due_us), note=note))

        async def remove() -> None:
            """Before the lane is closed."""
            await use.timekeeper.remove(key, waits=lane.waits)

        self._timed.add(key)
        self._ends.append(remove)
        await use.timekeeper.add(
            key,
            schedule,
            missed=trigger.missed if isinstance(trigger, form.CronTrigger) else "skip",
            kept=is_cron,
            fire=fire,
            skip=lambda due_us: notice.tell(MISSED, str(due_us)),
        )

    async def _watch_tag(self, trigger: TagTrigger) -> None:
        use, key = self._use, self._key(trigger)
        kept = await use.progress.last(key)

        def passed(change: TagChange) -> None:
            """What is let through now does not fire again after a restart."""
            use.progress.put(key, json.dumps(change.as_json()))

        last = TagChange(**json.loads(kept)) if kept else None
        gate = TagGate(deadband=trigger.deadband, debounce_s=trigger.debounce, last=last)
        lane, _ = self._lane(trigger, room=1)
        listener = TagListener(trigger.tag, gate, tags=use.tags, clock=use.clock, fire=lane.offer, passed=passed)

        async def close() -> None:
            """Before the lane is closed: a change that waits there is one for who listens next."""
            await listener.close()
            if lane.waits:
                with suppress(sqlite3.Error, DatabaseError):
                    await use.progress.forget(key)

        self._ends.append(close)

    async def _open_session(self, trigger: FrameTrigger | TagTrigger) -> None:
        use, client = self._use, client_id(self._use.instance, *self.name, trigger)
        if any(session.name == client for session in self.sessions):
            return  # the pipeline has the same trigger twice
        begun_us = await use.sessions.begun(client, self.name)
        stored, before = await use.progress.last(client), self._before.get(client)
        before = before.latest if before is not None else None
        kept = json.loads(before.state if before is not None and stored else stored or "{}")
        notice = self._notice(trigger, kind="every")
        source, beside = self._source(trigger, begun_us, kept.get("source"), notice)
        session = SessionTrigger(
            client=client,
            source=source,
            open_intake=use.open_intake,
            start=partial(self._start, trigger),
            repeats=not self._acts,
            progress=use.progress,
            notes=use.notes,
            kept=kept,
            before=before,
            notice=notice,
            beside=beside.run if beside else None,
            workspace=self.name[0],
            pipeline=self.name[1],
            metrics=use.metrics,
        )
        use.supervisor.keep(client, session.run)
        self.sessions.append(session)
        self._ends.append(partial(use.supervisor.drop, client))

    def _source(
        self, trigger: FrameTrigger | TagTrigger, begun_us: int, state: Mapping[str, Any] | None, notice: TriggerNotice
    ) -> tuple[FrameSource | TagSource, FrameMender | None]:
        use = self._use
        if isinstance(trigger, TagTrigger):
            return TagSource(trigger.tag, site=use.site, deadband=trigger.deadband, state=state), None
        source = FrameSource(trigger.frame, site=use.site, begun_us=begun_us, state=state)
        mender = FrameMender(path=trigger.frame, seen=source.seen, bus=use.bus, user=use.user, notice=notice)
        return source, mender

    def _lane(self, trigger: Trigger, *, room: int) -> tuple[Lane, TriggerNotice]:
        kind = type(trigger).__name__.removesuffix("Trigger").lower()
        notice = self._notice(trigger, kind=kind)
        lane = Lane(
            workspace=self.name[0],
            pipeline=self.name[1],
            kind=kind,
            start=partial(self._start, trigger),
            most=self._definition.limits.runs,
            room=room,
            allowance=self._use.allowance() if isinstance(trigger, form.EventTrigger) else None,
            notice=notice,
            metrics=self._use.metrics,
        )
        self._ends.append(lane.close)
        return lane, notice

    def _notice(self, trigger: Trigger, *, kind: str) -> TriggerNotice:
        scope, pipeline = self.name
        use = self._use
        notice = TriggerNotice(
            scope=scope,
            pipeline=pipeline,
            trigger=trigger_text(trigger),
            kind=kind,
            events=use.events,
            metrics=use.metrics,
            log=use.log,
        )
        self._ends.append(notice.close)
        return notice

    def _start(self, trigger: Trigger, firing: Firing) -> Execution:
        scope, pipeline = self.name
        order = RunOrder(
            scope=scope,
            pipeline=pipeline,
            trigger=firing.trigger,
            inputs=trigger.inputs,
            values=firing.known,
            note=firing.note,
        )
        return self._use.runs.start(order)

    def _key(self, trigger: form.EveryTrigger | form.CronTrigger | TagTrigger) -> str:
        """Tells it from all others, whatever else of the pipeline changes."""
        match trigger:
            case form.CronTrigger():
                when = f"{trigger.cron} {trigger.zone}"
            case form.EveryTrigger():
                when = f"every {trigger.every:g} s"
            case TagTrigger():
                when = trigger.tag
        return f"{self.name[0]}/{self.name[1]} {when}"


def _schedule_of(trigger: form.EveryTrigger | form.CronTrigger) -> Schedule:
    """When it is due. Raises ScheduleError."""
    if isinstance(trigger, form.EveryTrigger):
        return Interval.of(trigger.every)
    return Cron.of(trigger.cron, trigger.zone)
