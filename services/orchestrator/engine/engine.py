"""The engine: takes runs on, begins them as there is room, cancels them, and sees them all to their ends."""

import asyncio
from contextlib import suppress
from itertools import islice
from random import Random

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.run import RunStatus
from services.orchestrator.engine.execution import Execution
from services.orchestrator.engine.workplace import Workplace
from services.orchestrator.errors import Draining, InvalidInputs, NotFound
from services.orchestrator.run.carried import NotCarried, carried_bytes
from services.orchestrator.run.queue import RunQueue
from services.orchestrator.run.request import RunRequest
from services.runtime.identifier import uuid7
from services.runtime.logs import Log
from services.runtime.metrics import Metrics

DRAIN_S = 30.0
LINE_S = 1.0
"""How often it is shown, at most, that the line has moved on."""
LINE_SHOWN = 100
"""Runs that are shown so, from the line's head; those behind know their place when they came."""
_STOPPING = "the orchestrator is being stopped"


class Engine:
    """A Part. queue: its places. shadows: those of shadow runs, apart from the live ones, which they must not hold up.

    drain_s: how long a stop waits for runs that have begun.
    """

    name = "engine"

    def __init__(
        self,
        *,
        queue: RunQueue,
        shadows: RunQueue,
        use: Workplace,
        metrics: Metrics,
        log: Log,
        random: Random,
        drain_s: float = DRAIN_S,
    ) -> None:
        self._queue = queue
        self._shadows = shadows
        self._use = use
        self._metrics = metrics
        self._log = log
        self._random = random
        self._drain_s = drain_s
        self._active: dict[str, Execution] = {}
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._moved: asyncio.TimerHandle | None = None
        metrics.active_pipelines.set_function(lambda: float(self.running))
        metrics.runs_queued.set_function(lambda: float(self.queued))

    @property
    def running(self) -> int:
        """Runs that have begun and not ended."""
        return sum(1 for execution in tuple(self._active.values()) if execution.run.status is RunStatus.RUNNING)

    @property
    def queued(self) -> int:
        """Runs that wait."""
        return len(self._queue) + len(self._shadows)

    def check_open(self) -> None:
        """Raises Draining: nothing is begun any more."""
        if self._stopping.is_set():
            raise Draining(f"{_STOPPING}; ask again in a minute")

    def accept(self, request: RunRequest) -> Execution:
        """The run, begun or in line. Raises InvalidInputs, TooManyPipelines, Draining.

        One that is a node of another run shares that one's place, and waits for one of its pipeline alone.
        """
        if request.parent is None:
            self.check_open()
        plan, queue = request.plan, self._queue_of(request)
        try:
            size = carried_bytes({"inputs": request.inputs, "trigger": request.values})
        except NotCarried as error:
            raise InvalidInputs(f"{plan.pipeline}: its inputs, or values of its trigger, are {error}") from None
        identifier = f"r{uuid7(self._use.clock.now_us(), self._random).hex}"
        pipeline = plan.scope, plan.pipeline
        if request.parent is None:
            most_queued = plan.most_queued
            at_once = queue.offer(identifier, pipeline, most_runs=plan.most_runs, most_queued=most_queued, size=size)
        else:
            at_once = queue.offer_inner(identifier, pipeline, most_runs=plan.most_runs, size=size)
        execution = Execution(request, identifier, use=self._use, place=queue.place, ended=self._on_end)
        self._active[identifier] = execution
        self._idle.clear()
        if at_once:
            execution.begin()
        else:
            execution.queue()
        return execution

    def find(self, scope: str, run: str) -> Execution | None:
        """The run, if it is not over."""
        execution = self._active.get(run)
        return execution if execution is not None and execution.request.plan.scope == scope else None

    def cancel(self, scope: str, run: str, *, reason: str) -> Execution:
        """Ends the run, and those that are its nodes. Raises NotFound: there is none, or it is over."""
        execution = self.find(scope, run)
        if execution is None:
            raise NotFound(f"no run {run!r} is under way in {scope!r}")
        self._cancel(execution, reason)
        return execution

    async def run(self) -> None:
        """Until stop(), and then until every run is over."""
        await self._stopping.wait()
        for identifier in (*self._queue.waiting(), *self._shadows.waiting()):
            self._cut_short(self._active[identifier])
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._idle.wait()
        if self._active:
            self._log.warning("runs_cancelled", runs=len(self._active), drain_s=self._drain_s)
        for execution in tuple(self._active.values()):
            self._cut_short(execution)
        if self._moved is not None:
            self._moved.cancel()
        await self._use.crew.end()

    async def stop(self) -> None:
        """Begins nothing new; what waits is cancelled, what runs has drain_s."""
        self._stopping.set()

    def _cut_short(self, execution: Execution) -> None:
        execution.cut_short = not execution.run.over
        self._cancel(execution, _STOPPING)

    def _cancel(self, execution: Execution, reason: str) -> None:
        execution.end(RunStatus.CANCELLED, Failure(code=ErrorCode.CANCELLED, message=reason))

    def _on_end(self, execution: Execution) -> None:
        """Called by the execution, in the midst of whatever ended it: what may begin now has its turn after that."""
        del self._active[execution.identifier]
        queue = self._queue_of(execution.request)
        queue.leave(execution.identifier, seconds=execution.seconds)
        self._count(execution)
        if len(queue):
            loop = asyncio.get_running_loop()
            loop.call_soon(self._fill, queue)
            self._moved = self._moved or loop.call_later(LINE_S, self._show_line)
        if not self._active:
            self._idle.set()

    def _count(self, execution: Execution) -> None:
        """Shadow runs are not counted: what goes wrong in them concerns no machine."""
        plan, status = execution.request.plan, execution.run.status.value
        if not execution.request.shadow:
            self._metrics.count_run(plan.scope, plan.pipeline, status, execution.seconds)

    def _queue_of(self, request: RunRequest) -> RunQueue:
        return self._shadows if request.shadow else self._queue

    def _show_line(self) -> None:
        self._moved = None
        for run in islice(self._queue.waiting(), LINE_SHOWN):
            self._use.board.show(self._active[run])

    def _fill(self, queue: RunQueue) -> None:
        """Begins the run that is next, if there is room; others have their turn before the one after it."""
        run = queue.next()
        if run is not None:
            asyncio.get_running_loop().call_soon(self._fill, queue)
            self._active[run].begin()
