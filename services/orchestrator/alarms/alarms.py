"""The alarms of all pipelines: evaluated by their runs, acknowledged and shelved by people, kept on disk."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import JsonValue

from contracts.v1.alarm import ALARM, Alarm
from contracts.v1.node import AlarmNode
from plugins.api.clock import Clock
from services.orchestrator.alarms import alarm
from services.orchestrator.alarms.alarm import AlarmRefused, Condition, Signal, Step
from services.orchestrator.alarms.notice import alarm_data, alarm_message, shown
from services.orchestrator.alarms.store import AlarmSpec, AlarmStore, KeptAlarm
from services.orchestrator.run.plan import Plan
from services.runtime.bus.bus import Bus
from services.runtime.event_log import EventLog
from services.runtime.logs import Log
from services.runtime.sqlite_file import DatabaseError

ALARM_AGGREGATE = "alarm"
AGAIN_S = 1.0
"""How soon the disk is tried again after it has refused an alarm."""
LOOK_S = 1.0
"""The longest wait for what is due by the clock, which may be set."""

Key = tuple[str, str, str]


class UnknownAlarm(Exception):
    """There is no such alarm in the workspace."""


@dataclass(slots=True)
class _Entry:
    """orphan: no pipeline evaluates it any more; it goes once there is nothing to acknowledge."""

    kept: KeptAlarm
    orphan: bool = False


@dataclass(frozen=True, slots=True)
class _Happening:
    spec: AlarmSpec
    type: str
    user: str | None
    data: dict[str, JsonValue]


class Alarms:
    """A Part. What it tells of an alarm is on disk before; where the disk refuses, it is told all the same.

    open() comes before run().
    """

    name = "alarms"

    def __init__(self, *, bus: Bus, events: EventLog, store: AlarmStore, clock: Clock, log: Log) -> None:
        self._bus = bus
        self._events = events
        self._store = store
        self._clock = clock
        self._log = log
        self._entries: dict[Key, _Entry] = {}
        self._followed: dict[tuple[str, str], frozenset[str]] = {}
        self._unkept: set[Key] = set()
        self._gone: dict[Key, AlarmSpec] = {}
        self._happened: deque[_Happening] = deque()
        self._waiting: list[asyncio.Future[None]] = []
        self._news = asyncio.Event()
        self._stopping = False

    async def open(self) -> None:
        """Brings back what was kept. Raises sqlite3.Error, DatabaseError."""
        for kept in await self._store.all():
            self._entries[kept.spec.key] = _Entry(kept)
            self._publish(kept.spec.key)

    def observe(self, plan: Plan, node: AlarmNode, *, raised: bool, cleared: bool, value: JsonValue) -> bool:
        """A run of this pipeline has evaluated the node's conditions. Whether the alarm is raised now. Never waits.

        raised: the one that raises it holds; cleared: the one that clears it. value: is shown with the alarm if it is
        raised by this, unless it is something that no tag can hold. A run of another version than the live one raises
        no alarm that the live one has not: nothing would ever clear it.
        """
        if node.alarm not in self._followed.get((plan.scope, plan.pipeline), {node.alarm}):
            return False
        spec = AlarmSpec(
            scope=plan.scope,
            source=plan.pipeline,
            alarm=node.alarm,
            priority=node.priority,
            text=node.text,
            title=node.title or None,
            limit=node.limit,
            delay_ms=round(node.delay * 1000),
        )
        signal = Signal.RAISE if raised else Signal.CLEAR if cleared else Signal.HOLD
        entry = self._entry(spec)
        if raised and not entry.kept.condition.active:
            entry.kept = replace(entry.kept, value=shown(value))
        now = self._now_ms()
        self._take(entry, alarm.report(entry.kept.condition, signal, t=now, delay_ms=spec.delay_ms))
        return entry.kept.condition.active

    def follow(self, scope: str, source: str, alarms: Collection[str]) -> None:
        """The pipeline has these alarms from now on, and no others: what it had besides clears."""
        self._followed[scope, source] = frozenset(alarms)
        for key, entry in list(self._entries.items()):
            if key[:2] == (scope, source) and key[2] not in alarms:
                entry.orphan = True
                self._note(key)
                self._take(entry, alarm.report(entry.kept.condition, Signal.CLEAR, t=self._now_ms(), delay_ms=0))

    def all(self) -> list[Alarm]:
        """Every alarm, as its topic has it."""
        return [alarm_message(entry.kept) for entry in self._entries.values()]

    async def run(self) -> None:
        """Tells what happens, and what time brings, until stop()."""
        while not (self._stopping and not self._news.is_set()):
            self._news.clear()
            self._tick()
            kept = await self._flush()
            if not self._news.is_set() and not self._stopping:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._wait_s() if kept else AGAIN_S):
                        await self._news.wait()

    async def stop(self) -> None:
        """Ends run() once everything is kept and told."""
        self._stopping = True
        self._news.set()

    async def change(
        self, scope: str, name: str, step: Callable[[Condition], Step], *, user: str, comment: str
    ) -> Alarm:
        """What a person does with an alarm: with all pipelines' of this name in the workspace, where it can be done.

        Returns once that is kept. comment: for the event. Raises UnknownAlarm, AlarmRefused.
        """
        entries = [entry for key, entry in self._entries.items() if (key[0], key[2]) == (scope, name)]
        if not entries:
            raise UnknownAlarm(f"no alarm {name!r} has been evaluated in {scope!r}")
        changed, refusal = [], AlarmRefused()
        for entry in entries:
            try:
                taken = step(entry.kept.condition)
            except AlarmRefused as error:
                refusal = error
            else:
                self._take(entry, taken, user=user, comment=comment)
                changed.append(entry)
        if not changed:
            raise refusal
        answer = alarm_message(changed[0].kept)
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(kept)
        self._news.set()
        await kept
        return answer

    def _entry(self, spec: AlarmSpec) -> _Entry:
        """The alarm as it is defined now."""
        entry = self._entries.get(spec.key)
        if entry is None:
            kept = KeptAlarm(spec=spec, condition=Condition(since=self._now_ms()))
            entry = self._entries[spec.key] = _Entry(kept)
            self._note(spec.key)
        if entry.kept.spec != spec:
            entry.kept = replace(entry.kept, spec=spec)
            self._note(spec.key)
        entry.orphan = False
        return entry

    def _take(self, entry: _Entry, step: Step, *, user: str | None = None, comment: str = "") -> None:
        condition, types = step
        if condition != entry.kept.condition:
            entry.kept = replace(entry.kept, condition=condition)
            self._note(entry.kept.spec.key)
        for type_ in types:
            self._happened.append(_Happening(entry.kept.spec, type_, user, alarm_data(entry.kept, comment)))

    def _note(self, key: Key) -> None:
        self._unkept.add(key)
        self._news.set()

    def _tick(self) -> None:
        now = self._now_ms()
        for entry in list(self._entries.values()):
            self._take(entry, alarm.tick(entry.kept.condition, t=now))

    async def _flush(self) -> bool:
        """Keeps what has changed, then tells it. Whether all of it could be kept."""
        keys, self._unkept = self._unkept, set()
        happened, self._happened = self._happened, deque()
        waiting, self._waiting = self._waiting, []
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and entry.orphan and entry.kept.condition.at_rest:
                self._gone[key] = self._entries.pop(key).kept.spec
        kept = await self._keep(keys) if keys or self._gone else True
        for key in keys:
            self._publish(key)
        self._tell(happened)
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return kept

    async def _keep(self, keys: Collection[Key]) -> bool:
        gone, self._gone = self._gone, {}
        try:
            await self._store.keep(
                [self._entries[key].kept for key in keys if key in self._entries], gone=gone.values()
            )
        except (sqlite3.Error, DatabaseError) as error:
            self._log.error("alarms_not_kept", alarms=len(keys), error=str(error))
            self._unkept |= {key for key in keys if key in self._entries}
            self._gone = gone | self._gone
            return False
        return True

    def _publish(self, key: Key) -> None:
        scope, source, name = key
        entry = self._entries.get(key)
        self._bus.retain(ALARM, alarm_message(entry.kept) if entry else None, scope=scope, source=source, alarm=name)

    def _tell(self, happened: Iterable[_Happening]) -> None:
        for one in happened:
            self._events.tell(
                f"{ALARM_AGGREGATE}.{one.type}",
                aggregate=ALARM_AGGREGATE,
                id=one.spec.alarm,
                scope=one.spec.scope,
                user=one.user,
                data=one.data,
            )

    def _wait_s(self) -> float:
        times = (entry.kept.condition.next_ms for entry in self._entries.values())
        due = min((t for t in times if t is not None), default=None)
        return LOOK_S if due is None else max(0.0, min(LOOK_S, (due - self._now_ms()) / 1000))

    def _now_ms(self) -> int:
        return self._clock.now_us() // 1000
