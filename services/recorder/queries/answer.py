"""What was found, as answers of the contract: bounded in points and in bytes, with large integers as text. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import msgspec

from contracts.v1.history import Aggregate, HistoryColumns, HistoryFound, TagsThen, TagThen
from contracts.v1.message import LAST_SAFE_INTEGER, Value
from services.recorder.queries.question import Place, Series
from services.recorder.summary import Point, Summary, number_of

MOST_BYTES = 512 << 10
"""Of the points in one answer, but for the first: a message on the bus has at most twice that."""
_TIME_BYTES = 17
"""Of a time or a position, with its comma."""
_SERIES_BYTES = 200
"""Of a series without its points and names."""
POINT_COLUMNS = ("v", "q")


@dataclass(slots=True)
class _Columns:
    """What there is of one series so far."""

    t: list[int]
    columns: dict[str, list[Value]]
    big: dict[str, list[int]]


class Page:
    """An answer to `query` as it grows. names: of the columns. limit: how many points or buckets it holds."""

    def __init__(self, names: Sequence[str], limit: int) -> None:
        self._names = names
        self._left = limit
        self._room = MOST_BYTES
        self._series: dict[Series, _Columns] = {}

    @property
    def left(self) -> int:
        """How many more it may hold."""
        return self._left

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it yet."""
        return not self._series

    def add(self, one: Series, t: int, row: Sequence[Value]) -> bool:
        """Adds a row to the columns of a series, each row later than the one before; False if it does not fit."""
        told = [_told(value) for value in row]
        size = _TIME_BYTES + sum(len(msgspec.json.encode(value)) + (_TIME_BYTES if big else 1) for value, big in told)
        if one not in self._series:
            size += _SERIES_BYTES + sum(map(len, (*one, *self._names)))
        if self._series and (self._left == 0 or size > self._room):
            return False
        known = self._series.setdefault(one, _Columns([], {name: [] for name in self._names}, {}))
        for name, (value, big) in zip(self._names, told, strict=True):
            if big:
                known.big.setdefault(name, []).append(len(known.t))
            known.columns[name].append(value)
        known.t.append(t)
        self._room -= size
        self._left -= 1
        return True

    def found(self, go_on: Place | None) -> HistoryFound:
        """The answer. go_on: where there may be more."""
        series = [
            HistoryColumns(device=device, tag=tag, t=known.t, columns=known.columns, big=known.big or None)
            for (device, tag), known in self._series.items()
        ]
        return HistoryFound(series=series, next=None if go_on is None else str(go_on))


class ThenPage:
    """An answer to `at` as it grows. limit: how many tags are looked at for it."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._room = MOST_BYTES
        self._tags: list[TagThen] = []
        self._later = 0

    def add(self, one: Series, point: Point | None) -> bool:
        """Adds a tag with its last point by then; False if it does not fit."""
        if self._left == 0:
            return False
        if point is None:
            self._later += 1
        else:
            t, given, q = point
            value, big = _told(given)
            then = TagThen(device=one.device, tag=one.tag, t=t, value=value, q=q, big=big or None)
            size = len(then.model_dump_json()) + 1
            if self._tags and size > self._room:
                return False
            self._tags.append(then)
            self._room -= size
        self._left -= 1
        return True

    def found(self, go_on: Place | None) -> TagsThen:
        """The answer. go_on: where there are more."""
        return TagsThen(tags=self._tags, later=self._later, next=None if go_on is None else str(go_on))


def bucket_row(
    summary: Summary, aggregates: Sequence[Aggregate], *, start: int, held_to: int, held: Point | None
) -> list[Value]:
    """What is told of a bucket. held: the last point before it, as it counts. held_to: until when its last one holds:
    the bucket's end, but no time that is still to come.
    """
    told: list[Value] = []
    for aggregate in aggregates:
        match aggregate:
            case Aggregate.MEAN:
                told.append(_ratio(summary.sum, summary.usable))
            case Aggregate.MIN:
                told.append(summary.min)
            case Aggregate.MAX:
                told.append(summary.max)
            case Aggregate.FIRST:
                told.append(None if summary.first is None else summary.first[1])
            case Aggregate.LAST:
                told.append(None if summary.last is None else summary.last[1])
            case Aggregate.COUNT:
                told.append(summary.usable)
            case Aggregate.SUM:
                told.append(summary.sum if summary.usable else None)
            case Aggregate.TWA:
                told.append(_held_mean(summary, start=start, end=held_to, held=held))
    return told


def _held_mean(summary: Summary, *, start: int, end: int, held: Point | None) -> float | None:
    """The mean over time of what is held from `start` to `end`. held: the last point before."""
    before = Summary() if held is None else Summary.of([(start, held[1], held[2])])
    # A point at the very end holds for no time: it only ends what the last one holds.
    whole = summary if summary.first is not None and summary.first[0] == start else before.then(summary)
    whole = whole.then(Summary.of([(end, None, 0)]))
    return _ratio(whole.area, whole.covered_us)


def _ratio(total: float, parts: int) -> float | None:
    """None if there are no parts, or it is beyond the floats."""
    try:
        return total / parts if parts else None
    except OverflowError:
        return None


def _told(value: Value) -> tuple[Value, bool]:
    """The value as it travels, and whether it is an integer that does so as text."""
    number = number_of(value)
    if isinstance(value, int) and abs(value) > LAST_SAFE_INTEGER:
        return str(value), True
    if isinstance(number, float) and not isfinite(number):
        return None, False
    return value, False
