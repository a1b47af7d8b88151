"""Whether a definition can run: every fault at once, each with its place and its mend. Pure.

`dinrail check` and the command `validate` both ask here; they differ only in where the catalogue comes from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from contracts.v1.definition import Definition
from contracts.v1.node import AlarmNode, DelayNode, DeriveNode, PipelineNode, WriteNode
from contracts.v1.pipeline import DefinitionFault, Validation
from plugins.api.document import DocumentError, Fault, Path
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.definition.definition_file import DefinitionFile, read_definition
from services.orchestrator.definition.faults import Tell
from services.orchestrator.definition.field_checks import FieldCheck
from services.orchestrator.definition.graph import callers_in_circle, cycle_text
from services.orchestrator.definition.level import Level, level_of
from services.orchestrator.definition.node_checks import NodeCheck
from services.orchestrator.definition.order_checks import check_alarms, check_order, check_writers
from services.orchestrator.definition.trigger_checks import TriggerCheck, check_starts

MOST_NODES = 500
"""Of a definition, those inside loops among them."""
DEEPEST = 5
"""Loops inside one another."""
MOST_FAULTS = 200
"""Told at once."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A definition that was checked: without faults it can run. definition: None if there are any."""

    definition: Definition | None
    faults: tuple[Fault, ...]

    @property
    def validation(self) -> Validation:
        """As the command `validate` answers."""
        faults = [
            DefinitionFault(path=fault.field, line=fault.line or None, message=fault.message, mend=fault.mend)
            for fault in self.faults
        ]
        return Validation(ok=not faults, faults=faults)


def check_text(text: str, *, source: str, catalogue: Catalogue) -> Checked:
    """Checks a definition in YAML or JSON. source: the name of its file, for the faults."""
    try:
        return check_file(read_definition(text, source=source), catalogue=catalogue)
    except DocumentError as error:
        return Checked(None, error.faults)


def check_file(file: DefinitionFile, *, catalogue: Catalogue) -> Checked:
    """Checks a definition that was read; what is right of it is checked though the rest is broken."""
    found = dict.fromkeys(file.faults)
    if file.definition is not None:

        def tell(path: Path, message: str, mend: str) -> None:
            """See Tell; a fault that was told before is not told again."""
            found.setdefault(file.document.fault(path, message, mend))

        _check(file.definition, tell, catalogue=catalogue, broken=file.broken)
    faults = tuple(islice(sorted(found), MOST_FAULTS))
    return Checked(None if faults else file.definition, faults)


def _check(definition: Definition, tell: Tell, *, catalogue: Catalogue, broken: frozenset[Path]) -> None:
    others = catalogue.without(definition.pipeline)
    catalogue = replace(catalogue, pipelines={**others, definition.pipeline: definition})
    level = level_of(definition, catalogue, broken)
    derived = {**_given(others, DeriveNode), **dict.fromkeys(_tags(level, DeriveNode), definition.pipeline)}
    if not _is_bounded(level, tell):
        return
    fields = FieldCheck(level, tell, derived=derived)
    _check_nodes(fields)
    for name, reference in definition.outputs.items():
        fields.reference(("outputs", name), reference)
    TriggerCheck(definition, tell, catalogue=catalogue, derived=derived, broken=broken).check()
    check_starts(definition, tell, others=others, broken=broken, scope=catalogue.scope)
    check_order(level, tell)
    writers_elsewhere = {**_given(others, WriteNode), **_given(others, DeriveNode)}
    check_writers(level, tell, runs=definition.limits.runs, elsewhere=writers_elsewhere)
    check_alarms(level, tell, elsewhere=_alarms(others))
    _check_delays(definition, level, tell)
    _check_circle(definition, level, tell, others)


def _check_nodes(fields: FieldCheck) -> None:
    for name, node in fields.level.nodes.items():
        if fields.level.is_broken(name):
            continue
        NodeCheck(fields).check(name, node)
        if hasattr(node, "nodes"):
            _check_nodes(fields.inside(name))


def _is_bounded(level: Level, tell: Tell) -> bool:
    count = 0
    for within, name, _ in level.walk():
        count += 1
        if sum(part == "nodes" for part in within.path_of(name)) > DEEPEST + 1:
            tell(
                within.path_of(name), f"more than {DEEPEST} loops stand inside one another", "use a pipeline of its own"
            )
            return False
    if count > MOST_NODES:
        tell(("nodes",), f"{count} nodes are more than {MOST_NODES}", "move some to a pipeline of their own")
    return count <= MOST_NODES


def _check_delays(definition: Definition, level: Level, tell: Tell) -> None:
    for within, name, node in level.walk():
        if isinstance(node, DelayNode) and node.duration >= definition.limits.timeout:
            message = "is as long as the run may take: it never ends"
            tell((*within.path_of(name), "duration"), message, "shorten it, or lengthen limits.timeout")


def _check_circle(definition: Definition, level: Level, tell: Tell, others: Mapping[str, Definition]) -> None:
    calls = {name: frozenset(_called(level_of(other, Catalogue()))) for name, other in others.items()}
    mine: dict[str, Path] = {}
    for within, name, node in level.walk():
        if isinstance(node, PipelineNode):
            mine.setdefault(node.pipeline, (*within.path_of(name), "pipeline"))
    for called, place in mine.items():
        circle = callers_in_circle(definition.pipeline, {**calls, definition.pipeline: frozenset({called})})
        if circle:
            tell(place, f"pipelines run one another: {cycle_text(circle)}", "take one of these nodes away")


def _called(level: Level) -> Iterator[str]:
    return (node.pipeline for _, _, node in level.walk() if isinstance(node, PipelineNode))


def _tags(level: Level, kind: type[DeriveNode] | type[WriteNode]) -> Iterator[str]:
    return (node.tag for _, _, node in level.walk() if isinstance(node, kind))


def _given(others: Mapping[str, Definition], kind: type[DeriveNode] | type[WriteNode]) -> dict[str, str]:
    """The tags that other pipelines give, with the first of these."""
    found: dict[str, str] = {}
    for name, other in others.items():
        for tag in _tags(level_of(other, Catalogue()), kind):
            found.setdefault(tag, name)
    return found


def _alarms(others: Mapping[str, Definition]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, other in others.items():
        for _, _, node in level_of(other, Catalogue()).walk():
            if isinstance(node, AlarmNode):
                found.setdefault(node.alarm, name)
    return found
