"""The nodes that stand side by side in a definition or in a loop: what each gives, and of which kind. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from contracts.v1.definition import Definition, EventTrigger, FrameTrigger, TagTrigger
from contracts.v1.node import (
    INPUTS,
    ITEM,
    OUTER,
    RESERVED,
    STATE,
    TRIGGER,
    AlarmNode,
    CallNode,
    ComputeNode,
    ConditionNode,
    DelayNode,
    DeriveNode,
    ExpressionNode,
    FedNode,
    ForEachNode,
    Node,
    PipelineNode,
    ReadNode,
    WhileNode,
    WriteNode,
)
from plugins.api.document import Path
from services.orchestrator.definition.catalogue import Catalogue, tag_kind
from services.orchestrator.definition.faults import kind_of_value
from services.orchestrator.definition.graph import Graph
from services.orchestrator.expression.expression import Expression, ExpressionError
from services.orchestrator.expression.kinds import Kind, kind_of

Ports = Mapping[str, Kind] | None
"""Kinds by name; None where it is not known what there is."""

LOOPS = (ForEachNode, WhileNode)


class Level:
    """Nodes side by side. path: of what holds them. spaces: what they are given from outside, by first word.

    broken: paths of nodes that could not be read; whatever is asked of them is there.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        *,
        path: Path = (),
        spaces: Mapping[str, Ports],
        catalogue: Catalogue,
        broken: frozenset[Path] = frozenset(),
    ) -> None:
        self.nodes = nodes
        self.path = path
        self.spaces = spaces
        self.catalogue = catalogue
        self._broken = broken
        self._outputs: dict[str, Ports] = {}
        self._inner: dict[str, Level] = {}
        self.graph = Graph(nodes)

    def path_of(self, name: str) -> Path:
        """The path of a node."""
        return (*self.path, "nodes", name)

    def is_broken(self, name: str) -> bool:
        """Whether the node could not be read."""
        return self.path_of(name) in self._broken

    def outputs(self, name: str) -> Ports:
        """What a node of this level gives."""
        if name not in self._outputs:
            self._outputs[name] = None  # what a cycle sees
            node = self.nodes[name]
            self._outputs[name] = None if self.is_broken(name) else _OUTPUTS[type(node)](self, node)
        return self._outputs[name]

    def kind(self, reference: str | None) -> Kind:
        """The kind of what a reference means; None if it is not known, or means nothing."""
        if reference is None:
            return None
        owner, _, port = reference.partition(".")
        ports = self.spaces.get(owner) if owner in RESERVED else self.outputs(owner) if owner in self.nodes else None
        return (ports or {}).get(port)

    def given(self, node: FedNode) -> dict[str, Kind]:
        """The kinds of a node's inputs and constants."""
        return {
            **{name: self.kind(reference) for name, reference in node.inputs.items()},
            **{name: kind_of_value(value) for name, value in node.constants.items()},
        }

    def walk(self) -> Iterator[tuple["Level", str, Node]]:
        """Every node that could be read, with its level: those of this one, and those inside its loops."""
        for name, node in self.nodes.items():
            if self.is_broken(name):
                continue
            yield self, name, node
            if isinstance(node, LOOPS):
                yield from self.inner(name).walk()

    def inner(self, name: str) -> "Level":
        """The level inside a loop of this one."""
        if name not in self._inner:
            self._inner[name] = self._level_in(name)
        return self._inner[name]

    def _level_in(self, name: str) -> "Level":
        node = self.nodes[name]
        if not isinstance(node, LOOPS):
            raise TypeError(f"{name} is no loop")
        of_loop: Mapping[str, Ports] = (
            {ITEM: {"value": None, "index": "integer"}}
            if isinstance(node, ForEachNode)
            else {STATE: dict.fromkeys(node.state)}
        )
        return Level(
            node.nodes,
            path=self.path_of(name),
            spaces={**self.spaces, **of_loop, OUTER: self.given(node)},
            catalogue=self.catalogue,
            broken=self._broken,
        )


def level_of(definition: Definition, catalogue: Catalogue, broken: frozenset[Path] = frozenset()) -> Level:
    """The outermost level of a definition."""
    inputs: dict[str, Kind] = {
        name: None if ("inputs", name) in broken else port.type for name, port in definition.inputs.items()
    }
    return Level(
        definition.nodes,
        spaces={INPUTS: inputs, TRIGGER: _trigger_kinds(definition, catalogue, broken)},
        catalogue=catalogue,
        broken=broken,
    )


def _trigger_kinds(definition: Definition, catalogue: Catalogue, broken: frozenset[Path]) -> Ports:
    """What `trigger` has: that of every run, and that of each kind of trigger which the pipeline has."""
    if any(path[0] == "triggers" for path in broken):
        return None
    kinds: dict[str, Kind] = {"kind": "string", "t": "integer"}
    tags = [trigger.tag for trigger in definition.triggers if isinstance(trigger, TagTrigger)]
    if tags:
        kinds |= {"value": tag_kind(catalogue.tag(tags[0])) if len(tags) == 1 else None, "q": "integer"}
    if any(isinstance(trigger, FrameTrigger) for trigger in definition.triggers):
        kinds |= {"values": "object", "samples": "array"}
    if any(isinstance(trigger, EventTrigger) for trigger in definition.triggers):
        kinds["data"] = "object"
    return kinds


def expression_kind(text: str, names: Mapping[str, Kind]) -> Kind:
    """The kind of an expression's result; None if it is not known, or the expression is wrong."""
    try:
        return kind_of(Expression(text).tree, names)
    except ExpressionError:
        return None


def _of_read(level: Level, node: ReadNode) -> Ports:
    return {"value": tag_kind(level.catalogue.tag(node.tag)), "q": "integer", "t": "integer"}


def _of_write(level: Level, node: WriteNode) -> Ports:
    kind = tag_kind(level.catalogue.tag(node.tag))
    return {"value": kind, "read_back": kind}


def _of_call(level: Level, node: CallNode) -> Ports:
    device = level.catalogue.devices.get(node.device)
    function = (device.functions or {}).get(node.function) if device else None
    return {name: port.type for name, port in function.outputs.items()} if function else None


def _of_compute(level: Level, node: ComputeNode) -> Ports:
    function = level.catalogue.functions.get(node.function)
    return {name: port.type for name, port in function.outputs.items()} if function else None


def _of_pipeline(level: Level, node: PipelineNode) -> Ports:
    other = level.catalogue.pipelines.get(node.pipeline)
    # A version that is pinned may give something else than the live one does.
    return None if other is None or node.version else {"run": "string", **dict.fromkeys(other.outputs)}


_OUTPUTS: Mapping[type, Callable[[Level, Any], Ports]] = {
    ReadNode: _of_read,
    WriteNode: _of_write,
    CallNode: _of_call,
    ComputeNode: _of_compute,
    PipelineNode: _of_pipeline,
    ExpressionNode: lambda level, node: {"value": expression_kind(node.expression, level.given(node))},
    DeriveNode: lambda level, node: {"value": level.given(node).get("value")},
    AlarmNode: lambda level, node: {"active": "boolean"},
    ConditionNode: lambda level, node: {},
    DelayNode: lambda level, node: {},
    ForEachNode: lambda level, node: {"values": "array", "count": "integer"},
    WhileNode: lambda level, node: {**dict.fromkeys(node.state), "rounds": "integer"},
}
