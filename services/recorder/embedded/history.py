"""The embedded history: packed columns per series in SQLite, and how they are read back."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded.chunk import decode
from services.recorder.embedded.columns import LONGEST_US, Packed, Packer, columns
from services.recorder.embedded.waiting import all_waiting, some_waiting, waiting
from services.recorder.spool.frames import DeviceFrame
from services.recorder.summary import Point, Summary


@dataclass(frozen=True, slots=True)
class SeriesChunk:
    """A chunk and the series it belongs to."""

    device: str
    tag: str
    chunk: Packed


def pack(frames: Iterable[DeviceFrame], *, chunk_values: int) -> list[SeriesChunk]:
    """The frames' values as chunks. Pure, and heavy: to be called in a thread."""
    streams: dict[tuple[str, str], list[SampleStruct]] = {}
    for one in frames:
        streams.setdefault((one.device, one.group), []).extend(one.frame.samples)
    chunks: list[SeriesChunk] = []
    for (device, _), samples in streams.items():
        packer = Packer(most=chunk_values)
        for tag, column in columns(samples).items():
            chunks += [SeriesChunk(device, tag, chunk) for chunk in packer.pack(column)]
    return chunks


def write(database: sqlite3.Connection, chunks: Sequence[SeriesChunk]) -> None:
    """Adds the chunks to the history, as part of the caller's transaction."""
    names = {(one.device, one.tag) for one in chunks}
    database.executemany("INSERT OR IGNORE INTO series (device, tag) VALUES (?, ?)", sorted(names))
    ids = {
        name: database.execute("SELECT id FROM series WHERE device = ? AND tag = ?", name).fetchone()[0]
        for name in names
    }
    database.executemany(
        "INSERT INTO chunk (series, t0, t1, n, body) VALUES (?, ?, ?, ?, ?)",
        [(ids[one.device, one.tag], one.chunk.t0, one.chunk.t1, one.chunk.n, one.chunk.body) for one in chunks],
    )


class History:
    """Reads a recorder's database, from any process, while the recorder writes it.

    It sees what the recorder has acknowledged, whether it is packed already or still in the spool. Of two points of a
    tag at one time the one written last counts. Each question raises sqlite3.Error if there is no such database,
    ChunkError if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, device: str, tag: str, t0: int, t1: int) -> list[Point]:
        """Every point with t0 <= time < t1 (µs) in the order of time."""
        with self._snapshot() as database:
            return _points(database, device, tag, t0, t1)

    def points(self, device: str, tag: str, t0: int, t1: int, limit: int) -> list[Point]:
        """As read(), but no more than the first `limit` (at least 1)."""
        return self.read(device, tag, t0, t1)[:limit]

    def summaries(self, device: str, tag: str, t0: int, t1: int, step_us: int) -> list[tuple[int, Summary]]:
        """Of each bucket [t0 + k step, t0 + (k + 1) step) its start and what its points amount to; the last one ends at
        t1. Buckets without points are left out.
        """
        buckets: dict[int, list[Point]] = {}
        for point in self.read(device, tag, t0, t1):
            buckets.setdefault(point[0] - (point[0] - t0) % step_us, []).append(point)
        return [(start, Summary.of(points)) for start, points in buckets.items()]

    def before(self, device: str, tag: str, t: int) -> Point | None:
        """The last point before t."""
        with self._snapshot() as database:
            newest = _last_packed(database, device, tag, t)
            for point in waiting(database, device, tag):
                if point[0] < t and (newest is None or newest[0] <= point[0]):
                    newest = point
        return newest

    def each_before(self, names: Sequence[tuple[str, str]], t: int) -> dict[tuple[str, str], Point]:
        """The last point before t of every one of these tags (device, tag) that has one."""
        with self._snapshot() as database:
            packed = ((name, _last_packed(database, *name, t)) for name in names)
            found = {name: point for name, point in packed if point is not None}
            for name, point in some_waiting(database, names):
                if found.get(name, point)[0] <= point[0] < t:
                    found[name] = point
        return found

    def tags(self) -> list[tuple[str, str]]:
        """(device, tag) of every tag that has a point, in the order of their names."""
        with self._snapshot() as database:
            return sorted({*_series(database), *((device, tag) for device, tag, _ in all_waiting(database))})

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Chunks and spool of one moment: a value is in exactly one of the two."""
        connection = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()


def _series(database: sqlite3.Connection) -> list[tuple[str, str]]:
    return database.execute("SELECT device, tag FROM series ORDER BY device, tag").fetchall()


def _points(database: sqlite3.Connection, device: str, tag: str, t0: int, t1: int) -> list[Point]:
    found = _packed(database, device, tag, t0, t1)
    found.update((point[0], point) for point in waiting(database, device, tag) if t0 <= point[0] < t1)
    return [found[time] for time in sorted(found)]


def _packed(database: sqlite3.Connection, device: str, tag: str, t0: int, t1: int) -> dict[int, Point]:
    """Points of the chunks by time; the chunks in the order of their writing."""
    chunks = database.execute(
        "SELECT body FROM chunk JOIN series ON series.id = chunk.series"
        " WHERE device = ? AND tag = ? AND t0 >= ? AND t0 < ? AND t1 >= ? ORDER BY chunk.id",
        (device, tag, t0 - LONGEST_US, t1, t0),
    )
    found: dict[int, Point] = {}
    for (body,) in chunks:
        found.update((point[0], point) for point in decode(body) if t0 <= point[0] < t1)
    return found


def _last_packed(database: sqlite3.Connection, device: str, tag: str, t: int) -> Point | None:
    """The last point before t that is packed: not before the start of the last chunk that begins before t."""
    newest = database.execute(
        "SELECT t0 FROM chunk JOIN series ON series.id = chunk.series"
        " WHERE device = ? AND tag = ? AND t0 < ? ORDER BY t0 DESC LIMIT 1",
        (device, tag, t),
    ).fetchone()
    if newest is None:
        return None
    found = _packed(database, device, tag, newest[0], t)
    return found[max(found)]
