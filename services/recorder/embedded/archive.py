"""Recorded values asked of the embedded history."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.recorder.embedded.chunk import ChunkError
from services.recorder.embedded.history import History
from services.recorder.queries.archive import ArchiveFault, pieces
from services.recorder.queries.question import Buckets, Patience, Series
from services.recorder.summary import Point, Summary

_WINDOW = 2000
"""Buckets between two looks at the clock."""


class EmbeddedArchive:
    """An Archive. path: of the recorder's database."""

    def __init__(self, path: Path) -> None:
        self._history = History(path)

    def series(self, patience: Patience) -> Sequence[Series]:
        """See Archive."""
        patience.check()
        with _faults():
            return [Series(*name) for name in self._history.tags()]

    def points(self, one: Series, t0: int, t1: int, limit: int, patience: Patience) -> Sequence[Point]:
        """See Archive."""
        patience.check()
        with _faults():
            return self._history.points(*one, t0, t1, limit)

    def summaries(self, one: Series, buckets: Buckets, patience: Patience) -> Iterator[tuple[int, Summary]]:
        """See Archive. Stored summaries hold values of any quality: for good ones alone the points are read."""
        for window in buckets.windows(_WINDOW):
            patience.check()
            if buckets.good_only:
                yield from window.gathered(pieces(self, one, window, patience))
            else:
                with _faults():
                    found = self._history.summaries(*one, window.t0, window.t1, window.step)
                yield from found

    def before(self, some: Sequence[Series], t: int, patience: Patience) -> Mapping[Series, Point]:
        """See Archive."""
        patience.check()
        with _faults():
            found = self._history.each_before(some, t)
        return {Series(*name): point for name, point in found.items()}


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ArchiveFault(f"the recorder's disk refuses: {error}") from error
    except ChunkError as error:
        raise ArchiveFault(f"the recorder's database is damaged: {error}") from error
