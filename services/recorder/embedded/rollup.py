"""Minutes brought into the roll-up, in the transaction that writes the chunks they were made of.

A minute of values that come in order joins what is there. Values that come late, in between or once more make their
minute anew from its raw values. Where those are gone already (before raw_from) it stays as it is, unless what comes
stands wholly before or after it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from services.recorder.embedded.axis import MINUTE_US
from services.recorder.embedded.chunk import ChunkError, decode
from services.recorder.embedded.minutes import (
    HOUR_US,
    Columns,
    HourPacker,
    Minute,
    Row,
    no_minutes,
    row_of,
    summary_of,
)
from services.recorder.embedded.raw import points_between
from services.recorder.summary import Point, Summary

SCHEMA = """
CREATE TABLE rollup (series INTEGER NOT NULL REFERENCES series, t INTEGER NOT NULL, body BLOB NOT NULL,
    UNIQUE (series, t));
"""
"""t: the hour's start in µs. body: see embedded.minutes."""


def roll_up(
    database: sqlite3.Connection, packer: HourPacker, series: int, minutes: Sequence[Minute], raw_from: int
) -> None:
    """Brings minutes of which the chunks are written already into the roll-up."""
    for hour, group in groupby(minutes, key=lambda minute: minute[0] - minute[0] % HOUR_US):
        new = list(group)
        columns = _known(database, packer, series, hour)
        if columns is None or not _appended(columns, hour, new):
            columns = _mended(database, series, hour, columns, new, raw_from)
        database.execute(
            "INSERT INTO rollup (series, t, body) VALUES (?, ?, ?)"
            " ON CONFLICT (series, t) DO UPDATE SET body = excluded.body",
            (series, hour, packer.pack(columns)),
        )


def _known(database: sqlite3.Connection, packer: HourPacker, series: int, hour: int) -> Columns | None:
    """The hour's minutes; None if they cannot be read."""
    found = database.execute("SELECT body FROM rollup WHERE series = ? AND t = ?", (series, hour)).fetchone()
    if found is None:
        return no_minutes()
    try:
        return packer.unpack(found[0])
    except ChunkError:
        return None


def _appended(columns: Columns, hour: int, minutes: Sequence[Minute]) -> bool:
    """Puts the minutes behind those that are known: the usual case. False, with nothing done, if they come late."""
    (first, new), *others = minutes
    if columns[0]:
        last = hour + columns[0][-1] * 1_000_000
        if first < last:
            return False
        if first == last:
            joined = joined_in_order(summary_of(last, [column[-1] for column in columns]), new)
            if joined is None:
                return False
            new = joined
            for column in columns:
                column.pop()
    rows = [row_of(start, summary) for start, summary in ((first, new), *others)]
    for column, entries in zip(columns, zip(*rows, strict=True), strict=True):
        column.extend(entries)
    return True


def _mended(
    database: sqlite3.Connection,
    series: int,
    hour: int,
    columns: Columns | None,
    minutes: Sequence[Minute],
    raw_from: int,
) -> Columns:
    """The hour's minutes with new ones among them. columns: None if those that were known are damaged."""
    if columns is None:
        # What can still be read of the raw values is all that is left, the new ones among them.
        known: dict[int, Row] = {}
        mixed = [start for start, _ in by_minute(_readable(database, series, hour, hour + HOUR_US))]
    else:
        known = {hour + row[0] * 1_000_000: row for row in zip(*columns, strict=True)}
        mixed = _join(known, minutes, raw_from)
    if mixed:
        _make_anew(database, series, known, mixed)
    return [list(column) for column in zip(*(known[start] for start in sorted(known)), strict=True)]


def _readable(database: sqlite3.Connection, series: int, t0: int, t1: int) -> list[Point]:
    """The raw points that can be read: a damaged chunk does not stop what is recorded."""

    def unpacked(body: bytes, times: bytes | None) -> list[Point]:
        """The chunk's points, none if it is damaged."""
        try:
            return decode(body, times)
        except ChunkError:
            return []

    return points_between(database, series, t0, t1, unpacked=unpacked)


def _join(known: dict[int, Row], minutes: Iterable[Minute], raw_from: int) -> list[int]:
    """Joins what can be joined; the starts of the minutes that are to be made anew."""
    mixed: list[int] = []
    for start, new in minutes:
        old = summary_of(start, known[start]) if start in known else Summary()
        joined = joined_in_order(old, new)
        if joined is not None:
            known[start] = row_of(start, joined)
        elif start >= raw_from:
            mixed.append(start)
    return mixed


def joined_in_order(one: Summary, other: Summary) -> Summary | None:
    """Of both stretches, if one is wholly before the other; else None."""
    if one.last is None or other.first is None or one.last[0] < other.first[0]:
        return one.then(other)
    if one.first is not None and other.last is not None and other.last[0] < one.first[0]:
        return other.then(one)
    return None


def _make_anew(database: sqlite3.Connection, series: int, known: dict[int, Row], mixed: Sequence[int]) -> None:
    points = _readable(database, series, mixed[0], mixed[-1] + MINUTE_US)
    wanted = set(mixed)
    for start, group in by_minute(points):
        if start in wanted:
            known[start] = row_of(start, Summary.of(group))


def by_minute(points: Iterable[Point]) -> Iterator[tuple[int, list[Point]]]:
    """The points of each minute, by its start. points: in the order of time."""
    for start, group in groupby(points, key=lambda point: point[0] - point[0] % MINUTE_US):
        yield start, list(group)


def fill(database: sqlite3.Connection, progress: Callable[[int, int], None]) -> None:
    """Makes the roll-up of chunks that were written without one, a day at a time.

    progress: is told after each how many values are done, and how many there are.
    """
    packer, done = HourPacker(), 0
    (values,) = database.execute("SELECT coalesce(sum(n), 0) FROM chunk").fetchone()
    for series, first, last in database.execute(
        "SELECT series, min(t0), max(t1) FROM chunk GROUP BY series"
    ).fetchall():
        day = 24 * HOUR_US
        for start in range(first - first % day, last + 1, day):
            points = _readable(database, series, start, start + day)
            roll_up(database, packer, series, [(at, Summary.of(group)) for at, group in by_minute(points)], 0)
            done += len(points)
            progress(done, values)
