"""The embedded history as it is read: raw values, buckets of them, and what was known at a time."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from services.recorder.embedded import buckets
from services.recorder.embedded.minutes import summary_of, unpack
from services.recorder.embedded.raw import last_written, points_between, raw_from, series_of, stretches
from services.recorder.embedded.waiting import Waiting, names_waiting
from services.recorder.summary import Point, Summary
from services.runtime.sqlite_file import one_moment


class History:
    """Reads a recorder's database, from any process, while the recorder writes it.

    It sees what the recorder has acknowledged, whether it is packed already or still in the spool. Of two points of a
    tag at one time the one written last counts. Each question raises sqlite3.Error if there is no such database,
    ChunkError if it is damaged. once: see Waiting.
    """

    def __init__(self, path: Path, *, once: bool = False) -> None:
        self._path = path
        self._waiting = Waiting(once=once)

    def read(self, device: str, tag: str, t0: int, t1: int) -> list[Point]:
        """Every point with t0 <= time < t1 (µs) in the order of time; none that is older than raw values are kept."""
        with self._snapshot() as database:
            series = series_of(database, device, tag)
            t0 = max(t0, raw_from(database))
            packed = [] if series is None else points_between(database, series, t0, t1)
            fresh = [point for point in self._waiting.points(database, device, tag) if t0 <= point[0] < t1]
        return last_written([*packed, *fresh]) if fresh else packed

    def points(self, device: str, tag: str, t0: int, t1: int, limit: int) -> list[Point]:
        """As read(), but no more than the first `limit` (at least 1)."""
        found: list[Point] = []
        with self._snapshot() as database:
            series = series_of(database, device, tag)
            t0 = max(t0, raw_from(database))
            fresh = [point for point in self._waiting.points(database, device, tag) if t0 <= point[0] < t1]
            if series is None:
                return last_written(fresh)[:limit]
            for start, end in stretches(database, series, t0, t1, limit):
                packed = points_between(database, series, start, end)
                late = [point for point in fresh if start <= point[0] < end]
                found += last_written([*packed, *late]) if late else packed
                if len(found) >= limit:
                    break
        return found[:limit]

    def summaries(self, device: str, tag: str, t0: int, t1: int, step_us: int) -> list[tuple[int, Summary]]:
        """Of each bucket [t0 + k step, t0 + (k + 1) step) its start and what its points amount to; the last one ends at
        t1. Buckets without points are left out. Of times whose raw values are gone, a minute is not divided: it counts
        where it starts.
        """
        with self._snapshot() as database:
            fresh = last_written(point for point in self._waiting.points(database, device, tag) if t0 <= point[0] < t1)
            series = series_of(database, device, tag)
            return buckets.summaries(database, series, fresh, t0=t0, t1=t1, step_us=step_us)

    def hours(self, device: str, tag: str, t0: int, t1: int) -> int:
        """How many rows of the roll-up summaries() would read."""
        with self._snapshot() as database:
            series = series_of(database, device, tag)
            return 0 if series is None else buckets.hours_between(database, series, t0, t1)

    def before(self, device: str, tag: str, t: int) -> Point | None:
        """The last point before t."""
        with self._snapshot() as database:
            series = series_of(database, device, tag)
            newest = None if series is None else _last_packed(database, series, t)
            return _newest(newest, self._waiting.points(database, device, tag), t)

    def each_before(self, names: Sequence[tuple[str, str]], t: int) -> dict[tuple[str, str], Point]:
        """The last point before t of every one of these tags (device, tag) that has one."""
        with self._snapshot() as database:
            numbers = [(name, series_of(database, *name)) for name in names]
            packed = [(name, _last_packed(database, series, t)) for name, series in numbers if series is not None]
            found = {name: point for name, point in packed if point is not None}
            for name, point in self._waiting.some(database, names):
                newest = _newest(found.get(name), [point], t)
                if newest is not None:
                    found[name] = newest
        return found

    def tags(self) -> list[tuple[str, str]]:
        """(device, tag) of every tag that has a point, in the order of their names."""
        with self._snapshot() as database:
            packed = database.execute("SELECT device, tag FROM series").fetchall()
            return sorted(names_waiting(database).union(packed))

    def _snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """Chunks and spool of one moment: a value is in exactly one of the two."""
        return one_moment(self._path)


def _newest(known: Point | None, later: Iterable[Point], t: int) -> Point | None:
    """The last one before t. later: written after the known one."""
    for point in later:
        if point[0] < t and (known is None or known[0] <= point[0]):
            known = point
    return known


def _last_packed(database: sqlite3.Connection, series: int, t: int) -> Point | None:
    """The last point before t that is packed, raw or in the roll-up."""
    found: list[Point] = []
    horizon = raw_from(database)
    begun = database.execute("SELECT max(t0) FROM chunk WHERE series = ? AND t0 < ?", (series, t)).fetchone()[0]
    if begun is not None:
        # A chunk begins with a point, so the last one is not before this.
        found = points_between(database, series, max(begun, horizon), t)[-1:]
    if not found:
        found += _last_rolled_up(database, series, t)
    return max(found, key=lambda point: point[0], default=None)


def _last_rolled_up(database: sqlite3.Connection, series: int, t: int) -> list[Point]:
    """The last point of the last minute that ends before t; none if there is no such minute."""
    hours = database.execute(
        "SELECT t, body FROM rollup WHERE series = ? AND t < ? ORDER BY t DESC LIMIT 2", (series, t)
    )
    for hour, body in hours:
        for row in reversed(list(zip(*unpack(body), strict=True))):
            last = summary_of(hour + row[0] * 1_000_000, row).last
            if last is not None and last[0] < t:
                return [last]
    return []
