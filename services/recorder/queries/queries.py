"""Questions to the history, answered page by page from whichever store there is."""

from collections.abc import Callable, Container, Iterator, Sequence
from itertools import islice

from contracts.v1.frame import GOOD
from contracts.v1.history import HistoryAt, HistoryFound, QueryHistory, TagsThen
from contracts.v1.message import Value
from services.recorder.queries.answer import POINT_COLUMNS, Page, ThenPage, bucket_row
from services.recorder.queries.archive import Archive
from services.recorder.queries.question import Buckets, Patience, Place, Series, TooLong, chosen
from services.recorder.summary import Point

_AT_A_TIME = 100
"""Tags that are looked up between two looks at the clock."""
_PIECE = 2000
"""Points that are read at once: they may be long texts."""

Row = tuple[int, Sequence[Value], int]
"""Time, columns, and from when on (µs) the next row may be."""


class HistoryQueries:
    """Blocking: to be called in threads, by several at a time.

    archive: gives one for each answer. now_s: monotonic clock. now_us: the time of day, µs since 1970.

    An answer that takes long ends where it has come to after LONGEST_S: its `next` goes on from there.
    """

    def __init__(
        self, *, archive: Callable[[], Archive], now_s: Callable[[], float], now_us: Callable[[], int]
    ) -> None:
        self._archive = archive
        self._now_s = now_s
        self._now_us = now_us

    def query(self, asked: QueryHistory, *, devices: Container[str] | None = None) -> HistoryFound:
        """Points or buckets. devices: of no others is told; None: of all.

        Raises NoSuchTag, ArchiveFault, and TooLong if not even one was found in time.
        """
        archive, patience = self._archive(), Patience(self._now_s)
        place = Place.of(asked.after)
        names = POINT_COLUMNS if asked.aggregates is None else [str(one) for one in asked.aggregates]
        page = Page(names, asked.limit)
        for one in _remaining(archive, asked.tags, place, patience, devices):
            since = place.t if place and place.series == one else 0
            here = Place(one, max(since, asked.since))
            if patience.ended and not (page.empty and here == place):
                return page.found(here)
            try:
                for t, row, after in self._rows(archive, asked, one, here.t, page, patience):
                    if not page.add(one, t, row):
                        return page.found(here)
                    here = Place(one, after)
            except TooLong:
                if page.empty:
                    raise
                return page.found(here)
        return page.found(None)

    def at(self, asked: HistoryAt, *, devices: Container[str] | None = None) -> TagsThen:
        """How tags stood. devices: see query().

        Raises NoSuchTag, ArchiveFault, and TooLong if not even some were found in time.
        """
        archive, patience = self._archive(), Patience(self._now_s)
        page = ThenPage(asked.limit)
        waiting = iter(_remaining(archive, asked.tags, Place.of(asked.after), patience, devices))
        while some := list(islice(waiting, _AT_A_TIME)):
            last = archive.before(some, asked.t + 1, patience)
            for one in some:
                if not page.add(one, last.get(one)):
                    return page.found(Place(one, 0))
            if patience.ended:
                following = next(waiting, None)
                return page.found(following and Place(following, 0))
        return page.found(None)

    def _rows(
        self, archive: Archive, asked: QueryHistory, one: Series, since: int, page: Page, patience: Patience
    ) -> Iterator[Row]:
        if asked.aggregates is None:
            return _points(archive, asked, one, since, page, patience)
        return self._buckets(archive, asked, one, since, patience)

    def _buckets(
        self, archive: Archive, asked: QueryHistory, one: Series, since: int, patience: Patience
    ) -> Iterator[Row]:
        buckets = Buckets.of(asked).since(since)
        held: Point | None = None
        first, now_us = True, self._now_us()
        for start, summary in archive.summaries(one, buckets, patience):
            if first and buckets.holds:
                held = next(buckets.judged(archive.before([one], start, patience).values()), None)
            end = buckets.end(start)
            held_to = min(end, max(now_us, summary.last[0] if summary.last else start))
            yield start, bucket_row(summary, asked.aggregates or (), start=start, held_to=held_to, held=held), end
            held, first = summary.last, False


def _remaining(
    archive: Archive, patterns: Sequence[str], place: Place | None, patience: Patience, devices: Container[str] | None
) -> list[Series]:
    known = archive.series(patience)
    if devices is not None:
        known = [one for one in known if one.device in devices]
    found = chosen(patterns, known)
    return found if place is None else [one for one in found if one >= place.series]


def _points(
    archive: Archive, asked: QueryHistory, one: Series, since: int, page: Page, patience: Patience
) -> Iterator[Row]:
    """As many as the page holds and one more, so that it says whether there are more."""
    while since < asked.until:
        wanted = min(page.left + 1, _PIECE)
        points = archive.points(one, since, asked.until, wanted, patience)
        for t, value, q in points:
            if q >= GOOD or not asked.good_only:
                yield t, (value, q), t + 1
        if len(points) < wanted:
            return
        patience.check()
        since = points[-1][0] + 1
