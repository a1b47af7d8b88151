"""Looking back at runs: one gone through again, and shadows compared with what they are the shadow of."""

import asyncio

from contracts.v1.pipeline import PipelineDiff
from contracts.v1.run import ReplayResult
from services.orchestrator.engine.execution import Execution
from services.orchestrator.engine.tapes import Tapes
from services.orchestrator.errors import NotFound
from services.orchestrator.past.comparison import Comparisons, Course
from services.orchestrator.past.recorded import RecordedRuns
from services.orchestrator.pipelines.plans import Plans
from services.orchestrator.run.replay import replayed


class ReplayRun:
    """Goes through runs again, without sending anything to anybody. recorded: has those that tapes no longer holds."""

    def __init__(self, *, tapes: Tapes, recorded: RecordedRuns, plans: Plans) -> None:
        self._tapes = tapes
        self._recorded = recorded
        self._plans = plans

    async def replay(self, scope: str, run: str) -> ReplayResult:
        """Whether the run comes out the same. Raises NotFound, Unavailable, Unusable, BusError."""
        events = self._tapes.events((scope, run))
        if events is None:
            events = [(event.type, event.data) for event in await self._recorded.events(scope, run)]
        started = next((data for type_, data in events if type_ == "run.started"), None)
        if started is None:
            return ReplayResult(run=run, same=True, events=len(events))
        plan = await self._plans.version(scope, started["pipeline"], started["version"])
        found = await asyncio.to_thread(replayed, plan, events)
        return ReplayResult(run=run, same=not found, events=len(events), differences=found)


class CompareShadow:
    """Keeps what shadows would have done otherwise."""

    def __init__(self, *, tapes: Tapes, plans: Plans) -> None:
        self._tapes = tapes
        self._plans = plans
        self._comparisons = Comparisons()

    def ended(self, live: Execution, shadow: Execution) -> None:
        """Both are over."""
        one, other = self._course(live), self._course(shadow)
        if one is not None and other is not None:
            self._comparisons.add(one, other)

    def diff(self, scope: str, pipeline: str) -> PipelineDiff:
        """What the shadow that there is now would have done otherwise. Raises NotFound, Unusable."""
        live, shadow = self._plans.live(scope, pipeline), self._plans.shadow(scope, pipeline)
        if shadow is None:
            raise NotFound(f"{pipeline!r} has no version in shadow; save one with `shadow`")
        comparison = self._comparisons.get((scope, pipeline), live.version, shadow.version)
        return PipelineDiff(
            pipeline=pipeline,
            version=live.version,
            shadow=shadow.version,
            runs=comparison.runs,
            differences=list(comparison.differences),
            more=comparison.more,
        )

    def _course(self, execution: Execution) -> Course | None:
        plan = execution.request.plan
        events = self._tapes.events((plan.scope, execution.identifier))
        return Course(execution.identifier, plan, events) if events is not None else None
