"""One passage through a graph: how far each of its steps has come. A run has one, and one per turn of a loop. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from contracts.v1.command import Failure
from contracts.v1.run import NodeStatus
from services.orchestrator.run.plan import FromStep, Graph, Source, Values

SETTLED = frozenset((NodeStatus.DONE, NodeStatus.FAILED, NodeStatus.SKIPPED))
Spaces = Mapping[str, Values]


class Turns(Protocol):
    """A loop at work. body: what each turn passes through. under_way: turns that have begun and not ended."""

    body: Graph
    under_way: "dict[int, Passage]"

    def due(self) -> Iterator[tuple[int, Spaces]]:
        """The turns to begin now: number, and what each is given. Raises LoopFailed, ExpressionError."""
        ...

    def end(self, turn: "Passage") -> None:
        """This turn is over, and all of it went well. Raises NotCarried: together they give too much."""
        ...

    @property
    def outputs(self) -> Values | None:
        """What the loop gives; None while it is at work."""
        ...


@dataclass(slots=True)
class Mark:
    """One step. waits: needs that are not settled yet; met: those that were taken. Times: microseconds since 1970.

    tries: how often it was begun. call, timer, turns: what is under way for it, if anything is.
    """

    waits: int
    met: int = 0
    status: NodeStatus = NodeStatus.WAITING
    tries: int = 0
    started_us: int | None = None
    ended_us: int | None = None
    outputs: Values | None = None
    branch: str | None = None
    error: Failure | None = None
    call: int | None = None
    timer: int | None = None
    turns: Turns | None = None


class Consequences(NamedTuple):
    """What the settling of a step means for others: which are skipped with it, in their order, and which may start."""

    skipped: list[int]
    ready: list[int]


@dataclass(slots=True, eq=False)
class Passage:
    """The state of a graph. spaces: what it is given from outside, by space. path: stands before the steps' names.

    owner: the passage and the step whose loop it is a turn of; number: which turn. left: steps that are not settled.
    over: it will not go on. carried: bytes of what its steps gave.
    """

    graph: Graph
    spaces: Spaces
    path: str = ""
    owner: "tuple[Passage, int] | None" = None
    number: int = 0
    over: bool = False
    carried: int = 0
    left: int = field(init=False)
    marks: list[Mark] = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.graph.steps)
        self.marks = [Mark(len(step.needs)) for step in self.graph.steps]

    def value(self, source: Source) -> JsonValue:
        """What the source holds; None if its step gave nothing there."""
        if isinstance(source, FromStep):
            outputs = self.marks[source.step].outputs
            return None if outputs is None else outputs.get(source.port)
        return self.spaces.get(source.space, {}).get(source.name)

    @property
    def held(self) -> int:
        """Bytes of what its steps gave, and those of turns that are under way in it."""
        at_work = (mark.turns for mark in self.marks if mark.turns is not None)
        return self.carried + sum(turn.held for turns in at_work for turn in turns.under_way.values())

    def inputs_of(self, index: int) -> dict[str, JsonValue]:
        """The step's inputs as they are now, constants among them."""
        step = self.graph.steps[index]
        return {**step.constants, **{port: self.value(source) for port, source in step.inputs.items()}}

    def name_of(self, index: int) -> str:
        """The step's name, with the turns of the loops around it: each[3].scaled."""
        return self.path + self.graph.steps[index].name

    def settle(self, index: int, status: NodeStatus, now_us: int) -> None:
        """The step will not change any more."""
        mark = self.marks[index]
        mark.status, mark.ended_us = status, now_us
        self.left -= 1

    def follow(self, index: int, now_us: int) -> Consequences:
        """What follows from a step's having been settled; those skipped are settled by it, and what follows from that
        is told with it."""
        found = Consequences([], [])
        todo = [index]
        while todo:
            step = todo.pop()
            for follower, branch in self.graph.steps[step].followers:
                if self.marks[follower].status is not NodeStatus.WAITING:
                    continue  # skipped before all of its needs were settled
                may_start = self._inform(follower, taken=self._taken(step, branch))
                if may_start:
                    found.ready.append(follower)
                elif may_start is not None:
                    self.settle(follower, NodeStatus.SKIPPED, now_us)
                    found.skipped.append(follower)
                    todo.append(follower)
        return found

    def _taken(self, index: int, branch: str | None) -> bool:
        mark = self.marks[index]
        return mark.status is NodeStatus.DONE and branch in {None, mark.branch}

    def _inform(self, index: int, *, taken: bool) -> bool | None:
        """One need of the step is settled. Whether it may start, or is to be skipped; None while that is open."""
        mark = self.marks[index]
        mark.waits -= 1
        mark.met += taken
        if self.graph.steps[index].joins_any:
            return None if mark.waits else mark.met > 0
        if not taken:
            return False
        return True if not mark.waits else None
