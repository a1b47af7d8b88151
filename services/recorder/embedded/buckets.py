"""Buckets of one tag: put together from the minutes of the roll-up, and from raw points where a minute will not do."""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import Any

from services.recorder.embedded.axis import MINUTE_US
from services.recorder.embedded.chunk import decode
from services.recorder.embedded.minutes import HOUR_US, HourPacker, Minutes
from services.recorder.embedded.raw import last_written, points_between, raw_from, stretches
from services.recorder.embedded.rollup import by_minute, joined_in_order
from services.recorder.summary import Point, Summary

Bucket = tuple[int, Summary]
"""(start in µs, what its points amount to)."""
Range = tuple[int, int]
"""(start, end) in µs."""


_AT_ONCE = 168
"""Hours of the roll-up that are in memory at a time."""
_RAW_AT_ONCE = 50_000
"""Raw values that are in memory at a time, about: an hour may hold millions."""


@dataclass(frozen=True)
class Grid:
    """Buckets of step_us, one of which begins at `phase`; what of them lies in [t0, t1) (µs)."""

    t0: int
    t1: int
    step_us: int
    phase: int

    def start_of(self, time: int) -> int:
        """Start of the bucket that the time is in."""
        return time - (time - self.phase) % self.step_us

    def end_of(self, time: int) -> int:
        """End of the bucket that the time is in, wherever the grid ends."""
        return self.start_of(time) + self.step_us

    def divided(self, minutes: Sequence[int]) -> set[int]:
        """Those of the minutes, by their starts in order, within which a bucket, or the grid, begins or ends."""
        if self.step_us < MINUTE_US:
            return set(minutes[bisect_right(minutes, self.t0 - MINUTE_US) : bisect_left(minutes, self.t1)])
        edges = (self.t0, *range(self.end_of(self.t0), self.t1, self.step_us), self.t1)
        return {edge - edge % MINUTE_US for edge in edges if edge % MINUTE_US}.intersection(minutes)


def summaries(
    database: sqlite3.Connection, series: int | None, fresh: Sequence[Point], *, t0: int, t1: int, step_us: int
) -> list[Bucket]:
    """The buckets from t0 on that have points; the last one ends at t1.

    series: None if nothing is packed. fresh: what waits in the spool, in order.
    """
    hours = database.execute(
        "SELECT t FROM rollup WHERE series = ? AND t > ? AND t < ? ORDER BY t", (series, t0, t1)
    ).fetchall()
    found: dict[int, Summary] = {}
    for start, end in pairwise([t0, *(hour for (hour,) in hours[_AT_ONCE::_AT_ONCE]), t1]):
        grid = Grid(start, end, step_us, phase=t0)
        for time, summary in _pieces(database, series, fresh, grid):
            bucket = grid.start_of(time)
            found[bucket] = found[bucket].then(summary) if bucket in found else summary
    return list(found.items())


def _pieces(database: sqlite3.Connection, series: int | None, fresh: Sequence[Point], grid: Grid) -> list[Bucket]:
    """Parts of buckets in the order of time, each with the time of its beginning."""
    fresh = fresh[bisect_left(fresh, grid.t0, key=_time) : bisect_left(fresh, grid.t1, key=_time)]
    horizon = raw_from(database)
    minutes = Minutes([] if series is None else _hours(database, series, grid))
    late = {start: Summary.of(points) for start, points in by_minute(fresh) if start < horizon}
    loose = {start for start, _ in by_minute(fresh) if start >= horizon}
    loose.update(start for start in grid.divided(minutes.starts) if start >= horizon)
    ranges = _ranges(minutes.starts, loose)
    pieces = [
        *_whole(minutes, loose.union(late), grid),
        *_joined(minutes, late, grid),
        *_taken_apart(database, series, ranges, fresh, grid),
    ]
    return sorted(pieces, key=itemgetter(0))


