"""What starts runs by itself: the triggers of all live, enabled pipelines."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

from contracts.v1 import definition as form
from contracts.v1.definition import Definition, FrameTrigger, TagTrigger, Trigger
from contracts.v1.node import Constants
from contracts.v1.run import RunTrigger
from plugins.api.clock import Clock
from services.orchestrator.hub import Hub
from services.orchestrator.lane import Lane, Ongoing
from services.orchestrator.listener import EventListener, FrameListener, TagListener
from services.orchestrator.repository import Repository
from services.orchestrator.schedule import Cron, Interval, Missed, Schedule, ScheduleError
from services.orchestrator.seen import Seen
from services.orchestrator.session import FrameSource, OpenIntake, SessionTrigger, TagSource, client_id
from services.orchestrator.sessions import Sessions
from services.orchestrator.tags import Tags
from services.orchestrator.timekeeper import Timekeeper
from services.orchestrator.trigger import Firing, TagGate
from services.orchestrator.use_cases import RunOrder
from services.orchestrator.version import Name, UnknownPipeline, Version
from services.runtime.bus import Bus
from services.runtime.lifecycle import Supervisor
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.sqlite_file import DatabaseError

WAITING_EVENTS = 100
AGAIN_S = 1.0
"""How soon what the disk or the broker refused is tried again."""


class Starter(Protocol):
    """Starts runs; see use_cases.RunPipeline."""

    def start(self, order: RunOrder) -> Ongoing:
        """The run, begun or in line. Raises OrchestratorError."""
        ...


@dataclass(slots=True)
class _Set:
    """The triggers of one pipeline at work. what: they were made of. sessions: their sessions at the broker."""

    what: tuple[object, ...]
    ends: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    schedules: list[str] = field(default_factory=list)
    sessions: list[SessionTrigger] = field(default_factory=list)


class Triggers:
    """Kept running by a supervisor. The same one keeps its timekeeper and its sessions.

    parse: a definition out of its text. open_intake: see session.
    """

    name = "triggers"

    def __init__(
        self,
        *,
        site: str,
        instance: str,
        repository: Repository,
        parse: Callable[[str], Definition],
        runs: Starter,
        timekeeper: Timekeeper,
        sessions: Sessions,
        open_intake: OpenIntake,
        supervisor: Supervisor,
        bus: Bus,
        hub: Hub,
        tags: Tags,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._site = site
        self._instance = instance
        self._repository = repository
        self._parse = parse
        self._runs = runs
        self._timekeeper = timekeeper
        self._sessions = sessions
        self._open_intake = open_intake
        self._supervisor = supervisor
        self._bus = bus
        self._hub = hub
        self._tags = tags
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._sets: dict[Name, _Set] = {}
        self._changed: set[Name] = set()
        self._news = asyncio.Event()
        self._followed = asyncio.Event()
        repository.on_change(self._on_change)
        supervisor.keep(timekeeper.name, timekeeper.run)

    async def run(self) -> None:
        """Follows the repository until cancelled; then nothing is started any more."""
        self._changed |= {version.name for version in self._repository.all()} | self._sets.keys()
        try:
            while True:
                self._news.clear()
                await self._follow()
                if self._changed:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(AGAIN_S):
                            await self._news.wait()
                else:
                    self._followed.set()
                    await self._news.wait()
        finally:
            for name in tuple(self._sets):
                await self._close(name, forget=False)

    async def settled(self) -> None:
        """Returns once all that is saved now is followed; the caller sets the deadline."""
        await self._followed.wait()
        for one in tuple(self._sets.values()):
            for session in one.sessions:
                await session.listening.wait()
        await self._bus.settled()

    def _on_change(self, version: Version) -> None:
        self._changed.add(version.name)
        self._followed.clear()
        self._news.set()

    async def _follow(self) -> None:
        """Brings the triggers of what has changed up to date; what fails stays to be done."""
        for name in tuple(self._changed):
            self._changed.discard(name)
            try:
                await self._renew(name)
            except (sqlite3.Error, DatabaseError) as error:
                self._log.error("triggers_not_kept", pipeline=name[1], error=str(error))
                self._changed.add(name)
        wanted = {session.name for one in self._sets.values() for session in one.sessions}
        try:
            await self._sessions.end_others(wanted)
        except (sqlite3.Error, DatabaseError) as error:
            self._log.error("sessions_not_ended", error=str(error))

    async def _renew(self, name: Name) -> None:
        definition = self._definition(name)
        what: tuple[object, ...] = ()
        if definition is not None and definition.enabled and definition.triggers:
            what = (definition.limits.runs, *definition.triggers)
        known = self._sets.get(name)
        if (known.what if known else ()) == what:
            return
        if known is not None:
            await self._close(name, forget=True, keep=self._schedules(name, definition) if what else ())
        if what and definition is not None:
            made = self._sets[name] = _Set(what)
            for trigger in definition.triggers:
                await self._make(name, trigger, definition.limits.runs, made)

    def _definition(self, name: Name) -> Definition | None:
        try:
            version = self._repository.live(*name)
        except UnknownPipeline:
            return None
        try:
            return self._parse(version.text or "")
        except ValueError as error:
            self._log.error("triggers_unusable", pipeline=name[1], version=version.version, error=str(error))
            return None

    async def _make(self, name: Name, trigger: Trigger, most: int, made: _Set) -> None:
        if isinstance(trigger, form.EveryTrigger | form.CronTrigger):
            await self._watch_clock(name, trigger, most, made)
        elif isinstance(trigger, FrameTrigger | TagTrigger) and trigger.deliver == "every":
            await self._open_session(name, trigger, made)
        else:
            room = WAITING_EVENTS if isinstance(trigger, form.EventTrigger) else 1
            lane = self._lane(name, trigger, most=most, room=room)
            listener = self._listener(trigger, lane)
            made.ends += [listener.close, lane.close]

    def _listener(
        self, trigger: FrameTrigger | TagTrigger | form.EventTrigger, lane: Lane
    ) -> FrameListener | TagListener | EventListener:
        if isinstance(trigger, FrameTrigger):
            return FrameListener(trigger.frame, hub=self._hub, fire=lane.offer)
        if isinstance(trigger, form.EventTrigger):
            return EventListener(trigger.event, hub=self._hub, fire=lane.offer)
        gate = TagGate(deadband=trigger.deadband, debounce_s=trigger.debounce)
        return TagListener(trigger.tag, gate, tags=self._tags, clock=self._clock, fire=lane.offer)

    async def _watch_clock(
        self, name: Name, trigger: form.EveryTrigger | form.CronTrigger, most: int, made: _Set
    ) -> None:
        try:
            schedule = schedule_of(trigger)
        except ScheduleError as error:
            self._log.error("trigger_unusable", pipeline=name[1], error=str(error))
            return
        kind: Literal["every", "cron"] = "every"
        missed: Missed = "skip"
        by = f"{trigger.every:g} s" if isinstance(trigger, form.EveryTrigger) else trigger.cron
        if isinstance(trigger, form.CronTrigger):
            kind, missed = "cron", trigger.missed
        # An interval that its own run outlasts leaves out due times; a time of the calendar waits.
        lane = self._lane(name, trigger, most=most, room=1 if kind == "cron" else 0)
        key = _key(name, trigger)

        def fire(due_us: int) -> None:
            """One due time, in microseconds since 1970 UTC."""
            lane.offer(Firing(trigger=RunTrigger(kind=kind, by=by, t=due_us)))

        await self._timekeeper.add(key, schedule, missed=missed, fire=fire)
        made.schedules.append(key)
        made.ends.append(lane.close)

    async def _open_session(self, name: Name, trigger: FrameTrigger | TagTrigger, made: _Set) -> None:
        client = client_id(self._instance, *name, trigger)
        if any(session.name == client for session in made.sessions):
            return  # the pipeline has the same trigger twice
        begun_us = await self._sessions.begun(client)
        source: FrameSource | TagSource
        if isinstance(trigger, FrameTrigger):
            source = FrameSource(path=trigger.frame, site=self._site, begun_us=begun_us, seen=Seen())
        else:
            gate = TagGate(deadband=trigger.deadband, debounce_s=0.0)
            source = TagSource(path=trigger.tag, site=self._site, gate=gate)
        session = SessionTrigger(
            client=client,
            source=source,
            open_intake=self._open_intake,
            start=partial(self._start, name, trigger.inputs),
            pipeline=name[1],
            metrics=self._metrics,
            log=self._log,
        )
        self._supervisor.keep(client, session.run)
        made.sessions.append(session)
        made.ends.append(partial(self._supervisor.drop, client))

    def _lane(self, name: Name, trigger: Trigger, *, most: int, room: int) -> Lane:
        return Lane(
            pipeline=name[1],
            kind=type(trigger).__name__.removesuffix("Trigger").lower(),
            start=partial(self._start, name, trigger.inputs),
            most=most,
            room=room,
            metrics=self._metrics,
            log=self._log,
        )

    def _start(self, name: Name, inputs: Constants, firing: Firing) -> Ongoing:
        order = RunOrder(scope=name[0], pipeline=name[1], trigger=firing.trigger, inputs=inputs, values=firing.known)
        return self._runs.start(order)

    def _schedules(self, name: Name, definition: Definition | None) -> set[str]:
        triggers = definition.triggers if definition else ()
        return {_key(name, one) for one in triggers if isinstance(one, form.EveryTrigger | form.CronTrigger)}

    async def _close(self, name: Name, *, forget: bool, keep: set[str] | tuple[str, ...] = ()) -> None:
        """Ends the pipeline's triggers. forget: for good, but for the schedules in `keep`."""
        closed = self._sets.pop(name)
        for key in closed.schedules:
            await self._timekeeper.remove(key, forget=forget and key not in keep)
        for end in closed.ends:
            await end()


def schedule_of(trigger: form.EveryTrigger | form.CronTrigger) -> Schedule:
    """When it is due. Raises ScheduleError."""
    if isinstance(trigger, form.EveryTrigger):
        return Interval.of(trigger.every)
    return Cron.of(trigger.cron, trigger.zone)


def _key(name: Name, trigger: form.EveryTrigger | form.CronTrigger) -> str:
    """Tells it from all others, whatever else of the pipeline changes."""
    when = trigger.cron + f" {trigger.zone}" if isinstance(trigger, form.CronTrigger) else f"every {trigger.every:g} s"
    return f"{name[0]}/{name[1]} {when}"
