"""The raw values of the embedded history: chunks in the recorder's file."""

import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from operator import itemgetter, lt

from services.recorder.embedded.chunk import decode
from services.recorder.embedded.columns import LONGEST_US
from services.recorder.summary import Point

Unpacked = Callable[[bytes, bytes | None], list[Point]]
"""As decode()."""

SCHEMA = """
CREATE TABLE series (id INTEGER PRIMARY KEY, device TEXT NOT NULL, tag TEXT NOT NULL, UNIQUE (device, tag));
CREATE TABLE chunk (id INTEGER PRIMARY KEY, series INTEGER NOT NULL REFERENCES series, t0 INTEGER NOT NULL,
    t1 INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX chunk_time ON chunk (series, t0, t1);
"""
AXIS = """
CREATE TABLE axis (id INTEGER PRIMARY KEY, t1 INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX axis_time ON axis (t1);
ALTER TABLE chunk ADD COLUMN axis INTEGER REFERENCES axis;
"""
"""axis: times that chunks share, the last one t1 as theirs is; none in a chunk that has its times inside."""


def series_of(database: sqlite3.Connection, device: str, tag: str) -> int | None:
    """The series' number; None if nothing of it is packed."""
    found = database.execute("SELECT id FROM series WHERE device = ? AND tag = ?", (device, tag)).fetchone()
    return None if found is None else int(found[0])


def raw_from(database: sqlite3.Connection) -> int:
    """From this time on (µs, start of an hour) all raw values are here.

    Of earlier ones some may be left, among them such that were written over by others: nobody is to read them.
    """
    found = database.execute("SELECT value FROM meta WHERE key = 'raw_from'").fetchone()
    return 0 if found is None else int(found[0])


def keep_raw_from(database: sqlite3.Connection, t: int) -> int:
    """Says that raw values before t (µs, start of an hour) may go; it never goes back. From when on they stay."""
    horizon = max(t, raw_from(database))
    database.execute("INSERT OR REPLACE INTO meta VALUES ('raw_from', ?)", (str(horizon),))
    return horizon


def points_between(
    database: sqlite3.Connection, series: int, t0: int, t1: int, *, unpacked: Unpacked = decode
) -> list[Point]:
    """Points of the chunks with t0 <= time < t1 in the order of time; of two at one time the one written last."""
    chunks = database.execute(
        "SELECT chunk.id, chunk.body, axis.body FROM chunk LEFT JOIN axis ON axis.id = chunk.axis"
        " WHERE series = ? AND t0 >= ? AND t0 < ? AND chunk.t1 >= ? ORDER BY t0",
        (series, t0 - LONGEST_US, t1, t0),
    ).fetchall()
    points = list(chain.from_iterable(unpacked(body, times) for _, body, times in chunks))
    times = [point[0] for point in points]
    if not all(map(lt, times, islice(times, 1, None))):
        chunks.sort(key=itemgetter(0))
        points = last_written(chain.from_iterable(unpacked(body, times) for _, body, times in chunks))
        times = [point[0] for point in points]
    return points[bisect_left(times, t0) : bisect_left(times, t1)]


def stretches(database: sqlite3.Connection, series: int, t0: int, t1: int, most: int) -> Iterator[tuple[int, int]]:
    """Stretches of t0 <= time < t1 in the order of time that make up the whole; what begins in one is about `most`."""
    start, values = t0, 0
    for begun, n in database.execute(
        "SELECT t0, n FROM chunk WHERE series = ? AND t0 >= ? AND t0 < ? AND t1 >= ? ORDER BY t0",
        (series, t0 - LONGEST_US, t1, t0),
    ):
        if values >= most and begun > start:
            yield start, begun
            start, values = begun, 0
        values += n
    yield start, t1


def last_written(points: Iterable[Point]) -> list[Point]:
    """In the order of time; of two at one time the later one given."""
    found = {point[0]: point for point in points}
    return [found[time] for time in sorted(found)]
