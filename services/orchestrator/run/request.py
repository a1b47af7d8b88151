"""What is asked of the engine: a run of a plan. Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from contracts.v1.run import RunTrigger
from services.orchestrator.run.plan import Plan, Values


@dataclass(slots=True)
class Family:
    """A run with all runs that are its nodes, and theirs. begun: so many of these there have been."""

    begun: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A run that is wanted. inputs: checked, defaults filled in. values: what its nodes may know of its trigger,
    beside its kind and time.

    user: who asked for it; None if a trigger did. parent: the run that it is a node of, which it shares a place with;
    within: the pipelines of all runs that it is inside of, outermost first; family: the same for all of these.
    shadow: its writes and alarms are held back.
    note: is awaited when it is the run's turn, before its first node: what was on disk by then shows after a kill that
    the run had begun. Raises NodeFailed: the run fails without having begun.
    """

    plan: Plan
    inputs: Values
    trigger: RunTrigger
    values: Values = field(default_factory=dict)
    user: str | None = None
    parent: str | None = None
    within: tuple[str, ...] = ()
    family: Family = field(default_factory=Family)
    shadow: bool = False
    note: Callable[[], Awaitable[None]] | None = None
