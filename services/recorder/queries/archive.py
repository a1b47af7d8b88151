"""What a question asks of a history, whichever store it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from services.recorder.queries.question import Buckets, Patience, Series
from services.recorder.summary import Point, Summary

PIECE = 10_000
"""Points, or buckets, between two looks at the clock."""


class ArchiveFault(Exception):
    """The history cannot answer now: its disk or its server. The message says why, and what to do."""


class Archive(Protocol):
    """A history that can be read from any thread. Everything raises ArchiveFault; TooLong once patience has ended."""

    def series(self, patience: Patience) -> Sequence[Series]:
        """Every tag that has a point, in the order of their names."""
        ...

    def points(self, one: Series, t0: int, t1: int, limit: int, patience: Patience) -> Sequence[Point]:
        """The first `limit` points with t0 <= time < t1, in the order of time."""
        ...

    def summaries(self, one: Series, buckets: Buckets, patience: Patience) -> Iterator[tuple[int, Summary]]:
        """The start of each bucket with points, in the order of time, and what its points amount to."""
        ...

    def before(self, some: Sequence[Series], t: int, patience: Patience) -> Mapping[Series, Point]:
        """Of each of these the last point before t, if there is one."""
        ...


def pieces(archive: Archive, one: Series, buckets: Buckets, patience: Patience) -> Iterator[Sequence[Point]]:
    """All points of the buckets, some at a time. Raises as Archive does."""
    since = buckets.t0
    while since < buckets.t1:
        piece = archive.points(one, since, buckets.t1, PIECE, patience)
        yield piece
        if len(piece) < PIECE:
            return
        since = piece[-1][0] + 1
