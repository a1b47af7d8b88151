"""What the orchestrator can be asked for concerning runs, whoever asks: a command, a trigger, another part of it."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import JsonValue

from contracts.v1.run import RunState, RunTrigger
from services.orchestrator.engine.board import Board
from services.orchestrator.engine.engine import Engine
from services.orchestrator.engine.execution import Execution
from services.orchestrator.errors import OrchestratorError, Unusable
from services.orchestrator.past.past_run import state_of
from services.orchestrator.past.recorded import RecordedRuns
from services.orchestrator.past.retrospect import CompareShadow
from services.orchestrator.pipelines.plans import Plans
from services.orchestrator.run.inputs import filled_inputs
from services.orchestrator.run.plan import Values
from services.orchestrator.run.request import RunRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """Who or what wants a run, and with what. values: what its nodes may know of its trigger, as `trigger.NAME`.

    note: see RunRequest.
    """

    scope: str
    pipeline: str
    trigger: RunTrigger
    inputs: Mapping[str, JsonValue] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    user: str | None = None
    note: Callable[[], Awaitable[None]] | None = None


class RunPipeline:
    """Starts runs of the live version, and beside each one of the shadow if there is one."""

    def __init__(self, *, plans: Plans, engine: Engine, compare: CompareShadow) -> None:
        self._compare = compare
        self._plans = plans
        self._engine = engine

    def start(self, order: RunOrder) -> Execution:
        """The run, begun or in line.

        Raises NotFound, Unusable, InvalidInputs, TooManyPipelines, Draining.
        """
        plan = self._plans.live(order.scope, order.pipeline)
        request = RunRequest(
            plan=plan,
            inputs=filled_inputs(plan, order.inputs),
            trigger=order.trigger,
            values=order.values,
            user=order.user,
            note=order.note,
        )
        execution = self._engine.accept(request)
        self._start_shadow(execution, order)
        return execution

    def _start_shadow(self, live: Execution, order: RunOrder) -> None:
        """A shadow that cannot begin is nothing to the live run, which has begun; `diff` tells why it cannot."""
        with suppress(OrchestratorError):
            plan = self._plans.shadow(order.scope, order.pipeline)
            if plan is None:
                return
            request = RunRequest(
                plan=plan,
                inputs=filled_inputs(plan, order.inputs),
                trigger=RunTrigger(kind="shadow", by=live.identifier),
                values=order.values,
                shadow=True,
            )
            shadow = self._engine.accept(request)
            live.when_over(lambda _: shadow.when_over(lambda _: self._compare.ended(live, shadow)))


class CancelRun:
    """Ends runs before their time."""

    def __init__(self, *, engine: Engine) -> None:
        self._engine = engine

    def cancel(self, scope: str, run: str, *, user: str, reason: str = "") -> RunState:
        """How the run stands now that it has been cancelled. Raises NotFound: there is none, or it is over."""
        told = f"cancelled by {user}" + (f": {reason}" if reason else "")
        return self._engine.cancel(scope, run, reason=told).state()


class GetRun:
    """Shows runs: those that are under way or were until lately, and older ones as the recorder has them."""

    def __init__(self, *, board: Board, recorded: RecordedRuns) -> None:
        self._board = board
        self._recorded = recorded

    async def get(self, scope: str, run: str) -> RunState:
        """How the run stands. Raises NotFound, Unavailable, Unusable, BusError."""
        found = self._board.find(scope, run)
        if found is not None:
            return found
        events = await self._recorded.events(scope, run)
        try:
            return state_of(events)
        except (KeyError, ValueError) as error:
            raise Unusable(f"the events of {run!r} are not those of a run that this release knows: {error}") from error
