"""Definitions into plans. Pure.

A definition is taken as it was found right when it was saved (see validation); a reference to nothing is a KeyError.
"""

from collections import defaultdict
from collections.abc import Mapping

from contracts.v1.definition import Definition
from contracts.v1.node import (
    RESERVED,
    AlarmNode,
    ConditionNode,
    DelayNode,
    ExpressionNode,
    FedNode,
    ForEachNode,
    Node,
    ReadNode,
    WhileNode,
)
from services.orchestrator.expression.expression import Expression
from services.orchestrator.run.plan import (
    Choice,
    Each,
    External,
    Formed,
    FromName,
    FromStep,
    Graph,
    Need,
    Pause,
    Plan,
    Policy,
    Repeat,
    Source,
    Step,
    Work,
)

DEVICE_READ = "read.device"
"""The kind of work of a read node that asks the device; one that takes the last known value is of kind `read`."""


def compile_plan(
    definition: Definition, *, scope: str, version: int, rev: str, saved_by: str, saver_since: int | None = None
) -> Plan:
    """The plan of a version of a pipeline. Raises ExpressionError."""
    graph = _graph(definition.nodes, "")
    places = _places(definition.nodes)
    return Plan(
        scope=scope,
        pipeline=definition.pipeline,
        version=version,
        rev=rev,
        saved_by=saved_by,
        saver_since=saver_since,
        graph=graph,
        inputs=definition.inputs,
        outputs={name: _source(reference, places) for name, reference in definition.outputs.items()},
        timeout_s=definition.limits.timeout,
        most_runs=definition.limits.runs,
        most_queued=definition.limits.queue,
    )


def _graph(nodes: Mapping[str, Node], path: str) -> Graph:
    places = _places(nodes)
    needs = {name: _needs(node, places) for name, node in nodes.items()}
    followers: defaultdict[int, list[tuple[int, str | None]]] = defaultdict(list)
    for name, needed in needs.items():
        for need in needed:
            followers[need.step].append((places[name], need.branch))
    steps = tuple(
        Step(
            name=name,
            path=path + name,
            work=_work(node, places, path + name),
            inputs={port: _source(reference, places) for port, reference in _fed(node).items()},
            constants=node.constants if isinstance(node, FedNode) else {},
            needs=needs[name],
            joins_any=node.join == "any",
            followers=tuple(followers[places[name]]),
            policy=_policy(node),
        )
        for name, node in nodes.items()
    )
    return Graph(steps, tuple(at for at, step in enumerate(steps) if not step.needs))


def _work(node: Node, places: Mapping[str, int], path: str) -> Work:
    work: Work
    match node:
        case ExpressionNode():
            work = Formed(Expression(node.expression))
        case ConditionNode():
            work = Choice(Expression(node.when).true)
        case DelayNode():
            work = Pause(node.duration)
        case ForEachNode() | WhileNode():
            work = _loop(node, places, path)
        case ReadNode(source="device"):
            work = External(DEVICE_READ, node)
        case AlarmNode():
            texts = {"when": node.when, "clear": node.clear}
            work = External(node.type, node, {name: Expression(text).true for name, text in texts.items() if text})
        case _:
            work = External(node.type, node)
    return work


def _loop(node: ForEachNode | WhileNode, places: Mapping[str, int], path: str) -> Each | Repeat:
    body, inner = _graph(node.nodes, f"{path}."), _places(node.nodes)
    if isinstance(node, ForEachNode):
        return Each(
            items=_source(node.items, places),
            concurrency=node.concurrency,
            most=node.most,
            body=body,
            output=_source(node.output, inner) if node.output else None,
        )
    return Repeat(
        formula=Expression(node.when).true,
        most=node.most,
        state=node.state,
        next={name: _source(reference, inner) for name, reference in node.next.items()},
        body=body,
    )


def _places(nodes: Mapping[str, Node]) -> dict[str, int]:
    return {name: place for place, name in enumerate(nodes)}


def _fed(node: Node) -> Mapping[str, str]:
    return node.inputs if isinstance(node, FedNode) else {}


def _source(reference: str, places: Mapping[str, int]) -> Source:
    first, _, second = reference.partition(".")
    return FromName(first, second) if first in RESERVED else FromStep(places[first], second)


def _needs(node: Node, places: Mapping[str, int]) -> tuple[Need, ...]:
    """What the node refers to, each once, in the order of the definition."""
    references = [*_fed(node).values(), *([node.items] if isinstance(node, ForEachNode) else [])]
    firsts = (reference.partition(".")[0] for reference in references)
    needs = [Need(places[first]) for first in firsts if first not in RESERVED]
    for predecessor in node.after:
        first, _, branch = predecessor.partition(".")
        needs.append(Need(places[first], branch or None))
    return tuple(dict.fromkeys(needs))


def _policy(node: Node) -> Policy:
    retries = node.retries
    return Policy(
        timeout_s=node.timeout_s,
        tries=retries.tries,
        first_s=retries.first,
        factor=retries.factor,
        on_error=node.on_error,
        default=node.default or {},
        cache_s=node.cache or 0.0,
    )
