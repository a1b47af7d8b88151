"""A definition's text becomes the definition, or faults; what is right of it can be checked further. Pure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from contracts.v1.definition import (
    TRIGGER_KINDS,
    CronTrigger,
    Definition,
    EventTrigger,
    EveryTrigger,
    FrameTrigger,
    InputPort,
    TagTrigger,
)
from contracts.v1.node import Node
from contracts.v1.pipeline import MAX_TEXT
from plugins.api.document import Document, DocumentError, Fault, Path
from services.orchestrator.definition.faults import offer

NODE_MODELS: Mapping[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(Node)[0])
}
_TRIGGER_MODELS: Mapping[str, type[BaseModel]] = dict(
    zip(TRIGGER_KINDS, (EveryTrigger, CronTrigger, FrameTrigger, TagTrigger, EventTrigger), strict=True)
)
_STAND_INS: Mapping[str, Any] = {
    "nodes": {"type": "delay", "duration": "1ms"},
    "triggers": {"every": "1h"},
    "inputs": {"type": "object", "optional": True},
}
"""What takes the place of a part that cannot be read, while the rest is checked."""
_ROUNDS = 20
_UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class DefinitionFile:
    """A text that was read. definition: with stand-ins where `broken` says so; None if nothing of it can be used.

    faults: of form; those of meaning are found by validation.
    """

    document: Document
    definition: Definition | None
    broken: frozenset[Path]
    faults: tuple[Fault, ...]


def read_definition(text: str, *, source: str) -> DefinitionFile:
    """Reads YAML or JSON. Raises DocumentError if it is neither."""
    if len(text) > MAX_TEXT:
        raise DocumentError([Fault(source, 1, "", f"is longer than {MAX_TEXT} characters", "split the pipeline")])
    document = _parsed(text, source)
    if not isinstance(document.data, dict):
        raise DocumentError([Fault(source, 1, "", "no pipeline", "write pipeline, triggers and nodes")])
    return _Reader(document).read()


def is_definition(text: str, *, source: str) -> bool:
    """Whether the text, in YAML or JSON, means a pipeline. Raises DocumentError if it is neither."""
    data = _parsed(text, source).data
    return isinstance(data, dict) and "pipeline" in data


def _parsed(text: str, source: str) -> Document:
    """The document; of a JSON text its values are those of JSON, where YAML 1.1 would take 1e-7 for a word."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return Document.parse(text, source=source)
    # YAML's reader only tells the lines here; it refuses tabs, which a JSON text may be indented with.
    return replace(Document.parse(text.replace("\t", " "), source=source), data=data)


class _Reader:
    """Takes out what is broken until the rest is a definition."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._faults: dict[Fault, None] = {}
        self._broken: set[Path] = set()

    def read(self) -> DefinitionFile:
        """What is left of the definition, and a fault for each thing taken out.

        No definition if what is wrong cannot be taken out, or there is more of it after _ROUNDS.
        """
        data = self._plain(self._document.data, ())
        definition = None
        for _ in range(_ROUNDS):
            try:
                definition = Definition.model_validate_json(json.dumps(data))
                break
            except ValidationError as error:
                items = [dict(item) for item in error.errors(include_url=False)]
            out = [self._take_out(item, data) for item in items]
            if not all(out):
                break
        return DefinitionFile(self._document, definition, frozenset(self._broken), tuple(sorted(self._faults)))

    def _plain(self, value: Any, path: Path) -> Any:  # noqa: ANN401 - whatever YAML has
        """The value as JSON has it: keys are words, a date is a text."""
        if isinstance(value, dict):
            return {str(key): self._plain(one, (*path, str(key))) for key, one in value.items()}
        if isinstance(value, list):
            return [self._plain(one, (*path, place)) for place, one in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            self._faults[self._document.fault(path, f"{value} is no number", "write a finite number")] = None
            return None
        return value if value is None or isinstance(value, bool | int | float | str) else str(value)

    def _take_out(self, item: dict[str, Any], data: dict[str, Any]) -> bool:
        """Tells the fault, and puts a stand-in where it is; False if there is none for it."""
        at, model, rest = _place(item["loc"])
        self._faults.setdefault(self._fault(item, at, model, rest))
        if not at:
            return self._take_out_field(rest, data)
        self._broken.add(at)
        container: Any = data
        for part in at[:-1]:
            if isinstance(container, dict) and part not in container:
                return True  # what is around it was taken out already
            container = container[part]
        if rest == ("[key]",) or at[0] == "outputs":
            if len(container) == 1 and at[-2] == "nodes":
                return False
            container.pop(at[-1], None)  # two faults of one key take it out once
        else:
            container[at[-1]] = _STAND_INS[str(at[-2])]
        return True

    def _take_out_field(self, rest: Path, data: dict[str, Any]) -> bool:
        if not rest or rest[0] == "nodes":
            return False
        field = str(rest[0])
        self._broken.add((field,))
        if field == "pipeline":
            data[field] = _UNNAMED
        else:
            data.pop(field, None)
        return True

    def _fault(self, item: dict[str, Any], at: Path, model: type[BaseModel], rest: Path) -> Fault:
        if item["type"] == "union_tag_invalid":
            given = str(item["ctx"]["tag"])
            return self._document.fault((*at, "type"), f"there is no type of node {given!r}", offer(given, NODE_MODELS))
        if item["type"] == "too_short" and rest == ("nodes",):
            return self._document.fault((*at, "nodes"), "there are no nodes", "write at least one")
        if item["type"] == "union_tag_not_found":
            return self._document.fault(at, "type is missing", offer("", NODE_MODELS))
        if rest == ("[key]",):
            mend = "use 1 to 63 of a-z 0-9 _ - and begin with a letter or digit"
            return self._document.fault(at, f"{at[-1]!r} cannot be a name", mend)
        return self._document.fault_of({**item, "loc": rest}, at=at, model=model)


def _place(loc: tuple[int | str, ...]) -> tuple[Path, type[BaseModel], Path]:
    """Of pydantic's location: the innermost part that can be taken out, its model, and the place inside it.

    The tags by which pydantic says which member of a union it took are left out.
    """
    at: Path = ()
    model: type[BaseModel] = Definition
    rest = tuple(loc)
    while len(rest) >= 2 and rest[0] == "nodes":
        at, rest = (*at, "nodes", rest[1]), rest[2:]
        if rest and rest[0] in NODE_MODELS:
            model, rest = NODE_MODELS[str(rest[0])], rest[1:]
    if not at and len(rest) >= 2 and rest[0] in {"triggers", "inputs", "outputs"}:
        at, rest = (rest[0], rest[1]), rest[2:]
        if at[0] == "triggers" and rest and rest[0] in _TRIGGER_MODELS:
            model, rest = _TRIGGER_MODELS[str(rest[0])], rest[1:]
        elif at[0] == "inputs":
            model = InputPort
    return at, model, rest
