"""Samples as lines of InfluxDB's line protocol: one narrow point per value. Pure.

    tag,site=plant,device=filler-plc,tag=tank-level f=50.3,q=192i 1700000000000000

The field is named after the type, so that a tag whose type changes can never collide with its own past:
    f float · i integer of 64 bits · b bool · s string, and integers beyond 64 bits as decimal text · a array as JSON
Every point has q, the quality; a tag without a usable value has q alone. Times are microseconds.
Source: InfluxDB v2, line protocol reference.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from contracts.topic import check_level
from contracts.v1.frame import GOOD
from contracts.v1.frame_codec import SampleStruct, WireValue
from services.recorder.embedded.columns import quality_of

MEASUREMENT = "tag"

_INT64 = range(-(1 << 63), 1 << 63)


class LineWriter:
    """Writes the lines of one site."""

    def __init__(self, *, site: str) -> None:
        self._site = check_level("site", site)
        self._prefixes: dict[tuple[str, str], str] = {}

    def lines(self, device: str, samples: Iterable[SampleStruct]) -> Iterator[str]:
        """A line per value, without line end. Device and tags match the level grammar: they need no escapes.

        Raises TopicError where they do not: a line end in a tag cannot be escaped, so such a name must not get here.
        """
        for sample in samples:
            odd = {*(sample.q or ()), *(sample.dt or ())}
            tail = f",q={GOOD}i {sample.t}"
            for tag, value in sample.v.items():
                prefix = self._prefixes.get((device, tag)) or self._prefix(device, tag)
                if tag in odd or value is None:
                    yield _odd(prefix, sample, tag, value)
                elif type(value) is float:
                    yield f"{prefix}f={value!r}{tail}"
                else:
                    yield f"{prefix}{field(value)}{tail}"

    def _prefix(self, device: str, tag: str) -> str:
        check_level("device", device)
        check_level("tag", tag)
        prefix = f"{MEASUREMENT},site={self._site},device={device},tag={tag} "
        self._prefixes[device, tag] = prefix
        return prefix


def field(value: bool | float | str | list[int | float]) -> str:
    """The value as a field with the name of its type."""
    return _FIELDS[type(value)](value)


def _odd(prefix: str, sample: SampleStruct, tag: str, value: WireValue) -> str:
    time = sample.t + (sample.dt or {}).get(tag, 0)
    given = "" if value is None else f"{field(value)},"
    return f"{prefix}{given}q={quality_of(sample, tag, value)}i {time}"


def _quoted(text: str) -> str:
    """Inside quotes only the quote and the backslash are escaped; a line end stands as it is."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _integer(value: int) -> str:
    return f"i={value}i" if value in _INT64 else f's="{value}"'


_FIELDS: dict[type, Callable[[Any], str]] = {
    float: lambda value: f"f={value!r}",
    bool: lambda value: "b=true" if value else "b=false",
    int: _integer,
    str: lambda value: f"s={_quoted(value)}",
    list: lambda value: f"a={_quoted(json.dumps(value, separators=(',', ':')))}",
}
