"""Durations as people write them: 250ms, 1s, 5m, 2h."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = r"^([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(ms|s|m|h|d)$"
_DURATION = re.compile(_PATTERN)
_BARE = re.compile(r"^[0-9]+(?:\.[0-9]+)?$")


def parse_duration(given: object) -> float:
    """Seconds, from a number with its unit: ms, s, m, h or d.

    Raises ValueError whose text reads `what is wrong; what would be right`, as plugins.api.document splits it. A bare
    number is refused, since half of its readers take it for milliseconds.
    """
    if isinstance(given, str) and (found := _DURATION.match(given.strip())):
        return float(found[1]) * _UNITS[found[2]]
    bare = str(given) if isinstance(given, str | int | float) else ""
    if _BARE.match(bare):
        raise ValueError(f"a duration needs its unit; write {bare}s or {bare}ms")
    raise ValueError("not a duration; write a number and its unit (ms, s, m, h or d), such as 1s or 100ms")


def duration_text(seconds: float) -> str:
    """The shortest text that parse_duration() reads as these seconds, to the nanosecond: 0.25 is 250ms, 60 is 60s."""
    amount, unit = (seconds * 1000, "ms") if seconds < 1 else (seconds, "s")
    return f"{f'{amount:.6f}'.rstrip('0').rstrip('.')}{unit}"


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _PATTERN, "examples": ["250ms", "1s", "5m", "2h"]}),
]
"""A field that is written as a duration and read as seconds. Combine with Field(gt=0) where zero means nothing."""

Duration = Annotated[
    Seconds, PlainSerializer(duration_text, when_used="json"), WithJsonSchema({"type": "string", "pattern": _PATTERN})
]
"""A field of a message that is seconds in the program and a duration with its unit in the JSON."""
