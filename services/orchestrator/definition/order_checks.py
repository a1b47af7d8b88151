"""What can be wrong between nodes: cycles, nodes that never run, two that write one tag at the same time. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

from contracts.v1.node import AlarmNode, ConditionNode, DeriveNode, ForEachNode, WriteNode
from services.orchestrator.definition.faults import Tell
from services.orchestrator.definition.graph import Branch, cycle_text, exclusive
from services.orchestrator.definition.level import LOOPS, Level
from services.orchestrator.expression.expression import Expression, ExpressionError


class Writer(NamedTuple):
    """A node that gives a tag. chain: the loops around it and the node itself, from the outside."""

    tag: str
    level: Level
    name: str
    chain: tuple[str, ...]


def check_order(level: Level, tell: Tell) -> None:
    """Tells what is wrong with the order of the nodes of this level, and of those inside its loops."""
    graph = level.graph
    for cycle in graph.cycles:
        message = f"waits for itself: {cycle_text(cycle)}"
        tell(level.path_of(cycle[0]), message, "take one of these references away")
    for name, reason in graph.never(_untaken(level)).items():
        mend = "write join: any where one of several branches is enough, or change what it stands after"
        tell(level.path_of(name), f"never runs: {reason}", mend)
    for name, node in level.nodes.items():
        if isinstance(node, LOOPS) and not level.is_broken(name):
            check_order(level.inner(name), tell)


def _untaken(level: Level) -> frozenset[Branch]:
    """The branches of conditions whose result is known, since they depend on nothing."""
    found: set[Branch] = set()
    for name, node in level.nodes.items():
        if not isinstance(node, ConditionNode):
            continue
        try:
            expression = Expression(node.when)
            if not expression.names:
                found.add((name, "else" if expression.true({}) else "then"))
        except ExpressionError:
            continue
    return frozenset(found)


def writers(level: Level, chain: tuple[str, ...] = ()) -> Iterator[Writer]:
    """The nodes that give tags, on this level and inside its loops."""
    for name, node in level.nodes.items():
        if level.is_broken(name):
            continue
        if isinstance(node, WriteNode | DeriveNode):
            yield Writer(node.tag, level, name, (*chain, name))
        elif isinstance(node, LOOPS):
            yield from writers(level.inner(name), (*chain, name))


def check_writers(level: Level, tell: Tell, *, runs: int, elsewhere: Mapping[str, str]) -> None:
    """Tells tags that two nodes could give at the same time, or one node in two runs.

    runs: of this pipeline at the same time. elsewhere: tags that other pipelines give, with these.
    """
    by_tag: defaultdict[str, list[Writer]] = defaultdict(list)
    for writer in writers(level):
        by_tag[writer.tag].append(writer)
        place = (*writer.level.path_of(writer.name), "tag")
        if writer.tag in elsewhere:
            other = elsewhere[writer.tag]
            mend = f"let one pipeline write it, and run that one from the other: type: pipeline, or change {other!r}"
            tell(place, f"{writer.tag} is written by the pipeline {other!r} as well", mend)
        if runs > 1:
            message = f"{writer.tag} is written by several runs of this pipeline at the same time"
            tell(place, message, "write limits: {runs: 1}, or let a pipeline of its own write it: type: pipeline")
        loop = next(_many_at_once(level, writer), None)
        if loop is not None:
            mend = f"write concurrency: 1 at {loop}"
            tell(place, f"{writer.tag} is written by several passages of {loop} at the same time", mend)
    for same in by_tag.values():
        for first, second in combinations(same, 2):
            if _at_once(level, first, second):
                message = f"{first.tag} has two writers that may run at the same time: {first.name} and {second.name}"
                mend = "let one stand `after` the other, or both on different branches of a condition"
                tell((*second.level.path_of(second.name), "tag"), message, mend)


def _many_at_once(level: Level, writer: Writer) -> Iterator[str]:
    for name in writer.chain[:-1]:
        node = level.nodes[name]
        if isinstance(node, ForEachNode) and node.concurrency > 1:
            yield name
        level = level.inner(name)


def _at_once(level: Level, first: Writer, second: Writer) -> bool:
    """Whether both may run at the same time: seen on the innermost level that has both, or loops around them."""
    for one, other in zip(first.chain, second.chain, strict=False):
        if one != other:
            return not _in_order(level, one, other)
        level = level.inner(one)
    return True


def _in_order(level: Level, one: str, other: str) -> bool:
    graph = level.graph
    if one in graph.before[other] or other in graph.before[one]:
        return True
    return exclusive(graph.branches[one], graph.branches[other])


def check_alarms(level: Level, tell: Tell, *, elsewhere: Mapping[str, str]) -> None:
    """Tells alarms that stand twice. elsewhere: those of other pipelines of the workspace."""
    seen: dict[str, str] = {}
    for within, name, node in level.walk():
        if not isinstance(node, AlarmNode):
            continue
        place = (*within.path_of(name), "alarm")
        if node.alarm in elsewhere:
            message = f"{node.alarm!r} is an alarm of the pipeline {elsewhere[node.alarm]!r}"
            tell(place, message, "an alarm's name stands once in a workspace: choose another")
        if node.alarm in seen:
            tell(place, f"{node.alarm!r} is raised by {seen[node.alarm]} as well", "choose another name")
        seen.setdefault(node.alarm, name)
