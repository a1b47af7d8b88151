"""Frames packed into the embedded history: chunks of raw values, and the minutes that they amount to."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from services.recorder.embedded.columns import Packed, Packer, Stream, ordered
from services.recorder.embedded.minutes import HourPacker, Minute, minutes_of
from services.recorder.embedded.raw import raw_from
from services.recorder.embedded.rollup import roll_up
from services.recorder.spool.frames import DeviceFrame


@dataclass(frozen=True, slots=True)
class SeriesPart:
    """Values of one tag that were packed together: their chunks, and what their minutes amount to."""

    device: str
    tag: str
    chunks: Sequence[Packed]
    minutes: Sequence[Minute]


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that were packed together. values: how many they held."""

    values: int
    parts: Sequence[SeriesPart]


def pack(frames: Iterable[DeviceFrame], *, chunk_values: int) -> Batch:
    """The frames' values, ready to be written. Pure, and heavy: to be called in a thread."""
    streams: defaultdict[tuple[str, str], Stream] = defaultdict(Stream)
    values = 0
    for one in frames:
        values += one.values
        stream = streams[one.device, one.group]
        for sample in one.frame.samples:
            stream.add(sample)
    packer = Packer(most=chunk_values)
    parts: list[SeriesPart] = []
    for (device, _), stream in streams.items():
        for tag, column in stream.columns().items():
            whole = ordered(column)
            parts.append(SeriesPart(device, tag, list(packer.pack(whole)), minutes_of(whole)))
    return Batch(values, parts)


def write(database: sqlite3.Connection, parts: Sequence[SeriesPart]) -> None:
    """Adds chunks and minutes to the history, as part of the caller's transaction."""
    names = sorted({(one.device, one.tag) for one in parts})
    database.executemany("INSERT OR IGNORE INTO series (device, tag) VALUES (?, ?)", names)
    ids: dict[tuple[str, str], int] = {
        name: database.execute("SELECT id FROM series WHERE device = ? AND tag = ?", name).fetchone()[0]
        for name in names
    }
    axes = _axes(database, parts)
    database.executemany(
        "INSERT INTO chunk (series, t0, t1, n, body, axis) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (ids[one.device, one.tag], chunk.t0, chunk.t1, chunk.n, chunk.body, axes[chunk.times])
            for one in parts
            for chunk in one.chunks
        ],
    )
    packer, horizon = HourPacker(), raw_from(database)
    for one in parts:
        roll_up(database, packer, ids[one.device, one.tag], one.minutes, horizon)


def _axes(database: sqlite3.Connection, parts: Iterable[SeriesPart]) -> dict[bytes, int]:
    """The rows of the chunks' times, new ones."""
    found: dict[bytes, int] = {}
    for chunk in chain.from_iterable(one.chunks for one in parts):
        if chunk.times not in found:
            row = database.execute("INSERT INTO axis (t1, body) VALUES (?, ?)", (chunk.t1, chunk.times)).lastrowid
            assert row is not None
            found[chunk.times] = row
    return found
