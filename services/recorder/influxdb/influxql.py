"""What is asked of an InfluxDB in InfluxQL, as its versions 1, 2 and 3 speak it, and how its answers are read. Pure.

Source: InfluxDB 1.8, Influx Query Language specification; InfluxDB v1 HTTP API, /query.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from contracts.v1.frame import GOOD
from contracts.v1.history import Aggregate
from services.recorder.embedded.chunk import Value
from services.recorder.influxdb.line import MEASUREMENT
from services.recorder.queries.question import Buckets, Series
from services.recorder.summary import Number, Point, Summary, total

_FIELDS = '"f", "i", "b", "s", "a"'
_INT64 = 1 << 63

PointRow = tuple[int, int | None, float | None, int | None, bool | None, str | None, str | None]
"""Time, q, and the value in the field of its type."""
_Int: TypeAlias = int | None
_Float: TypeAlias = float | None
NumbersRow = tuple[int, _Int, _Float, _Float, _Float, _Int, _Int, _Int, _Int, _Int]
"""Start of the bucket; count, sum, min, max of the floats, and of the integers; count of the bools."""
CountRow = tuple[int, int | None]
NameRow = tuple[str, str]


class Listed(msgspec.Struct):
    """A series of an answer. name: its measurement. partial: the server has cut it."""

    name: str = ""
    values: msgspec.Raw = msgspec.Raw(b"[]")
    partial: bool = False


class Result(msgspec.Struct):
    """The answer to one statement."""

    series: list[Listed] = []
    error: str = ""


class Results(msgspec.Struct):
    """The answer to a request."""

    results: list[Result] = []
    error: str = ""


def rows(result: Result, of: Any) -> list[Any]:  # noqa: ANN401 - a type form; the caller names what it gets
    """The rows of a result, each of this type. Raises msgspec.DecodeError."""
    return [row for one in result.series for row in msgspec.json.decode(one.values, type=list[of])]


def literal(text: str) -> str:
    """A string literal: whatever the text holds, it is text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def devices(site: str) -> str:
    """Lists the devices of a site."""
    return f'SHOW TAG VALUES FROM "{MEASUREMENT}" WITH KEY = "device" WHERE "site" = {literal(site)}'


def tags(site: str, device: str) -> str:
    """Lists the tags of a device."""
    where = f'"site" = {literal(site)} AND "device" = {literal(device)}'
    return f'SHOW TAG VALUES FROM "{MEASUREMENT}" WITH KEY = "tag" WHERE {where}'


class Statements:
    """The statements about one series of a site."""

    def __init__(self, site: str, one: Series) -> None:
        self._where = (
            f'FROM "{MEASUREMENT}" WHERE "site" = {literal(site)} AND "device" = {literal(one.device)}'
            f' AND "tag" = {literal(one.tag)}'
        )

    def points(self, t0: int, t1: int, limit: int) -> str:
        """The first points with t0 <= time < t1: PointRow."""
        return f'SELECT "q", {_FIELDS} {self._where} AND time >= {t0}u AND time < {t1}u ORDER BY time LIMIT {limit}'

    def before(self, t: int) -> str:
        """The last point before t: PointRow."""
        return f'SELECT "q", {_FIELDS} {self._where} AND time < {t}u ORDER BY time DESC LIMIT 1'

    def buckets(self, buckets: Buckets) -> list[str]:
        """Of the buckets: CountRow of the points, NumbersRow, CountRow of the bools that are true; then PointRow of the
        first and of the last point, if either is wanted.
        """
        good = f' AND "q" = {GOOD}' if buckets.good_only else ""
        numbers = ", ".join(f'{name}("{field}")' for field in "fi" for name in ("count", "sum", "min", "max"))
        asked = [
            self._grouped('count("q")', buckets),
            self._grouped(f'{numbers}, count("b")', buckets, good),
            self._grouped('count("b")', buckets, f' AND "b" = true{good}'),
        ]
        if buckets.aggregates & {Aggregate.FIRST, Aggregate.LAST}:
            # A selector gives the other fields of the point that it has selected, and each point has a q.
            asked += [self._grouped(f'{end}("q"), {_FIELDS}', buckets) for end in ("first", "last")]
        return asked

    def _grouped(self, what: str, buckets: Buckets, condition: str = "") -> str:
        step, offset = buckets.step, buckets.t0 % buckets.step
        span = f"time >= {buckets.t0}u AND time < {buckets.t1}u"
        return f"SELECT {what} {self._where} AND {span}{condition} GROUP BY time({step}u, {offset}u) fill(none)"


def point(row: PointRow) -> Point:
    """The point as it was recorded. One without q is not ours, and taken as good."""
    t, q, number, integer, truth, text, array = row
    value: Value = next((one for one in (number, integer, truth, text) if one is not None), None)
    if array is not None:
        value = msgspec.json.decode(array, type=list[int | float])
    return t, value, GOOD if q is None else q


def summaries(results: Sequence[Result], buckets: Buckets) -> Iterator[tuple[int, Summary | None]]:
    """Start and summary of each bucket with points, without area; None for one that has to be read point by point: the
    server adds integers modulo 2^64. results: of Statements.buckets(). Raises msgspec.DecodeError.
    """
    counts: list[CountRow] = rows(results[0], CountRow)
    numbers: dict[int, NumbersRow] = {row[0]: row for row in rows(results[1], NumbersRow)}
    trues: dict[int, int | None] = dict(rows(results[2], CountRow))
    ends = [{row[0]: row for row in rows(result, PointRow)} for result in results[3:]] or [{}, {}]
    for start, n in counts:
        if not n:
            continue
        first, last = (next(buckets.judged(map(point, (end[start],))), None) if start in end else None for end in ends)
        yield start, _summary(n, numbers.get(start), trues.get(start) or 0, first, last)


def _summary(n: int, row: NumbersRow | None, true: int, first: Point | None, last: Point | None) -> Summary | None:
    if row is None:
        return Summary(n=n, first=first, last=last)
    _, floats, float_sum, float_min, float_max, integers, integer_sum, integer_min, integer_max, bools = row
    if integers and integers * max(abs(integer_min or 0), abs(integer_max or 0)) >= _INT64:
        return None
    ends: list[Number | None] = [float_min, float_max, integer_min, integer_max]
    if bools:
        ends += [0] if true < bools else [1]
        ends += [1] if true else [0]
    known = [end for end in ends if end is not None]
    parts = [part for part in (float_sum if floats else None, integer_sum, true) if part]
    return Summary(
        n=n,
        usable=(floats or 0) + (integers or 0) + (bools or 0),
        min=min(known, default=None),
        max=max(known, default=None),
        sum=total(parts) if parts else (0.0 if floats else 0),
        first=first,
        last=last,
    )
