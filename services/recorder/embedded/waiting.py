"""The points that still wait in the spool: acknowledged, on disk, but not packed yet."""

import sqlite3
from collections.abc import Iterator, Sequence

from contracts.codec import ContractError
from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded.columns import quality_of
from services.recorder.spool.frames import FrameReader
from services.recorder.spool.spool import spooled
from services.recorder.summary import Point


def waiting(database: sqlite3.Connection, device: str, tag: str) -> Iterator[Point]:
    """The points of one tag, in the order of their arrival."""
    return (_point(sample, tag) for _, sample in _samples(database, device) if tag in sample.v)


def some_waiting(
    database: sqlite3.Connection, names: Sequence[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], Point]]:
    """The name (device, tag) and each point of these tags, those of one device in the order of their arrival."""
    tags: dict[str, set[str]] = {}
    for device, tag in names:
        tags.setdefault(device, set()).add(tag)
    for device, wanted in tags.items():
        for _, sample in _samples(database, device):
            yield from (((device, tag), _point(sample, tag)) for tag in sample.v if tag in wanted)


def names_waiting(database: sqlite3.Connection) -> set[tuple[str, str]]:
    """(device, tag) of every tag that has a point."""
    # Samples of one group nearly always hold the same tags.
    alike = {(device, tuple(sample.v)) for device, sample in _samples(database)}
    return {(device, tag) for device, tags in alike for tag in tags}


def _samples(database: sqlite3.Connection, device: str | None = None) -> Iterator[tuple[str, SampleStruct]]:
    reader = FrameReader()
    for row in spooled(database, device):
        try:
            frame = reader.read(row).frame
        except ContractError:
            # The writer will set it aside and say so; for a reader it holds nothing.
            continue
        yield from ((row.device, sample) for sample in frame.samples)


def _point(sample: SampleStruct, tag: str) -> Point:
    value = sample.v[tag]
    return sample.t + (sample.dt or {}).get(tag, 0), value, quality_of(sample, tag, value)
