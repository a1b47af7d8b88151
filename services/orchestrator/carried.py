"""What a run carries from node to node, and how much of it: every value fits into a message, however it arose. Pure."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec

MOST_BYTES = 960 << 10
"""As JSON, of all outputs of a node, or all inputs of a run, together: a message of 1 MiB holds them."""
DEEPEST = 64
"""Lists and objects that stand inside one another."""

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
