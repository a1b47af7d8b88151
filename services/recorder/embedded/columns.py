"""Frames turned by ninety degrees: from all tags at one time to one tag over all times. Pure.

Frames of one group nearly always hold the same tags in the same order, so that whole columns come out of one zip();
only tags that had a quality or a time of their own are walked through value by value.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import Any

from contracts.v1.frame import BAD, GOOD
from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded.axis import Axis
from services.recorder.embedded.chunk import Encoder, Kind, Run, Value, kind_of

LONGEST_US = 86_400_000_000
"""No chunk spans more than a day: a reader need not look further back for one that reaches into its range."""


@dataclass(frozen=True)
class Column:
    """The values of one tag. quality: None if all are good. All have one length."""

    axis: Axis
    values: Sequence[Value]
    quality: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def times(self) -> Sequence[int]:
        """In µs, of each value."""
        return self.axis.times

    @cached_property
    def types(self) -> set[type]:
        """Of the values."""
        return set(map(type, self.values))


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk and what of it is to be searched for: first and last time in µs, number of values."""

    t0: int
    t1: int
    n: int
    body: bytes


def columns(samples: Sequence[SampleStruct]) -> dict[str, Column]:
    """The column of every tag in the samples of one stream, in the order of the samples."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, sample in enumerate(samples):
        alike.setdefault(tuple(sample.v), []).append(place)
    pieces: dict[str, list[tuple[list[int], Column]]] = {}
    for tags, places in alike.items():
        for tag, column in _pieces(tags, [samples[place] for place in places]):
            pieces.setdefault(tag, []).append((places, column))
    return {tag: parts[0][1] if len(parts) == 1 else _joined(parts) for tag, parts in pieces.items()}


def _pieces(tags: tuple[str, ...], rows: Sequence[SampleStruct]) -> Iterator[tuple[str, Column]]:
    axis = Axis([row.t for row in rows])
    odd = set(chain.from_iterable(chain(row.q or (), row.dt or ()) for row in rows))
    for tag, values in zip(tags, zip(*(row.v.values() for row in rows), strict=True), strict=True):
        yield tag, _odd(tag, rows, values) if tag in odd or None in values else Column(axis, values)


def _odd(tag: str, rows: Sequence[SampleStruct], values: Sequence[Value]) -> Column:
    times = [row.t + row.dt.get(tag, 0) if row.dt else row.t for row in rows]
    return Column(Axis(times), values, [quality_of(row, tag, value) for row, value in zip(rows, values, strict=True)])


def quality_of(sample: SampleStruct, tag: str, value: Value) -> int:
    """The tag's quality in the sample. No value without a word about it is bad: the contract asks for the word."""
    said = sample.q.get(tag) if sample.q else None
    if said is not None:
        return said.q
    return BAD if value is None else GOOD


def _joined(parts: Sequence[tuple[Sequence[int], Column]]) -> Column:
    """The parts as one, in the order of the samples: of two values at one time the later one counts."""
    quality = None
    if any(column.quality is not None for _, column in parts):
        quality = list(chain.from_iterable(column.quality or [GOOD] * len(column) for _, column in parts))
    whole = Column(
        Axis(list(chain.from_iterable(column.times for _, column in parts))),
        list(chain.from_iterable(column.values for _, column in parts)),
        quality,
    )
    places = list(chain.from_iterable(places for places, _ in parts))
    return _taken(whole, sorted(range(len(places)), key=places.__getitem__))


def ordered(column: Column) -> Column:
    """The column in the order of time; of two values at one time the later one alone."""
    if column.axis.ascending:
        return column
    last = {time: at for at, time in enumerate(column.times)}
    return _taken(column, [last[time] for time in sorted(last)])


class Packer:
    """Packs columns into chunks of at most `most` values."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._encoder = Encoder()

    def pack(self, column: Column) -> Iterator[Packed]:
        """The chunks of a column that is ordered(): each of one kind, in time order, and at most a day long."""
        for kind, part in _by_kind(column):
            start = 0
            while start < len(part):
                end = min(start + self._most, bisect_right(part.times, part.times[start] + LONGEST_US, lo=start))
                yield self._packed(kind, part, start, end)
                start = end

    def _packed(self, kind: Kind, column: Column, start: int, end: int) -> Packed:
        values = column.values[start:end]
        if column.quality is None:
            runs = [Run(end - start, GOOD, True)]
        else:
            runs = _runs(values, column.quality[start:end])
            values = [value for value in values if value is not None]
        body = self._encoder.encode(kind, column.axis.packed(start, end), values, runs)
        return Packed(column.times[start], column.times[end - 1], end - start, body)


def _by_kind(column: Column) -> Iterator[tuple[Kind, Column]]:
    """The column in parts of one kind each; times without a value go with the first kind."""
    kinds = _kinds(column)
    there = [kind for kind in dict.fromkeys(kinds) if kind is not Kind.NONE]
    if len(there) <= 1:
        yield (there[0] if there else Kind.NONE), column
        return
    first, *others = there
    yield first, _taken(column, [at for at, kind in enumerate(kinds) if kind in {first, Kind.NONE}])
    for other in others:
        yield other, _taken(column, [at for at, kind in enumerate(kinds) if kind is other])


def _kinds(column: Column) -> Sequence[Kind]:
    """The kind of each value, or one for all."""
    values: Sequence[Any] = column.values
    types = column.types
    if types == {int}:
        ends = {kind_of(min(values)), kind_of(max(values))}
        return [*ends] if len(ends) == 1 else [kind_of(value) for value in values]
    return [kind_of(values[0])] if len(types) == 1 else [kind_of(value) for value in values]


def _taken(column: Column, order: Sequence[int]) -> Column:
    quality = None if column.quality is None else [column.quality[at] for at in order]
    return Column(Axis([column.times[at] for at in order]), [column.values[at] for at in order], quality)


def _runs(values: Sequence[Value], quality: Sequence[int]) -> list[Run]:
    states = zip(quality, (value is not None for value in values), strict=True)
    return [Run(sum(1 for _ in group), q, present) for (q, present), group in groupby(states)]
