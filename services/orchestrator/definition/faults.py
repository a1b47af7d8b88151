"""How faults of a definition are told. Pure."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TypeAlias

from plugins.api.document import Path

Tell: TypeAlias = Callable[[Path, str, str], None]
"""Takes a fault: the path of the field, what is wrong, what would be right."""

_MOST_OFFERED = 12
_ARTICLES = {
    "array": "an array",
    "integer": "an integer",
    "object": "an object",
    "string": "a text",
    "boolean": "true or false",
    "null": "null",
}


def offer(given: str, known: Iterable[str]) -> str:
    """A mend for a name that there is not: the nearest one, and those there are."""
    names = sorted(known)
    near = get_close_matches(given, names, n=1)
    if near and len(names) > _MOST_OFFERED:
        return f"did you mean {near[0]!r}?"
    hint = f"did you mean {near[0]!r}? " if near else ""
    more = f" and {len(names) - _MOST_OFFERED} more" if len(names) > _MOST_OFFERED else ""
    return f"{hint}there are: {', '.join(names[:_MOST_OFFERED]) or 'none'}{more}"


def kind_text(kind: str | None) -> str:
    """A JSON type in words: `a number`."""
    return _ARTICLES.get(str(kind), f"a {kind}")


def fits(given: str | None, wanted: str | None) -> bool:
    """Whether a value of this JSON type can be taken for the other, as far as both are known."""
    return None in {given, wanted} or given == wanted or (given, wanted) == ("integer", "number")


def kind_of_value(value: object) -> str | None:
    """The JSON type of a value."""
    return {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
        type(None): "null",
    }.get(type(value))
