"""Samples as lines of InfluxDB's line protocol: one narrow point per value. Pure.

    tag,site=plant,device=filler-plc,tag=tank-level f=50.3,q=192i 1700000000000000

The field is named after the type, so that a tag whose type changes can never collide with its own past:
    f float · i integer of 64 bits · b bool · s string, and integers beyond 64 bits as decimal text · a array as JSON
Every point has q, the quality, unless it is left out where it says nothing new (see LineWriter.block); a tag without a
usable value has q alone. Times are microseconds.
Source: InfluxDB v2, line protocol reference.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from contracts.topic import check_level
from contracts.v1.frame import GOOD
from contracts.v1.frame_codec import SampleStruct, WireValue
from services.recorder.embedded.columns import quality_of

MEASUREMENT = "tag"

_INT64 = range(-(1 << 63), 1 << 63)
_PLAIN = {float: ("f=", ""), int: ("i=", "i"), bool: ("b=", "")}
"""Types whose JSON is their form in a line too: the field's name before it, what follows it."""
_MOST_SHAPES = 10_000
_SAYS_GOOD = b",q=%di " % GOOD


class _Shape(NamedTuple):
    """Lines of samples with the same tags and types.

    template: %b for each value, NUL for each time; no name holds either. integers: the places of their values.
    """

    template: bytes
    integers: list[int]


Told = dict[str, set[str]]
"""Tags by device whose latest point in a batch is good, and says so or follows one that does."""


class LineWriter:
    """Writes the lines of one site."""

    def __init__(self, *, site: str) -> None:
        self._site = check_level("site", site)
        self._prefixes: dict[tuple[str, str], str] = {}
        self._shapes: dict[tuple[str, tuple[str, ...], tuple[type, ...]], _Shape | None] = {}

    def block(self, device: str, samples: Iterable[SampleStruct], told: Told | None = None) -> bytes:
        """The same lines as lines() gives, as UTF-8 with a line end between them: three times as fast.

        What stands around a value is the same in each frame, and msgspec turns numbers into text faster than Python.
        told: of the blocks before in the batch; then q is left out of a good point whose tag is in it.
        """
        return b"\n".join(self._sample(device, sample, told) for sample in samples if sample.v)

    def _sample(self, device: str, sample: SampleStruct, told: Told | None) -> bytes:
        values = [*sample.v.values()]
        shape = None if sample.q or sample.dt or sample.big else self._shape(device, sample.v, values)
        if shape is None or any(values[at] not in _INT64 for at in shape.integers):
            if told is not None:
                told.setdefault(device, set()).difference_update(sample.v)
            return "\n".join(self.lines(device, (sample,))).encode()
        template = shape.template
        if told is not None:
            known = told.setdefault(device, set())
            if known.issuperset(sample.v):
                template = template.replace(_SAYS_GOOD, b" ")
            known.update(sample.v)
        texts = msgspec.json.encode(values)[1:-1].split(b",")
        return template.replace(b"\0", b"%d" % sample.t) % tuple(texts)

    def _shape(self, device: str, tags: Iterable[str], values: list[WireValue]) -> _Shape | None:
        """None if there are values of other types than plain ones."""
        key = (device, tuple(tags), tuple(map(type, values)))
        try:
            return self._shapes[key]
        except KeyError:  # told apart from None; and another thread may be here too
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[key] = self._made(*key)
            return shape

    def _made(self, device: str, tags: tuple[str, ...], types: tuple[type, ...]) -> _Shape | None:
        if not _PLAIN.keys() >= set(types):
            return None
        before = [f"{self._known(device, tag)}{_PLAIN[one][0]}" for tag, one in zip(tags, types, strict=True)]
        behind = [f"{_PLAIN[one][1]},q={GOOD}i " for one in types]
        return _Shape(
            template="\n".join(f"{here}%b{there}\0" for here, there in zip(before, behind, strict=True)).encode(),
            integers=[at for at, one in enumerate(types) if one is int],
        )

    def lines(self, device: str, samples: Iterable[SampleStruct]) -> Iterator[str]:
        """A line per value, without line end. Device and tags match the level grammar: they need no escapes.

        Raises TopicError where they do not: a line end in a tag cannot be escaped, so such a name must not get here.
        """
        for sample in samples:
            odd = {*(sample.q or ()), *(sample.dt or ())}
            tail = f",q={GOOD}i {sample.t}"
            for tag, value in sample.v.items():
                prefix = self._known(device, tag)
                if tag in odd or value is None:
                    yield _odd(prefix, sample, tag, value)
                elif type(value) is float:
                    yield f"{prefix}f={value!r}{tail}"
                else:
                    yield f"{prefix}{field(value)}{tail}"

    def _known(self, device: str, tag: str) -> str:
        return self._prefixes.get((device, tag)) or self._prefix(device, tag)

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