def hours_between(database: sqlite3.Connection, series: int, t0: int, t1: int) -> int:
    """How many hours of the roll-up reach into t0 <= time < t1."""
    found = database.execute(
        "SELECT count(*) FROM rollup WHERE series = ? AND t > ? AND t < ?", (series, t0 - HOUR_US, t1)
    )
    return int(found.fetchone()[0])


def _hours(database: sqlite3.Connection, series: int, grid: Grid) -> Iterator[tuple[int, list[list[Any]]]]:
    rows = database.execute(
        "SELECT t, body FROM rollup WHERE series = ? AND t > ? AND t < ? ORDER BY t",
        (series, grid.t0 - HOUR_US, grid.t1),
    )
    packer = HourPacker()
    return ((hour, packer.unpack(body)) for hour, body in rows)


def _whole(minutes: Minutes, apart: set[int], grid: Grid) -> Iterator[Bucket]:
    """Minutes that lie in one bucket each, those in a row put together; with the start of the first one.

    apart: minutes that come otherwise; a row ends at each, also where the roll-up has nothing of it yet.
    """
    starts, ends = minutes.starts, sorted(apart)
    first, end = bisect_left(starts, grid.t0), bisect_left(starts, grid.t1)
    while first < end:
        start = starts[first]
        if start in apart:
            first += 1
            continue
        after = bisect_left(ends, start)
        stop = min((grid.end_of(start), *ends[after : after + 1]))
        last = bisect_left(starts, stop, first, end)
        yield start, minutes.summary(first, last)
        first = last


def _joined(minutes: Minutes, late: Mapping[int, Summary], grid: Grid) -> Iterator[Bucket]:
    """Minutes whose raw values are gone and of which something waits: as the writer is going to join them."""
    for start, new in late.items():
        place = bisect_left(minutes.starts, start)
        known = place < len(minutes.starts) and minutes.starts[place] == start
        old = minutes.summary(place, place + 1) if known else Summary()
        if grid.t0 <= start < grid.t1:
            yield start, joined_in_order(old, new) or old


def _ranges(starts: Sequence[int], loose: set[int]) -> list[Range]:
    """The stretches of minutes that are read raw: up to an hour, with no other minute with points in between."""
    found: list[Range] = []
    for start in sorted(loose):
        begun, end = found[-1] if found else (start, start)
        alone = begun // HOUR_US != start // HOUR_US or bisect_left(starts, end) < bisect_left(starts, start)
        if found and not alone:
            found[-1] = begun, start + MINUTE_US
        else:
            found.append((start, start + MINUTE_US))
    return found


def _taken_apart(
    database: sqlite3.Connection, series: int | None, ranges: Iterable[Range], fresh: Sequence[Point], grid: Grid
) -> Iterator[Bucket]:
    """Raw points bucket by bucket; with the time of the first one."""
    # Neighbouring ranges often lie in one chunk.
    unpacked = lru_cache(maxsize=16)(decode)
    for start, end in ranges:
        t0, t1 = max(start, grid.t0), min(end, grid.t1)
        parts = [(t0, t1)] if series is None else stretches(database, series, t0, t1, _RAW_AT_ONCE)
        for begun, until in parts:
            points = [] if series is None else points_between(database, series, begun, until, unpacked=unpacked)
            waiting = fresh[bisect_left(fresh, begun, key=_time) : bisect_left(fresh, until, key=_time)]
            yield from _by_bucket(last_written([*points, *waiting]) if waiting else points, grid)


def _by_bucket(points: Sequence[Point], grid: Grid) -> Iterator[Bucket]:
    """What the points of each bucket amount to, with the time of the first one. points: in the order of time."""
    first = 0
    while first < len(points):
        start = points[first][0]
        last = bisect_left(points, grid.end_of(start), first, key=_time)
        yield start, Summary.of(points[first:last])
        first = last


def _time(point: Point) -> int:
    return point[0]
