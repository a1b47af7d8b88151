"""What a run carries from node to node, and how much of it: every value fits into a message, however it arose. Pure."""

import hashlib
from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec

MOST_BYTES = 960 << 10
"""As JSON, of all outputs of a node, or all inputs of a run, together: a message of 1 MiB holds them."""
MOST_HELD_BYTES = 32 << 20
"""As JSON, of what the nodes of a run have given and it still holds: a loop's turn lets go of it at its end."""
DEEPEST = 64
"""Lists and objects that stand inside one another."""
MOST_VALUE_BYTES = 64 << 10
"""Of an event: a value longer than this is told by its size and digest alone."""
MOST_EVENT_BYTES = 512 << 10
"""An event longer than this has more of its values told so, the longest first."""
_CUT_BYTES = 128
"""A value told by its size and digest is about so long itself."""
_VALUES = ("outputs", "inputs", "values")
_ENCODER = msgspec.json.Encoder()
_FRAMING_BYTES = 4
_SCALAR_BYTES = 24
_NESTING = frozenset((list, dict))
_SCALARS = frozenset((float, bool, type(None)))


class NotCarried(Exception):
    """A value is longer or deeper than a run carries. The message goes on from "it is"."""


def json_bytes(value: object) -> bytes:
    """The value as JSON. Raises NotCarried: it is nested too deep, or holds what is not JSON."""
    try:
        data = _ENCODER.encode(value)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeEncodeError:
        raise NotCarried("no JSON: a text holds half a character (a lone surrogate)") from None
    except TypeError as error:
        raise NotCarried(f"no JSON: {error}") from None
    # Most values hold few lists: those need no closer look.
    if data.count(b"[") + data.count(b"{") > DEEPEST and _is_too_deep(value):
        raise _too_deep()
    return data


def carried_bytes(values: Mapping[str, Any], *, most: int = MOST_BYTES) -> int:
    """About how many bytes of JSON they are. Raises NotCarried; looks at little more than `most` to find that out.

    That holds as long as each value passed through here by itself before: a list of what was found right by itself has
    to be added up by whoever makes it.
    """
    total = 0
    for name, value in values.items():
        total += len(name) + _FRAMING_BYTES + (_SCALAR_BYTES if type(value) in _SCALARS else len(json_bytes(value)))
        if total > most:
            raise too_long(most)
    return total


def too_long(most: int = MOST_BYTES) -> NotCarried:
    """Values are more than so many bytes."""
    return NotCarried(f"longer than {most >> 10} KiB; hand on less, or leave what is long to a compute function")


def check_held(size: int) -> None:
    """Raises NotCarried: a run does not hold so many bytes."""
    if size > MOST_HELD_BYTES:
        raise NotCarried(
            f"more than a run holds at a time, {MOST_HELD_BYTES >> 20} MiB; hand on less, or fewer at a time"
        )


def _too_deep() -> NotCarried:
    return NotCarried(f"nested too deep: more than {DEEPEST} lists and objects stand inside one another")


def _is_too_deep(value: object) -> bool:
    level: list[Any] = [[value]]
    for _ in range(DEEPEST + 1):
        parts = chain.from_iterable(part.values() if type(part) is dict else part for part in level)
        level = [part for part in parts if type(part) in _NESTING]
        if not level:
            return False
    return True


def as_told(data: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The data of an event with its longest values told by size and digest alone, and the same as JSON.

    Values that were found right by themselves: so few of them are longer than an event that enough can be told so.
    """
    text = _ENCODER.encode(data)
    if len(text) <= MOST_VALUE_BYTES:
        return data, text
    told = {**data, **{field: dict(data[field]) for field in _VALUES if field in data}}
    values = [(_ENCODER.encode(value), field, name) for field in _VALUES for name, value in told.get(field, {}).items()]
    values.sort(key=lambda value: len(value[0]), reverse=True)
    length = len(text)
    for value, field, name in values:
        if len(value) <= MOST_VALUE_BYTES and (length <= MOST_EVENT_BYTES or len(value) <= _CUT_BYTES):
            break
        told[field][name] = {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
        length -= len(value) - _CUT_BYTES
    return told, _ENCODER.encode(told)


def is_cut(values: Mapping[str, Any]) -> bool:
    """Whether some of these are told by their size and digest alone."""
    return any(isinstance(value, dict) and value.keys() == {"bytes", "sha256"} for value in values.values())
