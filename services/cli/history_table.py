"""Recorded values for people: a table, or a line of blocks for each tag."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from math import isinf
from types import TracebackType
from typing import Protocol, Self

from rich.table import Column, Table
from rich.text import Text

from contracts.v1.history import Aggregate, HistoryColumns, QueryHistory
from contracts.v1.message import Value
from services.cli.picture import quality_word
from services.cli.table import clipped, console, value_text
from services.cli.when import time_text

SPARK = (Aggregate.MEAN, Aggregate.MIN, Aggregate.MAX, Aggregate.LAST)
"""What a line of blocks is drawn from."""
BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 60
"""Blocks of a line, where the terminal is wide enough."""
_BESIDE = 52
"""Columns for tag, least, greatest and last value beside them, as they mostly are."""


class Out(Protocol):
    """Where what was found goes; whole once the context is left."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, series: HistoryColumns) -> None:
        """Some rows of one tag, later than those before."""
        ...


class Shown(ABC):
    """Printed when all is there, unless something failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.show()

    @abstractmethod
    def show(self) -> None:
        """Prints it."""


class ValueTable(Shown):
    """A row for each point or bucket. aggregates: the columns; none: the points themselves."""

    def __init__(self, aggregates: Sequence[str]) -> None:
        self._aggregates = aggregates
        self._rows: list[tuple[str, ...]] = []

    def add(self, series: HistoryColumns) -> None:
        """See Out."""
        for t, row in rows(series):
            told = [clipped(value_text(row[name])) for name in self._aggregates or ("v",)]
            if not self._aggregates:
                told.append(quality_text(row["q"]))
            self._rows.append((time_text(t), f"{series.device}/{series.tag}", *told))

    def show(self) -> None:
        """See Shown."""
        table = Table("time", "tag", box=None, pad_edge=False)
        for name in self._aggregates or ("value",):
            table.add_column(name, justify="right")
        if not self._aggregates:
            table.add_column("quality")
        for row in self._rows:
            table.add_row(*map(Text, row))
        if self._rows:
            console().print(table)


class Sparklines(Shown):
    """A line for each tag: least, greatest and last value, and the means as blocks. asked: as the means were."""

    def __init__(self, asked: QueryHistory, *, width: int) -> None:
        self._since = asked.since
        self._step = -(-(asked.until - asked.since) // width)
        self._width = width
        self._tags: dict[str, list[tuple[int, dict[str, Value]]]] = {}

    def add(self, series: HistoryColumns) -> None:
        """See Out."""
        self._tags.setdefault(f"{series.device}/{series.tag}", []).extend(rows(series))

    def show(self) -> None:
        """See Shown."""
        table = Table(Column("tag", overflow="fold", min_width=20), box=None, pad_edge=False)
        for name in ("min", "max", "last"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for tag, buckets in self._tags.items():
            least = min(numbers(row["min"] for _, row in buckets), default=None)
            greatest = max(numbers(row["max"] for _, row in buckets), default=None)
            means = {(t - self._since) // self._step: row["mean"] for t, row in buckets}
            line = sparkline([means.get(at) for at in range(self._width)])
            last = clipped(value_text(buckets[-1][1]["last"]))
            table.add_row(*map(Text, (tag, value_text(least), value_text(greatest), last, line)))
        if self._tags:
            console().print(table)


class Gathered:
    """What several questions found, each about a later time than the one before."""

    def __init__(self) -> None:
        self._series: list[HistoryColumns] = []

    def add(self, series: HistoryColumns) -> None:
        """See Out."""
        self._series.append(series)

    def pour(self, out: Out, limit: int | None) -> tuple[int, bool]:
        """Gives on the first `limit` rows by tag and time: how many there were, and whether there are more."""
        told = 0
        for series in sorted(self._series, key=lambda one: (one.device, one.tag)):
            here = series.t if limit is None else series.t[: limit - told]
            columns = {name: column[: len(here)] for name, column in series.columns.items()}
            told += len(here)
            if here:
                out.add(series.model_copy(update={"t": here, "columns": columns}))
        return told, told < sum(len(series.t) for series in self._series)


def rows(series: HistoryColumns) -> Iterator[tuple[int, dict[str, Value]]]:
    """Time and columns of each row; large integers as such."""
    big = {(name, at) for name, places in (series.big or {}).items() for at in places}
    for at, t in enumerate(series.t):
        told = {name: column[at] for name, column in series.columns.items()}
        yield t, {name: int(str(value)) if (name, at) in big else value for name, value in told.items()}


def numbers(values: Iterator[Value]) -> list[int | float]:
    """Those of them that are numbers."""
    return [value for value in values if isinstance(value, int | float)]


def spark_width(columns: int) -> int:
    """How many blocks fit beside the values on a terminal of so many columns."""
    return max(10, min(SPARK_WIDTH, columns - _BESIDE))


def sparkline(values: Sequence[Value]) -> str:
    """A block for each number, from the lowest to the highest among them; a blank where there is none."""
    known = numbers(iter(values))
    if not known:
        return ""
    least, greatest = min(known), max(known)
    middle = len(BLOCKS) // 2 - 1
    part = 2 if isinf(greatest - least) else 1  # the whole range may be beyond the floats, half the least float is 0

    def block(value: Value) -> str:
        """How high it stands."""
        if not isinstance(value, int | float):
            return " "
        if greatest == least:
            return BLOCKS[middle]
        share = (value / part - least / part) / (greatest / part - least / part)
        return BLOCKS[min(int(share * len(BLOCKS)), len(BLOCKS) - 1)]

    return "".join(map(block, values))


def quality_text(q: Value) -> str:
    """good, uncertain or bad."""
    return quality_word(q) if isinstance(q, int) else "-"
