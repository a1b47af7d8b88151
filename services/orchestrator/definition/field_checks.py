"""What can be wrong with the fields of a node: its references, ports, fixed values and expressions. Pure."""

from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from contracts.v1.device import TagInfo
from contracts.v1.function import PortInfo
from contracts.v1.node import ITEM, OUTER, RESERVED, STATE, ConditionNode, DelayNode, DeriveNode, FedNode, WriteNode
from plugins.api.document import Path
from plugins.api.ports import check_inputs
from services.orchestrator.definition.faults import Tell, fits, kind_text, offer
from services.orchestrator.definition.level import Level
from services.orchestrator.expression.expression import Expression, ExpressionError
from services.orchestrator.expression.kinds import Kind, kind_of

_WHERE = {ITEM: "inside a for_each", STATE: "inside a while", OUTER: "inside a loop"}


class FieldCheck:
    """Checks fields of the nodes of one level. derived: the tags that pipelines publish, with what publishes them."""

    def __init__(self, level: Level, tell: Tell, *, derived: Mapping[str, str]) -> None:
        self.level = level
        self.tell = tell
        self.derived = derived

    def inside(self, name: str) -> "FieldCheck":
        """The checks of the level inside a loop."""
        return FieldCheck(self.level.inner(name), self.tell, derived=self.derived)

    def reference(self, at: Path, reference: str) -> bool:
        """Tells what is wrong with a reference; True if nothing is."""
        owner, _, port = reference.partition(".")
        if owner in RESERVED:
            return self._given_from_outside(at, owner, port)
        if owner not in self.level.nodes:
            self.tell(at, f"there is no node {owner!r}{self.elsewhere}", offer(owner, self.level.nodes))
            return False
        node, outputs = self.level.nodes[owner], self.level.outputs(owner)
        if self.level.is_broken(owner) or outputs is None or port in outputs:
            return True
        if isinstance(node, ConditionNode):
            self.tell(at, f"{owner!r} is a condition and gives no value", f"write after: [{owner}.then]")
        elif isinstance(node, DelayNode):
            self.tell(at, f"{owner!r} is a delay and gives no value", f"write after: [{owner}]")
        else:
            self.tell(at, f"{owner!r} gives no {port!r}", offer(port, outputs))
        return False

    def _given_from_outside(self, at: Path, space: str, name: str) -> bool:
        if space not in self.level.spaces:
            self.tell(at, f"{space}.{name} means something only {_WHERE[space]}", "name a node's output")
            return False
        names = self.level.spaces[space]
        if names is None or name in names:
            return True
        self.tell(at, f"there is no {space}.{name}", offer(name, names))
        return False

    @property
    def elsewhere(self) -> str:
        """Behind `there is no node x`: where it is looked for."""
        return " inside this loop: a node around it is reached by an input of the loop" if self.level.path else ""

    def ports(self, at: Path, node: FedNode, ports: Mapping[str, PortInfo], what: str) -> None:
        """Tells what does not go together between what a node gives and what is taken."""
        for group in ("inputs", "constants"):
            for name in getattr(node, group):
                if name not in ports:
                    self.tell((*at, group, name), f"{what} takes no {name!r}", offer(name, ports))
        missing = [
            name
            for name, port in ports.items()
            if name not in node.inputs and name not in node.constants and not _may_be_absent(port)
        ]
        if missing:
            named = ", ".join(map(repr, missing))
            self.tell((*at, "inputs"), f"{what} needs {named}", "give it in inputs, or a fixed value in constants")
        for name, reference in node.inputs.items():
            if name in ports:
                self.kind((*at, "inputs", name), self.level.kind(reference), ports[name].type, f"{name!r} of {what}")
        for name, value in node.constants.items():
            if name in ports:
                self.constant((*at, "constants", name), name, value, ports[name])

    def kind(self, at: Path, given: Kind, wanted: Kind, what: str) -> None:
        """Tells a mismatch of kinds."""
        if not fits(given, wanted):
            mend = "round(x) in an expression gives an integer" if wanted == "integer" else "name another output"
            self.tell(at, f"{what} is {kind_text(wanted)}, but gets {kind_text(given)}", mend)

    def constant(self, at: Path, name: str, value: JsonValue, port: PortInfo) -> None:
        """Tells what is wrong with a fixed value for a port."""
        for fault in check_inputs({name: port}, {name: value}):
            message, _, mend = fault.partition("; ")
            self.tell(at, message, mend or f"write {kind_text(port.type)}{_within(port)}")

    def expression(self, at: Path, text: str, names: Mapping[str, Kind], wanted: Kind = None) -> None:
        """Tells what is wrong with an expression over these names."""
        try:
            expression = Expression(text)
            unknown = {name: column for name, column in expression.names.items() if name not in names}
            for name, column in unknown.items():
                mend = f"add it to inputs or constants; {offer(name, names)}"
                self.tell(at, f"column {column}: there is no input or constant {name!r}", mend)
            found = kind_of(expression.tree, names)
        except ExpressionError as error:
            self.tell(at, f"column {error.column}: {error.message}", error.mend or "see docs/pipelines.md")
            return
        if wanted and not fits(found, wanted):
            self.tell(at, f"the result is {kind_text(found)}, not {kind_text(wanted)}", "compare it, such as x > 80")

    def tag(self, at: Path, path: str, *, beside: Iterable[str] = ()) -> TagInfo | None:
        """The tag; tells if there is none. beside: other tags that may be named here."""
        found = self.level.catalogue.tag(path)
        if found is None and not self.level.catalogue.may_have(path):
            self.tell(at, f"there is no tag {path!r}", offer(path, [*self.level.catalogue.tags, *beside]))
        return found

    def only(self, at: Path, node: WriteNode | DeriveNode, taken: set[str], *, needed: set[str]) -> None:
        """Tells inputs and constants that a node of this type does not take, and those that it lacks."""
        for group in ("inputs", "constants"):
            for name in getattr(node, group):
                if name not in taken:
                    self.tell((*at, group, name), f"a {node.type} takes no {name!r}", offer(name, taken))
        for name in sorted(needed - node.inputs.keys() - node.constants.keys()):
            self.tell((*at, "inputs"), f"a {node.type} needs {name!r}", f"write inputs: {{{name}: node.output}}")


def _may_be_absent(port: PortInfo) -> bool:
    return port.optional or getattr(port, "default", None) is not None


def _within(port: PortInfo) -> str:
    return f" from {port.range[0]:g} to {port.range[1]:g}" if port.range else ""
