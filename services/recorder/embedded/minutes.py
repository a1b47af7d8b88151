"""The one-minute roll-up: what each minute of a tag amounts to, packed an hour to a row. Pure.

The body of an hour is a MessagePack array of columns, one entry for each minute that has points, compressed by zstd:
start of the minute in the hour (s) · n · usable · min · max · sum · area · covered (µs) · and of the first and of the
last point the time since the minute's start (µs), value and quality. An integer beyond 64 bits is an extension (1)
that holds its decimal digits.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import mul, sub
from typing import Any

import msgspec
import zstandard

from contracts.v1.frame import GOOD
from services.recorder.embedded.axis import MINUTE_US
from services.recorder.embedded.chunk import ChunkError
from services.recorder.embedded.columns import Column
from services.recorder.summary import Point, Summary, number_of, total

HOUR_US = 60 * MINUTE_US
Minute = tuple[int, Summary]
"""(start in µs, what its points amount to)."""
Row = tuple[Any, ...]
"""A minute's entries, one of each column."""
Columns = list[list[Any]]
"""The minutes of an hour, or none: of each entry that of every minute."""

_BIG = 1
_WIDTH = 14
_PLAIN = ({float}, {int})
_NUMBERS = {float, int, bool}


def minutes_of(column: Column) -> list[Minute]:
    """What each minute amounts to. column: in the order of its times, each of which it has once."""
    kinds = column.types
    numbers: Sequence[Any] | None = None
    if kinds in _PLAIN:
        numbers = list(column.values)
    elif kinds == {bool}:
        numbers = [1 if value else 0 for value in column.values]
    elif not kinds.isdisjoint(_NUMBERS):
        quality = column.quality or [GOOD] * len(column)
        points: list[Point] = list(zip(column.times, column.values, quality, strict=True))
        return [(start, Summary.of(points[first:end])) for start, first, end in column.axis.minutes]
    return [(start, _alike(column, numbers, first, end)) for start, first, end in column.axis.minutes]


def _alike(column: Column, numbers: Sequence[Any] | None, first: int, end: int) -> Summary:
    """Summary.of(), many times as fast. numbers: of every value, all of one type; None: none of them is a number."""
    times, n = column.times, end - first
    points = _point(column, first), _point(column, end - 1)
    if numbers is None:
        return Summary(n=n, first=points[0], last=points[1])
    here = numbers[first:end]
    return Summary(
        n=n,
        usable=n,
        min=min(here),
        max=max(here),
        sum=sum(here),
        first=points[0],
        last=points[1],
        area=sum(map(mul, here, column.axis.deltas[first : end - 1])),
        covered_us=times[end - 1] - times[first],
    )


def _point(column: Column, at: int) -> Point:
    return column.times[at], column.values[at], GOOD if column.quality is None else column.quality[at]


def row_of(start: int, summary: Summary) -> Row:
    """The minute's entries. summary: of at least one point."""
    first, last = summary.first, summary.last
    assert first is not None
    assert last is not None
    return (
        start % HOUR_US // 1_000_000,
        summary.n,
        summary.usable,
        summary.min,
        summary.max,
        summary.sum,
        summary.area,
        summary.covered_us,
        first[0] - start,
        *first[1:],
        last[0] - start,
        *last[1:],
    )


def no_minutes() -> Columns:
    """Columns without any minute."""
    return [[] for _ in range(_WIDTH)]


def summary_of(start: int, row: Sequence[Any]) -> Summary:
    """The minute that the entries tell of."""
    _, n, usable, low, high, added, area, covered, t0, v0, q0, t1, v1, q1 = row
    return Summary(n, usable, low, high, added, (start + t0, v0, q0), (start + t1, v1, q1), area, covered)


class HourPacker:
    """Packs and unpacks hours, one at a time: to make what (de)compresses them anew for each is half the cost."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    def pack(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """The body of an hour. columns: the entries of at least one minute, in the order of time."""
        try:
            packed = msgspec.msgpack.encode(columns)
        except OverflowError:
            packed = msgspec.msgpack.encode([[_storable(entry) for entry in column] for column in columns])
        return self._compressor.compress(packed)

    def unpack(self, body: bytes) -> Columns:
        """See unpack()."""
        return _unpacked(self._decompressor, body)


def unpack(body: bytes) -> Columns:
    """The columns of an hour. Raises ChunkError."""
    return _unpacked(zstandard.ZstdDecompressor(), body)


def _unpacked(decompressor: zstandard.ZstdDecompressor, body: bytes) -> Columns:
    try:
        columns = _DECODER.decode(decompressor.decompress(body))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise ChunkError(f"a row of the roll-up: {error}") from None
    if len(columns) != _WIDTH or len(set(map(len, columns))) != 1:
        raise ChunkError(f"a row of the roll-up has {len(columns)} columns; this version reads {_WIDTH} of one length")
    return columns


def _storable(entry: object) -> object:
    if type(entry) is int and not -(2**63) <= entry < 2**63:
        return msgspec.msgpack.Ext(_BIG, str(entry).encode())
    return [_storable(one) for one in entry] if isinstance(entry, list) else entry


def _restored(code: int, data: memoryview) -> int:
    if code != _BIG:
        raise ChunkError(f"a row of the roll-up has an entry of kind {code}; this version reads {_BIG}")
    return int(bytes(data))


_DECODER = msgspec.msgpack.Decoder(list[list[Any]], ext_hook=_restored)


class Minutes:
    """The minutes of a stretch of time in columns, so that many of them are put together at once.

    starts: of each minute in µs, ascending.
    """

    def __init__(self, hours: Iterable[tuple[int, list[list[Any]]]]) -> None:
        kept = list(hours)
        columns = [list(chain.from_iterable(parts)) for parts in zip(*(columns for _, columns in kept), strict=True)]
        bases = chain.from_iterable([hour] * len(columns[0]) for hour, columns in kept)
        columns = columns or no_minutes()
        self.starts = [base + second * 1_000_000 for base, second in zip(bases, columns[0], strict=True)]
        self._columns = columns
        self._firsts = [start + t0 for start, t0 in zip(self.starts, columns[8], strict=True)]
        self._lasts = [start + t1 for start, t1 in zip(self.starts, columns[11], strict=True)]
        gaps = list(map(sub, self._firsts[1:], self._lasts))
        if set(map(type, columns[12])) in _PLAIN:
            self._held, self._held_us = list(map(mul, columns[12], gaps)), gaps
        else:
            numbers = list(map(number_of, columns[12]))
            self._held = [0 if one is None else one * us for one, us in zip(numbers, gaps, strict=False)]
            self._held_us = [0 if one is None else us for one, us in zip(numbers, gaps, strict=False)]
        self._some_without_number = None in columns[3]

    def summary(self, first: int, end: int) -> Summary:
        """Of the minutes from place `first` to before `end`, at least one."""
        _, n, usable, low, high, added, area, covered, _, v0, q0, _, v1, q1 = self._columns
        here, between, last = slice(first, end), slice(first, end - 1), end - 1
        lows, highs = low[here], high[here]
        if self._some_without_number:
            lows, highs = [one for one in lows if one is not None], [one for one in highs if one is not None]
        return Summary(
            n=sum(n[here]),
            usable=sum(usable[here]),
            min=min(lows, default=None),
            max=max(highs, default=None),
            sum=total(added[here]),
            first=(self._firsts[first], v0[first], q0[first]),
            last=(self._lasts[last], v1[last], q1[last]),
            area=total([*area[here], *self._held[between]]),
            covered_us=sum(covered[here]) + sum(self._held_us[between]),
        )
