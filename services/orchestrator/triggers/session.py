"""Triggers that miss nothing: each has a session at the broker that outlives the process.

A message is acknowledged once its run is over and how far the trigger has come is on disk. What a stop or a kill leaves
comes again and is run again, with one exception: a run that may have acted on the plant and had begun is not repeated,
but told. Each session is its own, so that a pipeline that cannot keep up holds back nothing but itself.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from contracts.codec import ContractError
from contracts.v1.command import ErrorCode, Failure
from services.orchestrator.errors import Draining, NodeFailed, OrchestratorError, TooManyPipelines
from services.orchestrator.triggers.begun import BegunRuns
from services.orchestrator.triggers.notice import NOT_REPEATED, REFUSED, TriggerNotice
from services.orchestrator.triggers.outcomes import Outcomes
from services.orchestrator.triggers.progress import AGAIN_S, Progress
from services.orchestrator.triggers.sources import FrameSource, TagSource
from services.orchestrator.triggers.trigger import Firing
from services.runtime.commands.book import BookError
from services.runtime.intake import Intake, IntakeBatch, IntakeClosed, IntakeMessage
from services.runtime.metrics import Metrics
from services.runtime.sqlite_file import DatabaseError

AHEAD = 50
"""Messages that may be here unacknowledged; the others wait at the broker."""
LOOK_S = 0.1
"""How soon a run is asked for again when every place was taken."""
CONNECT_S = 5.0

OpenIntake = Callable[[str, Sequence[str]], Intake]
"""An intake under this client id, of these filters."""


class Accepted(Protocol):
    """A run that was begun or is in line; see execution.Execution."""

    over: asyncio.Event
    cut_short: bool

    def when_over(self, call: Callable[[Any], None]) -> None:
        """See execution.Execution."""
        ...


@dataclass(slots=True)
class _Case:
    """A message that is being dealt with. firing: what it fires; None if nothing, or no more.

    batches: as it came, and came again after the connection was lost.
    """

    name: str
    firing: Firing | None
    batches: list[IntakeBatch] = field(default_factory=list)
    run: Accepted | None = None


class SessionTrigger:
    """One trigger with `deliver: every`. Kept running by a supervisor, which ends it by cancellation.

    start: begins a run; raises OrchestratorError. repeats: whether a run that had begun may be begun again. notes: that
    runs begin, if they may not. kept: what progress has of it. before: had the session until now, and runs in it that
    may still go on. beside: runs beside it.
    """

    def __init__(
        self,
        *,
        client: str,
        source: FrameSource | TagSource,
        open_intake: OpenIntake,
        start: Callable[[Firing], Accepted],
        repeats: bool,
        progress: Progress,
        notes: BegunRuns,
        kept: Mapping[str, Any],
        before: "SessionTrigger | None",
        notice: TriggerNotice,
        beside: Callable[[], Coroutine[Any, Any, None]] | None,
        workspace: str,
        pipeline: str,
        metrics: Metrics,
    ) -> None:
        self.name = client
        self.listening = asyncio.Event()
        """Set once the session stands at the broker: what comes from now on is not missed."""
        self._source = source
        self._open = open_intake
        self._start = start
        self._repeats = repeats
        self._progress = progress
        self._notes = notes
        self._notice = notice
        self._beside = beside
        self._begun: set[str] = set()
        self._cases: dict[str, _Case] = {}
        self._over: list[_Case] = []
        self._noted: list[str] = []
        self._news = asyncio.Event()
        self._starting: str | None = None
        self._outcomes = Outcomes(workspace, pipeline, "every", metrics=metrics, expected=("started", "held"))
        self._heir: SessionTrigger | None = None
        self._gone = False
        self._take_over(before.hand_over(self) if before is not None else {}, set(kept.get("begun", ())))

    def _take_over(self, under_way: Mapping[str, Accepted], begun: AbstractSet[str]) -> None:
        """under_way: runs of the trigger before, by message. begun: messages whose runs have, says progress."""
        ended, left = self._notes.take_ended(self.name), self._notes.take_left(self.name)
        over = {name for name in begun - left if self._notes.is_over(self.name, name)}
        self._begun.update(begun & under_way.keys())
        for name, run in under_way.items():
            self._follow(_Case(name, None, run=run))
        gone = (begun | left) - under_way.keys()  # they are not repeated
        for name in sorted(gone - over):
            self._notice.tell(NOT_REPEATED, name)
        for name in (*ended, *sorted(gone)):  # the notes know it for a short time, and it may come again much later
            self._source.done(name)
        if ended or gone:
            self._progress.put(self.name, self.state)

    @property
    def latest(self) -> "SessionTrigger":
        """Who looks after its runs now."""
        return self if self._heir is None else self._heir.latest

    def hand_over(self, heir: "SessionTrigger") -> Mapping[str, Accepted]:
        """It has been ended, and another is in its place: gives the runs that go on, by message."""
        self._heir = heir
        return {case.name: case.run for case in self._cases.values() if case.run and not case.run.over.is_set()}

    def give_up(self) -> None:
        """It has been ended, and its session is no more: nothing of it is remembered."""
        self._gone = True

    async def run(self) -> None:
        """Deals with message after message."""
        intake = self._open(self.name, self._source.filters)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(intake.run(), name=f"{self.name}.intake")
            tasks.create_task(self._consume(intake), name=f"{self.name}.consumer")
            tasks.create_task(self._settle(), name=f"{self.name}.settler")
            if self._beside is not None:
                tasks.create_task(self._beside(), name=f"{self.name}.beside")

    async def _consume(self, intake: Intake) -> None:
        while not self.listening.is_set():
            with suppress(TimeoutError):
                await intake.wait_connected(CONNECT_S)
                self.listening.set()
        while True:
            try:
                batch = await intake.batch(most=1)
            except IntakeClosed:
                return
            for message in batch.messages:
                await self._take(message, batch)

    async def _take(self, message: IntakeMessage, batch: IntakeBatch) -> None:
        """Returns once its run was accepted, however long that takes, or there will be none."""
        try:
            name = self._source.name(message.topic, message.payload)
            firing = self._source.firing(message.topic, message.payload)
        except ContractError as error:
            self._notice.tell(REFUSED, message.topic, error=str(error))
            batch.ack()
            return
        if self._source.is_done(name) or self._notes.is_over(self.name, name):
            self._is_over(_Case(name, None, [batch]))
            return
        case = self._cases.setdefault(name, _Case(name, firing))
        case.batches.append(batch)
        if case.run is None and case.firing is None and len(case.batches) == 1:
            self._is_over(case)
        elif case.run is None and case.firing is not None:
            await self._begin(case, case.firing)

    async def _begin(self, case: _Case, firing: Firing) -> None:
        if not self._repeats:
            firing = replace(firing, note=partial(self.note, case.name))
        held = False
        while not self._has_begun(case, firing):
            self._outcomes.count("held", by=not held)
            held = True
            await self._some_over()

    def _has_begun(self, case: _Case, firing: Firing) -> bool:
        """False while there is no room for the run; true once there is one, or never will be."""
        if self._starting == case.name:
            refusal = "its start crashed; the orchestrator's log says where"
        else:
            self._starting = case.name
            try:
                case.run = self._start(firing)
            except (TooManyPipelines, Draining):
                self._starting = None
                return False
            except OrchestratorError as error:
                refusal = str(error)
        self._starting = None
        if case.run is None:
            self._notice.tell(REFUSED, case.name, error=refusal)
            case.firing = None
            self._is_over(case)
        else:
            self._outcomes.count("started")
            self._follow(case)
        return True

    def _follow(self, case: _Case) -> None:
        self._cases[case.name] = case
        if case.run is not None:
            case.run.when_over(lambda _: self._on_over(case))

    async def _some_over(self) -> None:
        """Returns when the oldest of its runs is over, or after a moment: others may hold the places."""
        oldest = next((case.run for case in self._cases.values() if case.run and not case.run.over.is_set()), None)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await (oldest.over.wait() if oldest else asyncio.sleep(LOOK_S))

    def _on_over(self, case: _Case) -> None:
        if case.run is None or case.run.cut_short or self._heir is not None:
            return
        if self._gone:
            self._notes.over(self.name, case.name)
        else:
            self._is_over(case)

    def _is_over(self, case: _Case) -> None:
        self._begun.discard(case.name)
        self._notes.over(self.name, case.name)
        self._source.done(case.name)
        self._progress.put(self.name, self.state)
        self._over.append(case)
        self._news.set()
        if len(self._over) >= AHEAD // 2:
            self._progress.hurry()

    async def note(self, name: str) -> None:
        """The run for this message begins, and will not be begun again. Raises NodeFailed."""
        if self._heir is not None:
            await self._heir.note(name)
        elif not self._gone:
            await self._keep_begun(name)

    async def _keep_begun(self, name: str) -> None:
        self._begun.add(name)
        self._progress.put(self.name, self.state)
        try:
            await self._notes.begin(self.name, name)
        except BookError as error:
            message = f"that it begins could not be written down: {error}"
            raise NodeFailed(Failure(code=ErrorCode.INTERNAL, message=message)) from error
        if name not in self._begun:
            self._notes.over(self.name, name)  # it was cancelled meanwhile
        self._noted.append(name)
        self._news.set()

    async def _settle(self) -> None:
        """Acknowledges what is over, once that is on disk, and lets go of notes of what has begun."""
        while True:
            await self._news.wait()
            self._news.clear()
            over, noted = tuple(self._over), tuple(self._noted)
            try:
                await self._progress.written()
            except (sqlite3.Error, DatabaseError):  # which progress tells
                self._news.set()
                await asyncio.sleep(AGAIN_S)
                continue
            del self._over[: len(over)], self._noted[: len(noted)]
            for name in noted:
                self._notes.kept(self.name, name)
            for case in over:
                self._cases.pop(case.name, None)
                for batch in case.batches:
                    batch.ack()

    @property
    def state(self) -> str:
        """What progress keeps of it."""
        state = {"source": self._source.state(), "begun": sorted(self._begun)}
        return json.dumps(state, separators=(",", ":"))
