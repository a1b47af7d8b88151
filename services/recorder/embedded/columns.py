"""Frames turned by ninety degrees: from all tags at one time to one tag over all times. Pure.

Frames of one group nearly always hold the same tags in the same order, and of each tag values of one type, so that
floats become rows of eight bytes each while the frame is at hand, and a column is every so manieth of them: to walk
through a batch of Python's floats once per tag finds none of them in the processor's cache, and cost as much again.
Only tags that had a quality or a time of their own are walked through value by value.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, compress, groupby
from struct import Struct
from types import NoneType
from typing import Any

from contracts.v1.frame import BAD, GOOD
from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded.axis import Axis
from services.recorder.embedded.chunk import Encoder, Kind, Run, Value, kind_of

LONGEST_US = 86_400_000_000
"""No chunk spans more than a day: a reader need not look further back for one that reaches into its range."""

Kinds = tuple[type, ...]
"""Types of values, one for each tag."""

_MOST_TABLES = 8
"""Types of the values of one stream that are told apart: more of them than that change at random."""


@dataclass(frozen=True)
class Column:
    """The values of one tag, in an array if all are floats. quality: None if all are good. All have one length."""

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
        return {float} if isinstance(self.values, array) else set(map(type, self.values))


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk, its times, and what of it is to be searched for: first and last time in µs, number of values."""

    t0: int
    t1: int
    n: int
    times: bytes
    body: bytes


def columns(samples: Iterable[SampleStruct]) -> dict[str, Column]:
    """The column of every tag in the samples of one stream, in the order of the samples."""
    stream = Stream()
    for sample in samples:
        stream.add(sample)
    return stream.columns()


class Stream:
    """Samples of one stream, as they come; a float of theirs takes its eight bytes."""

    def __init__(self) -> None:
        self._tables: dict[tuple[tuple[str, ...], Kinds], _Table] = {}
        self._n = 0

    def add(self, sample: SampleStruct) -> None:
        """Takes the next one; what it is made of is let go of."""
        tags, values = tuple(sample.v), tuple(sample.v.values())
        kinds = tuple(map(type, values))
        table = self._tables.get((tags, kinds))
        if table is None:
            if len(self._tables) >= _MOST_TABLES:
                kinds = (object,) * len(tags)
            table = self._tables.setdefault((tags, kinds), _Table(tags, kinds))
        table.add(self._n, sample, values)
        self._n += 1

    def columns(self) -> dict[str, Column]:
        """The column of every tag, in the order of the samples."""
        pieces: dict[str, list[tuple[list[int], Column]]] = {}
        for table in self._tables.values():
            for tag, column in table.columns():
                pieces.setdefault(tag, []).append((table.places, column))
        return {tag: parts[0][1] if len(parts) == 1 else _joined(parts) for tag, parts in pieces.items()}


class _Table:
    """Samples with the same tags whose values have the same types. kinds: object stands for any.

    places: which ones of the stream's samples these are.
    """

    def __init__(self, tags: tuple[str, ...], kinds: Kinds) -> None:
        self.places: list[int] = []
        self._tags = tags
        self._kinds = kinds
        self._is_float = [kind is float for kind in kinds]
        self._is_other = [kind is not float for kind in kinds]
        self._width = sum(self._is_float)
        self._row = Struct(f"={self._width}d")
        self._times: list[int] = []
        self._floats = array("d")
        self._others: list[tuple[Value, ...]] = []
        self._said: dict[int, SampleStruct] = {}

    def add(self, place: int, sample: SampleStruct, values: tuple[Value, ...]) -> None:
        """Takes the next one. values: those in it."""
        if sample.q or sample.dt:
            self._said[len(self._times)] = SampleStruct(t=sample.t, v={}, q=sample.q, dt=sample.dt)
        self.places.append(place)
        self._times.append(sample.t)
        if self._width == len(values):
            self._floats.frombytes(self._row.pack(*values))
            return
        self._floats.frombytes(self._row.pack(*compress(values, self._is_float)))
        self._others.append(tuple(compress(values, self._is_other)))

    def columns(self) -> Iterator[tuple[str, Column]]:
        """Of each tag its column."""
        axis = Axis(self._times)
        odd = set(chain.from_iterable(chain(said.q or (), said.dt or ()) for said in self._said.values()))
        floats = (self._floats[at :: self._width] for at in range(self._width))
        others = iter(zip(*self._others, strict=True))
        for tag, kind in zip(self._tags, self._kinds, strict=True):
            values: Sequence[Value] = next(floats) if kind is float else next(others)
            plain = kind is float or not (kind is NoneType or (kind is object and None in values))
            yield tag, Column(axis, values) if plain and tag not in odd else self._odd(tag, values, axis)

    def _odd(self, tag: str, values: Sequence[Value], axis: Axis) -> Column:
        times, quality = list(self._times), [BAD if value is None else GOOD for value in values]
        for at, said in self._said.items():
            times[at] += (said.dt or {}).get(tag, 0)
            quality[at] = quality_of(said, tag, values[at])
        return Column(axis if times == self._times else Axis(times), values, quality)


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
        self._times: dict[bytes, bytes] = {}

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
        times = self._times_of(column.axis.packed(start, end))
        body = self._encoder.encode(kind, values, runs)
        return Packed(column.times[start], column.times[end - 1], end - start, times, body)

    def _times_of(self, packed: bytes) -> bytes:
        """Compressed once for all tags that share them."""
        if packed not in self._times:
            self._times[packed] = self._encoder.compressed(packed)
        return self._times[packed]


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
