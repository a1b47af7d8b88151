"""What does the work of a node that is more than a formula: one executor per kind of work."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from services.orchestrator.run.plan import Formula, Plan, Values
from services.orchestrator.run.request import RunRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One try of one node. path: names the node, with the turns of the loops around it. node: its definition.

    formulas: of the node, by field. left_s: seconds that it may take. request: of the run.
    """

    run: str
    plan: Plan
    path: str
    node: Any
    formulas: Mapping[str, Formula]
    inputs: dict[str, JsonValue]
    left_s: float
    request: RunRequest


AtOnce = Callable[[Work], Values | None]
"""Does work that needs no waiting, and gives the outputs; None: it needs waiting after all. Raises NodeFailed."""

Do = Callable[[Work], Awaitable[Values]]
"""Does work that takes its time. It is cancelled after left_s, and when nobody waits for it any more.

Raises NodeFailed, TimeoutError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executors:
    """By kind of work. A kind may stand in both: what is not done at once is then done with time."""

    instant: Mapping[str, AtOnce] = field(default_factory=dict)
    lasting: Mapping[str, Do] = field(default_factory=dict)
