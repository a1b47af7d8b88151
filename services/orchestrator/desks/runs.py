"""Where commands that concern runs are answered: run, cancel, get, replay, and how a shadow does."""

from contracts.v1.pipeline import DIFF_PIPELINE, RUN_PIPELINE, DiffPipeline, PipelineDiff, RunAccepted
from contracts.v1.pipeline import RunPipeline as RunPipelineCommand
from contracts.v1.run import CANCEL_RUN, GET_RUN, REPLAY_RUN, ReplayResult, RunState, RunTrigger
from contracts.v1.run import CancelRun as CancelRunCommand
from contracts.v1.run import GetRun as GetRunCommand
from contracts.v1.run import ReplayRun as ReplayRunCommand
from plugins.api.clock import Clock
from services.orchestrator.desks.desk import answered, timely
from services.orchestrator.engine.execution import Execution
from services.orchestrator.past.retrospect import CompareShadow, ReplayRun
from services.orchestrator.use_cases import CancelRun, GetRun, RunOrder, RunPipeline
from services.runtime.bus.bus import Bus, CommandFailed, Delivery
from services.runtime.commands.book import CommandBook
from services.runtime.desk import Desk
from services.runtime.settings import Limits

AT_ONCE = 500
"""Commands that wait for the end of a run at the same time; each costs no more than its waiting."""


class RunDesk(Desk):
    """Takes commands from its making on."""

    name = "desk"

    def __init__(
        self,
        *,
        bus: Bus,
        book: CommandBook,
        run_pipeline: RunPipeline,
        cancel_run: CancelRun,
        get_run: GetRun,
        replay_run: ReplayRun,
        compare_shadow: CompareShadow,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._run_pipeline = run_pipeline
        self._cancel_run = cancel_run
        self._get_run = get_run
        self._replay_run = replay_run
        self._compare_shadow = compare_shadow
        super().__init__()
        serve = bus.serve
        self.services = (
            serve(RUN_PIPELINE, timely(self._start, clock=clock), book=book, at_once=AT_ONCE),
            serve(CANCEL_RUN, self._cancel),  # in no book: what is under way can be ended while the disk takes nothing
            serve(GET_RUN, self._get, anew=True),
            serve(REPLAY_RUN, self._replay),
            serve(DIFF_PIPELINE, self._diff, anew=True, rate=limits.reads),
        )

    async def _start(self, command: Delivery[RunPipelineCommand]) -> RunAccepted:
        levels = command.levels
        with answered():
            execution = self._run_pipeline.start(
                RunOrder(
                    scope=levels["scope"],
                    pipeline=levels["id"],
                    trigger=RunTrigger(kind="command", by=levels["user"]),
                    inputs=command.payload.inputs,
                    user=levels["user"],
                )
            )
        if command.payload.wait:
            await execution.over.wait()
            return _ended(execution)
        place = execution.place
        return RunAccepted(
            run=execution.identifier,
            state=execution.run.status,
            position=place.position if place else None,
            expected_wait_s=place.expected_wait_s if place else None,
        )

    async def _cancel(self, command: Delivery[CancelRunCommand]) -> RunState:
        levels = command.levels
        with answered():
            return self._cancel_run.cancel(
                levels["scope"], levels["id"], user=levels["user"], reason=command.payload.reason
            )

    async def _get(self, command: Delivery[GetRunCommand]) -> RunState:
        with answered():
            return await self._get_run.get(command.levels["scope"], command.levels["id"])

    async def _replay(self, command: Delivery[ReplayRunCommand]) -> ReplayResult:
        with answered():
            return await self._replay_run.replay(command.levels["scope"], command.levels["id"])

    async def _diff(self, command: Delivery[DiffPipeline]) -> PipelineDiff:
        with answered():
            return self._compare_shadow.diff(command.levels["scope"], command.levels["id"])


def _ended(execution: Execution) -> RunAccepted:
    """Of a run that was waited for. Raises CommandFailed: it failed, or was cancelled."""
    run = execution.run
    if run.error is not None:
        detail = {**run.error.detail, "run": execution.identifier}
        raise CommandFailed(run.error.code, run.error.message, detail=detail)
    return RunAccepted(run=execution.identifier, state=run.status, outputs=run.outputs)
