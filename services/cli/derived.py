"""The nodes of some types in a definition, those in loops too. Pure."""

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import JsonValue

from contracts.v1.definition import Definition


def nodes_of_type(definition: Definition, types: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Type and content of each."""
    yield from _found(definition.model_dump(mode="json")["nodes"], types)


def _found(part: JsonValue, types: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        kind = part.get("type")
        if isinstance(kind, str) and kind in types:
            yield kind, part
        for below in part.values():
            yield from _found(below, types)
    elif isinstance(part, list):
        for below in part:
            yield from _found(below, types)
