"""Nodes that are runs of other pipelines."""

from collections.abc import Callable

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.node import PipelineNode
from contracts.v1.run import RunStatus, RunTrigger
from services.orchestrator.engine.execution import Execution
from services.orchestrator.engine.executor import Work
from services.orchestrator.errors import NodeFailed, OrchestratorError, TooManyPipelines, Unusable
from services.orchestrator.pipelines.plans import Plans
from services.orchestrator.run.inputs import filled_inputs
from services.orchestrator.run.plan import Values
from services.orchestrator.run.request import RunRequest

DEEPEST = 8
"""Runs inside of runs."""
MOST_BELOW = 10_000
"""Runs that are nodes of one run, and of these, from its beginning to its end."""


class PipelineNodes:
    """accept: takes a run on; see Engine."""

    def __init__(self, *, plans: Plans, accept: Callable[[RunRequest], Execution]) -> None:
        self._plans = plans
        self._accept = accept

    async def do(self, work: Work) -> Values:
        """See executor.Do. Cancelled, it cancels the run.

        The run waits for a place of its pipeline, as its limits say, though not for one of the engine's.
        """
        node: PipelineNode = work.node
        try:
            request = await self._request(node, work)
            if request.family.begun >= MOST_BELOW:
                raise TooManyPipelines(f"{MOST_BELOW} runs have been nodes of this one, which is all that may be")
            request.family.begun += 1
            execution = self._accept(request)
        except OrchestratorError as error:
            raise NodeFailed(error.failure) from error
        try:
            await execution.over.wait()
        finally:
            if execution.active:
                message = f"{work.run}, of which it was a part, waits for it no more"
                execution.end(RunStatus.CANCELLED, Failure(code=ErrorCode.CANCELLED, message=message))
        run = execution.run
        if run.outputs is None:
            unsaid = Failure(code=ErrorCode.INTERNAL, message="it gave no outputs")
            raise NodeFailed(run.error or unsaid)
        return {"run": execution.identifier, **run.outputs}

    async def _request(self, node: PipelineNode, work: Work) -> RunRequest:
        """Raises OrchestratorError."""
        scope, within = work.plan.scope, (*work.request.within, work.plan.pipeline)
        if node.pipeline in within or len(within) > DEEPEST:
            raise Unusable(f"{' -> '.join((*within, node.pipeline))}: runs inside of itself, or of more than {DEEPEST}")
        if node.version is None:
            plan = self._plans.live(scope, node.pipeline)
        else:
            plan = await self._plans.version(scope, node.pipeline, node.version)
        given = {name: value for name, value in work.inputs.items() if value is not None}
        return RunRequest(
            plan=plan,
            inputs=filled_inputs(plan, given),
            trigger=RunTrigger(kind="pipeline", by=work.run),
            parent=work.run,
            within=within,
            family=work.request.family,
            shadow=work.request.shadow,
        )
