"""The points that still wait in the spool: acknowledged, on disk, but not packed yet."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from contracts.codec import ContractError
from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded.columns import quality_of
from services.recorder.spool.frames import FrameReader
from services.recorder.spool.spool import spooled
from services.recorder.summary import Point


class Waiting:
    """Reads the points that wait.

    once: a device's are read at the first question for one of its tags and held until another device is asked for: for
    one answer, whose questions go from tag to tag. What is packed meanwhile is found in the history as well, looked at
    later.
    """

    def __init__(self, *, once: bool = False) -> None:
        self._once = once
        self._held: tuple[str, Sequence[SampleStruct]] = ("", ())

    def points(self, database: sqlite3.Connection, device: str, tag: str) -> Iterator[Point]:
        """Those of one tag, in the order of their arrival."""
        return (_point(sample, tag) for sample in self._samples(database, device) if tag in sample.v)

    def some(
        self, database: sqlite3.Connection, names: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[tuple[str, str], Point]]:
        """The name (device, tag) and each point of these tags, those of one device in the order of their arrival."""
        tags: dict[str, set[str]] = {}
        for device, tag in names:
            tags.setdefault(device, set()).add(tag)
        for device, wanted in tags.items():
            for sample in self._samples(database, device):
                yield from (((device, tag), _point(sample, tag)) for tag in sample.v if tag in wanted)

    def _samples(self, database: sqlite3.Connection, device: str) -> Iterable[SampleStruct]:
        if not self._once:
            return (sample for _, sample in _samples(database, device))
        if self._held[0] != device:
            self._held = (device, [sample for _, sample in _samples(database, device)])
        return self._held[1]


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
