"""What can be wrong with a node: its references, its ports, and what belongs to its kind. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from contracts.v1.device import TagInfo
from contracts.v1.function import PortInfo
from contracts.v1.node import (
    ITEM,
    OUTER,
    RESERVED,
    STATE,
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
from services.orchestrator.definition.catalogue import OTHER_DEVICE, tag_kind
from services.orchestrator.definition.faults import fits, kind_of_value, kind_text, offer
from services.orchestrator.definition.field_checks import FieldCheck
from services.orchestrator.definition.graph import references
from services.orchestrator.expression.expression import Expression, ExpressionError

_CACHED = (ReadNode, CallNode, ComputeNode)
_WHERE = {ITEM: "inside a for_each", STATE: "inside a while", OUTER: "inside a loop"}


class NodeCheck:
    """Checks the nodes of one level, one by one."""

    def __init__(self, fields: FieldCheck) -> None:
        self._fields = fields
        self._level = fields.level
        self._tell = fields.tell
        self._derived = fields.derived

    def check(self, name: str, node: Node) -> None:
        """Tells every fault of the node itself; those of what hangs on what are not looked for here."""
        at = self._level.path_of(name)
        if name in RESERVED:
            self._tell(at, f"{name!r} is a word of the language", "give the node another name")
        for field, reference in references(node):
            self._fields.reference((*at, *field), reference)
        self._after(at, node)
        self._failing(at, node)
        if isinstance(node, FedNode):
            for twice in sorted(node.inputs.keys() & node.constants.keys()):
                self._tell((*at, "constants", twice), f"{twice!r} is an input as well", "remove one of both")
        _CHECKS[type(node)](self, at, node)

    def _after(self, at: Path, node: Node) -> None:
        for place, predecessor in enumerate(node.after):
            owner, _, branch = predecessor.partition(".")
            other = self._level.nodes.get(owner)
            here = (*at, "after", place)
            if other is None:
                self._tell(here, f"there is no node {owner!r}{self._fields.elsewhere}", offer(owner, self._level.nodes))
            elif branch and not isinstance(other, ConditionNode) and not self._level.is_broken(owner):
                self._tell(here, f"{owner!r} is no condition and has no branches", f"write {owner}")

    def _failing(self, at: Path, node: Node) -> None:
        if node.cache is not None and not isinstance(node, _CACHED):
            self._tell((*at, "cache"), f"a {node.type} is done each time anew", "remove cache")
        if node.on_error == "default" and node.default is None:
            self._tell((*at, "on_error"), "there is no default", "add default: with a value for each output")
        if node.default is None:
            return
        if node.on_error != "default":
            self._tell((*at, "default"), "the default is never used", "write on_error: default, or remove it")
        outputs = self._level.outputs(at[-1] if isinstance(at[-1], str) else "")
        for port, value in node.default.items():
            if outputs is None:
                continue
            if port not in outputs:
                self._tell((*at, "default", port), f"the node gives no {port!r}", offer(port, outputs))
            elif value is not None and not fits(kind_of_value(value), outputs[port]):
                kinds = f"is {kind_text(outputs[port])}, but the default is {kind_text(kind_of_value(value))}"
                self._tell((*at, "default", port), f"{port!r} {kinds}", f"write {kind_text(outputs[port])}")

    def read(self, at: Path, node: ReadNode) -> None:
        """A tag of a device or of a pipeline."""
        if node.tag in self._derived:
            if node.source == "device":
                self._tell((*at, "source"), f"{node.tag} is no device's: a pipeline derives it", "write source: last")
            return
        self._fields.tag((*at, "tag"), node.tag, beside=self._derived)

    def write(self, at: Path, node: WriteNode) -> None:
        """A writable tag, a value that fits it, and what must be so just before."""
        tag = self._fields.tag((*at, "tag"), node.tag)
        if tag is not None and not tag.writable:
            mend = "its device file says so by writes: enabled, and writable: true and a range at the tag"
            self._tell((*at, "tag"), f"{node.tag} is not writable", mend)
        kind = tag_kind(tag)
        self._fields.only(at, node, {"value"}, needed={"value"})
        self._fields.kind((*at, "inputs", "value"), self._level.kind(node.inputs.get("value")), kind, node.tag)
        if "value" in node.constants and tag is not None:
            self._fields.constant((*at, "constants", "value"), "value", node.constants["value"], _port(tag))
        device = node.tag.partition("/")[0]
        for name, value in (node.expect or {}).items():
            expected = self._fields.tag((*at, "expect", name), f"{device}/{name}")
            if expected is not None and not fits(kind_of_value(value), tag_kind(expected)):
                message = f"{name!r} is {kind_text(tag_kind(expected))}, not {kind_text(kind_of_value(value))}"
                self._tell((*at, "expect", name), message, f"write {kind_text(tag_kind(expected))}")

    def call(self, at: Path, node: CallNode) -> None:
        """A function of a device."""
        device = self._level.catalogue.devices.get(node.device)
        if self._level.catalogue.may_have(node.device):
            return
        if device is None:
            devices = self._level.catalogue.devices
            self._tell((*at, "device"), f"there is no device {node.device!r}", offer(node.device, devices))
            return
        functions = device.functions or {}
        if node.function not in functions:
            message = f"{node.device} has no function {node.function!r}"
            self._tell((*at, "function"), message, offer(node.function, functions))
            return
        self._fields.ports(at, node, functions[node.function].inputs, f"{node.device}.{node.function}")

    def compute(self, at: Path, node: ComputeNode) -> None:
        """A function of the compute service."""
        functions = self._level.catalogue.functions
        if node.function not in functions:
            self._tell(
                (*at, "function"), f"there is no compute function {node.function!r}", offer(node.function, functions)
            )
            return
        self._fields.ports(at, node, functions[node.function].inputs, node.function)

    def pipeline(self, at: Path, node: PipelineNode) -> None:
        """Another pipeline; a circle of them is told elsewhere."""
        pipelines = self._level.catalogue.pipelines
        if node.pipeline not in pipelines:
            self._tell((*at, "pipeline"), f"there is no pipeline {node.pipeline!r}", offer(node.pipeline, pipelines))
        elif node.version is None:
            self._fields.ports(at, node, pipelines[node.pipeline].inputs, node.pipeline)

    def derive(self, at: Path, node: DeriveNode) -> None:
        """A tag of the pipeline's own."""
        device = node.tag.partition("/")[0]
        if device in self._level.catalogue.devices:
            message = f"{device!r} is a device of a gateway, which alone publishes its tags"
            self._tell((*at, "tag"), message, OTHER_DEVICE)
        if node.tag in self._level.catalogue.elsewhere:
            self._tell((*at, "tag"), f"{node.tag} is derived by a pipeline of another workspace", "name another tag")
        self._fields.only(at, node, {"value", "q"}, needed={"value"})
        given = self._level.given(node)
        if given.get("value") == "object":
            self._tell((*at, "inputs", "value"), "a tag holds no object", "name one of its parts in an expression")
        self._fields.kind((*at, "inputs", "q"), given.get("q"), "integer", "q")

    def loop(self, at: Path, node: ForEachNode | WhileNode) -> None:
        """What a loop takes and gives; the nodes inside are a level of their own."""
        inner = self._fields.inside(str(at[-1]))
        if isinstance(node, ForEachNode):
            self._fields.kind((*at, "items"), self._level.kind(node.items), "array", "what for_each goes through")
            if node.output is not None:
                inner.reference((*at, "output"), node.output)
            return
        names = {**self._level.given(node), **dict.fromkeys(node.state)}
        self._fields.expression((*at, "when"), node.when, names, "boolean")
        for name in sorted(node.state.keys() & (node.inputs.keys() | node.constants.keys())):
            self._tell((*at, "state", name), f"{name!r} is an input or constant as well", "rename one of both")
        for name, reference in node.next.items():
            if name not in node.state:
                self._tell((*at, "next", name), f"there is no state {name!r}", offer(name, node.state))
            inner.reference((*at, "next", name), reference)
        self._never_ending(at, node)

    def _never_ending(self, at: Path, node: WhileNode) -> None:
        try:
            names = Expression(node.when).names
        except ExpressionError:
            return
        if not names.keys() & node.next.keys():
            message = "its result is the same before every round"
            self._tell((*at, "when"), message, "let it depend on a state that `next` changes")

    def expression(self, at: Path, node: ExpressionNode) -> None:
        """A formula."""
        self._fields.expression((*at, "expression"), node.expression, self._level.given(node))

    def condition(self, at: Path, node: ConditionNode) -> None:
        """A formula that is true or false."""
        self._fields.expression((*at, "when"), node.when, self._level.given(node), "boolean")

    def alarm(self, at: Path, node: AlarmNode) -> None:
        """When it is raised and when it is cleared."""
        names = self._level.given(node)
        self._fields.expression((*at, "when"), node.when, names, "boolean")
        if node.clear is not None:
            self._fields.expression((*at, "clear"), node.clear, names, "boolean")


def _port(tag: TagInfo) -> PortInfo:
    kinds: Mapping[Any, Any] = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "string"}
    return PortInfo(type=kinds.get(tag_kind(tag), "array"), range=tag.range, unit=tag.unit)


_CHECKS: Mapping[type, Callable[[NodeCheck, Path, Any], None]] = {
    ReadNode: NodeCheck.read,
    WriteNode: NodeCheck.write,
    CallNode: NodeCheck.call,
    ComputeNode: NodeCheck.compute,
    PipelineNode: NodeCheck.pipeline,
    DeriveNode: NodeCheck.derive,
    AlarmNode: NodeCheck.alarm,
    ForEachNode: NodeCheck.loop,
    WhileNode: NodeCheck.loop,
    DelayNode: lambda check, at, node: None,
    ExpressionNode: NodeCheck.expression,
    ConditionNode: NodeCheck.condition,
}
