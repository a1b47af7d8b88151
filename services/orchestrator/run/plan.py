"""A pipeline made ready to run: its references are places. One plan is shared by all runs of a version. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pydantic import JsonValue

from contracts.v1.definition import InputPort

Values: TypeAlias = Mapping[str, JsonValue]
Formula: TypeAlias = Callable[[Values], JsonValue]
"""A compiled expression over named values. Raises ExpressionError."""
OnError = Literal["fail", "skip", "default"]


@dataclass(frozen=True, slots=True)
class FromStep:
    """An output of a step of the same graph, by the step's place in it."""

    step: int
    port: str


@dataclass(frozen=True, slots=True)
class FromName:
    """A value that a graph is given from outside. space: see contracts.v1.node.RESERVED."""

    space: str
    name: str


Source = FromStep | FromName


@dataclass(frozen=True, slots=True)
class Need:
    """A step that goes before another. branch: of a condition, the one that must have been taken."""

    step: int
    branch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a step is tried, and what its failure means. default: its outputs then. cache_s: 0 keeps no result.

    timeout_s: of one try; None: as long as the run may take. tries: at most; between them first_s, times factor each.
    """

    timeout_s: float | None = None
    tries: int = 1
    first_s: float = 1.0
    factor: float = 2.0
    on_error: OnError = "fail"
    default: Values = field(default_factory=dict)
    cache_s: float = 0.0


@dataclass(frozen=True, slots=True)
class External:
    """Work that the engine's executor of this kind does. node: what the definition says of it. formulas: by field."""

    kind: str
    node: object
    formulas: Mapping[str, Formula] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Formed:
    """An expression; its result is the output `value`."""

    formula: Formula


@dataclass(frozen=True, slots=True)
class Choice:
    """A condition: takes the branch `then` or `else`, and gives no data."""

    formula: Formula


@dataclass(frozen=True, slots=True)
class Pause:
    """Waits."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Each:
    """One passage through the body per item, so many at a time. most: items. output: what each passage gives."""

    items: Source
    concurrency: int
    most: int
    body: "Graph"
    output: Source | None


@dataclass(frozen=True, slots=True)
class Repeat:
    """Passages through the body one after the other, as long as the formula holds, at most `most`.

    state: the values before the first; next: those after each passage, which are the outputs in the end.
    """

    formula: Formula
    most: int
    state: Values
    next: Mapping[str, Source]
    body: "Graph"


Work = External | Formed | Choice | Pause | Each | Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node. path: its name with those of the loops around it. needs: what must be settled first.

    joins_any: one of the needs is enough. followers: who needs it, and by which branch.
    """

    name: str
    path: str
    work: Work
    inputs: Mapping[str, Source] = field(default_factory=dict)
    constants: Values = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    joins_any: bool = False
    followers: tuple[tuple[int, str | None], ...] = ()
    policy: Policy = Policy()


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps without a cycle, at least one. roots: those that need nothing."""

    steps: tuple[Step, ...]
    roots: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A version of a pipeline, ready to run. inputs: what a run is given; outputs: what it gives. timeout_s: of a run.

    saved_by: the user in whose name it writes. saver_since: see Version. rev: see contracts.v1.pipeline.PipelineInfo.
    """

    scope: str
    pipeline: str
    version: int
    rev: str
    saved_by: str
    graph: Graph
    inputs: Mapping[str, InputPort] = field(default_factory=dict)
    outputs: Mapping[str, Source] = field(default_factory=dict)
    timeout_s: float = 60.0
    most_runs: int = 1
    most_queued: int = 10
    saver_since: int | None = None
