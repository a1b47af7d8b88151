"""The embedded history: packed columns per series in SQLite, and how they are read back."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.codec import ContractError
from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded.chunk import Value, decode
from services.recorder.embedded.columns import LONGEST_US, Packed, Packer, columns, quality_of
from services.recorder.spool.frames import DeviceFrame, FrameReader, Spooled
from services.recorder.spool.spool import spooled

Point = tuple[int, Value, int]
"""(time in µs, value or None, quality)."""


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

    It sees what the recorder has acknowledged, whether it is packed already or still in the spool.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, device: str, tag: str, t0: int, t1: int) -> list[Point]:
        """Every point with t0 <= time < t1 (µs) in the order of time. Of two at one time the one written last counts.

        Raises sqlite3.Error if there is no such database, ChunkError if it is damaged.
        """
        with self._snapshot() as database:
            chunks = database.execute(
                "SELECT body FROM chunk JOIN series ON series.id = chunk.series"
                " WHERE device = ? AND tag = ? AND t0 >= ? AND t0 < ? AND t1 >= ? ORDER BY chunk.id",
                (device, tag, t0 - LONGEST_US, t1, t0),
            ).fetchall()
            waiting = spooled(database, device)
        found: dict[int, Point] = {}
        for (body,) in chunks:
            found.update((point[0], point) for point in decode(body) if t0 <= point[0] < t1)
        found.update((point[0], point) for point in _unpacked(waiting, tag) if t0 <= point[0] < t1)
        return [found[time] for time in sorted(found)]

    def tags(self) -> list[tuple[str, str]]:
        """(device, tag) of every series that has been packed, in the order of their names."""
        with self._snapshot() as database:
            return database.execute("SELECT device, tag FROM series ORDER BY device, tag").fetchall()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Chunks and spool of one moment: a value is in exactly one of the two."""
        connection = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()


def _unpacked(waiting: Sequence[Spooled], tag: str) -> Iterator[Point]:
    reader = FrameReader()
    for row in waiting:
        try:
            samples = reader.read(row).frame.samples
        except ContractError:
            # The writer will set it aside and say so; for a reader it holds nothing.
            continue
        for sample in samples:
            if tag in sample.v:
                value = sample.v[tag]
                yield sample.t + (sample.dt or {}).get(tag, 0), value, quality_of(sample, tag, value)
