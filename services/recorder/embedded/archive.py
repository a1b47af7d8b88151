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
_HOURS = 240
"""And rows of the roll-up, unless one bucket has more: a fraction of what an answer may take."""


class EmbeddedArchive:
    """An Archive, for one answer. path: of the recorder's database."""

    def __init__(self, path: Path) -> None:
        self._history = History(path, once=True)

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
                yield from self._stored(one, window, patience)

    def before(self, some: Sequence[Series], t: int, patience: Patience) -> Mapping[Series, Point]:
        """See Archive."""
        patience.check()
        with _faults():
            found = self._history.each_before(some, t)
        return {Series(*name): point for name, point in found.items()}

    def _stored(self, one: Series, window: Buckets, patience: Patience) -> Iterator[tuple[int, Summary]]:
        """Of a window with many rows its halves one after the other, so that an answer can end in between."""
        patience.check()
        n = -(-(window.t1 - window.t0) // window.step)
        with _faults():
            whole = n == 1 or self._history.hours(*one, window.t0, window.t1) <= _HOURS
            found = self._history.summaries(*one, window.t0, window.t1, window.step) if whole else []
        yield from found
        for half in () if whole else window.windows(-(-n // 2)):
            yield from self._stored(one, half, patience)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ArchiveFault(f"the recorder's disk refuses: {error}") from error
    except ChunkError as error:
        raise ArchiveFault(f"the recorder's database is damaged: {error}") from error
