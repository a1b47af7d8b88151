"""Recorded values asked of an InfluxDB: what it can sum up itself it does, the rest is read point by point."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import urllib3

from contracts.topic import LEVEL_PATTERN
from plugins.api.document import DocumentError
from services.recorder.influxdb import influxql
from services.recorder.influxdb.influxql import NameRow, PointRow, Result, Results, Statements, point, rows
from services.recorder.influxdb.line import MEASUREMENT
from services.recorder.queries.archive import PIECE, ArchiveFault, pieces
from services.recorder.queries.question import Buckets, Patience, Series, TooLong
from services.recorder.summary import Point, Summary

_LEVEL = re.compile(LEVEL_PATTERN)
_OVERFLOW = b"unsupported value"
"""In what a server says in place of JSON, which has no infinity, if a sum is one."""


_SHORTEST_S = 0.05
"""What a request has at least; 0 would be for ever."""


_UNAUTHORIZED = 401


class _Unwritable(Exception):
    """The server has an answer that it cannot tell."""


class InfluxArchive:
    """An Archive. bucket: of version 2, or a database of version 1. token: None for a server that asks for none.

    new_token: where it is to be had once the server knows ours no more; raises DocumentError.
    Version 2 answers /query of a database that a DBRP mapping leads to the bucket. every_quality: see InfluxStore;
    without it the server cannot count points.
    """

    def __init__(
        self,
        *,
        url: str,
        bucket: str,
        token: str | None,
        site: str,
        new_token: Callable[[], str] | None = None,
        every_quality: bool = True,
    ) -> None:
        self._where = url.rstrip("/")
        self._bucket = bucket
        self._site = site
        self._new_token = new_token
        self._every_quality = every_quality
        self._pool = urllib3.PoolManager(headers=_headers(token), retries=False, maxsize=8)

    def series(self, patience: Patience) -> Sequence[Series]:
        """See Archive."""
        found = self._named(self._ask([influxql.devices(self._site)], patience)[0])
        if not found:
            return []
        of_each = self._ask([influxql.tags(self._site, device) for device in found], patience)
        return sorted(
            Series(device, tag) for device, result in zip(found, of_each, strict=True) for tag in self._named(result)
        )

    def points(self, one: Series, t0: int, t1: int, limit: int, patience: Patience) -> Sequence[Point]:
        """See Archive."""
        (result,) = self._ask([Statements(self._site, one).points(t0, t1, limit)], patience)
        return self._points(result)

    def summaries(self, one: Series, buckets: Buckets, patience: Patience) -> Iterator[tuple[int, Summary]]:
        """See Archive."""
        if buckets.holds or not self._every_quality:
            yield from self._gathered(one, buckets, patience)
            return
        for window in buckets.windows(PIECE):
            try:
                results = self._ask(Statements(self._site, one).buckets(window), patience)
                found = list(influxql.summaries(results, window))
            except _Unwritable:
                yield from self._gathered(one, window, patience)
                continue
            except msgspec.DecodeError as error:
                raise self._strange(str(error)) from None
            for start, summary in found:
                if summary is None:
                    yield from self._gathered(one, window.only(start), patience)
                else:
                    yield start, summary

    def before(self, some: Sequence[Series], t: int, patience: Patience) -> Mapping[Series, Point]:
        """See Archive."""
        results = self._ask([Statements(self._site, one).before(t) for one in some], patience)
        found = ((one, self._points(result)) for one, result in zip(some, results, strict=True))
        return {one: points[0] for one, points in found if points}

    def _gathered(self, one: Series, buckets: Buckets, patience: Patience) -> Iterator[tuple[int, Summary]]:
        return buckets.gathered(pieces(self, one, buckets, patience))

    def _named(self, result: Result) -> list[str]:
        """Names that another program has written beside ours are passed over: they are in no topic."""
        try:
            return [name for _, name in rows(result, NameRow) if _LEVEL.fullmatch(name)]
        except msgspec.DecodeError as error:
            raise self._strange(str(error)) from None

    def _points(self, result: Result) -> list[Point]:
        try:
            return [point(row) for row in rows(result, PointRow)]
        except msgspec.DecodeError as error:
            raise self._strange(str(error)) from None

    def _ask(self, statements: Sequence[str], patience: Patience) -> list[Result]:
        """The results of the statements, in their order. Raises ArchiveFault, TooLong, _Unwritable."""
        patience.check()
        asked = {"db": self._bucket, "epoch": "u", "q": ";\n".join(statements)}
        try:
            answer = self._pool.request(
                "POST",
                f"{self._where}/query",
                fields=asked,
                encode_multipart=False,
                timeout=max(patience.left_s, _SHORTEST_S),
            )
            if answer.status == _UNAUTHORIZED:
                self._renew()
            found = msgspec.json.decode(answer.data, type=Results)
        except urllib3.exceptions.ReadTimeoutError:
            raise TooLong from None
        except urllib3.exceptions.HTTPError as error:
            raise ArchiveFault(f"the history at {self._where} does not answer: {error}") from None
        except msgspec.DecodeError:
            if _OVERFLOW in answer.data:
                raise _Unwritable from None
            raise self._strange(f"HTTP {answer.status}") from None
        self._check(answer.status, found, len(statements))
        return found.results

    def _renew(self) -> None:
        """For the next question. Raises ArchiveFault."""
        if self._new_token is None:
            return
        try:
            self._pool.headers = _headers(self._new_token())
        except DocumentError as error:
            raise ArchiveFault(str(error)) from None

    def _check(self, status: int, found: Results, wanted: int) -> None:
        of_all = [series for one in found.results for series in one.series]
        said = next(filter(None, (found.error, *(one.error for one in found.results))), "")
        if said or status >= 300:
            raise ArchiveFault(f"the history at {self._where} refuses: {said or f'HTTP {status}'}")
        if len(found.results) != wanted or any(one.name != MEASUREMENT for one in of_all):
            raise ArchiveFault(
                f"what is at {self._where} takes values but answers no InfluxQL, as VictoriaMetrics does: ask it in its"
                " own language, or set recorder.store to an InfluxDB or to `kind: embedded`"
            )
        if any(one.partial for one in of_all):
            raise ArchiveFault(f"the history at {self._where} cuts its answers: set its max-row-limit to 0")

    def _strange(self, what: str) -> ArchiveFault:
        return ArchiveFault(f"the history at {self._where} gives answers that cannot be read: {what}")


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Token {token}"}
