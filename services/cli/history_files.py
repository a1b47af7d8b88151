"""Recorded values for programs: CSV, JSON lines, Parquet. Times are of UTC, to the microsecond."""

import csv
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import typer

from contracts.v1.history import Aggregate, HistoryColumns
from contracts.v1.message import LAST_SAFE_INTEGER, Value
from services.cli.history_table import quality_text, rows
from services.cli.options import fail

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANY_TYPE = frozenset({"value", Aggregate.FIRST, Aggregate.LAST})
"""Columns that may hold texts and arrays."""


class _Lines:
    """Written as it comes."""

    def __init__(self, aggregates: Sequence[str]) -> None:
        self._aggregates = aggregates

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """All is written already."""


class CsvLines(_Lines):
    """A head and a line for each row."""

    def __enter__(self) -> Self:
        self._write(["time", "device", "tag", *(self._aggregates or ("value", "quality"))])
        return self

    def add(self, series: HistoryColumns) -> None:
        """See Out."""
        for t, row in told(series):
            self._write([utc(t), series.device, series.tag, *map(_cell, row.values())])

    @staticmethod
    def _write(cells: Sequence[str]) -> None:
        csv.writer(sys.stdout, lineterminator="\n").writerow(cells)


class JsonLines(_Lines):
    """An object for each row; integers beyond 2^53 - 1 as text, as on the bus."""

    def add(self, series: HistoryColumns) -> None:
        """See Out."""
        for t, row in told(series):
            exact = {name: str(value) if _is_large(value) else value for name, value in row.items()}
            found = {"time": utc(t), "t": t, "device": series.device, "tag": series.tag, **exact}
            typer.echo(json.dumps(found, ensure_ascii=False))


class ParquetFile:
    """A file that is there whole or not at all. Raises typer.Exit if DuckDB is not installed, or the file refused.

    Columns: time, device, tag; for points value, value_text, quality; for buckets one for each aggregate. What is a
    number or a bool stands in `value` (`first`, `last`) as a double, what a double cannot hold in `value_text`
    (`first_text`, `last_text`): texts, arrays as JSON, and integers beyond 2^53 - 1 with all their digits.
    """

    def __init__(self, path: Path, aggregates: Sequence[str]) -> None:
        try:
            self._duckdb: Any = importlib.import_module("duckdb")
        except ImportError:
            fail("--parquet needs DuckDB: pip install 'dinrail[parquet]'; --csv needs nothing")
        if not path.name:
            fail(f"--parquet {path}: not a file; write a name such as level.parquet")
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._lines = path.with_name(f".{path.name}.lines")
        self._columns = {"time": "BIGINT", "device": "VARCHAR", "tag": "VARCHAR", **_types(aggregates)}

    def __enter__(self) -> Self:
        try:
            self._file = self._lines.open("w", encoding="utf-8")
        except OSError as error:
            fail(f"{self._path}: {error.strerror}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                self._finish()
        except OSError as failure:
            fail(f"{self._path}: {failure.strerror}")
        except self._duckdb.Error as failure:
            fail(f"{self._path}: {failure}")
        finally:
            for left in (self._lines, self._part):
                left.unlink(missing_ok=True)

    def add(self, series: HistoryColumns) -> None:
        """See Out."""
        head = {"device": series.device, "tag": series.tag}
        try:
            for t, row in told(series):
                parts = (part for name, value in row.items() for part in _parts(name, value))
                self._file.write(json.dumps({"time": t, **head, **dict(parts)}) + "\n")
        except OSError as error:
            fail(f"{self._path}: {error.strerror}")

    def _finish(self) -> None:
        names = ", ".join(f'"{name}"' for name in self._columns if name != "time")
        types = ", ".join(f"\"{name}\": '{kind}'" for name, kind in self._columns.items())
        lines, part = (str(path).replace("'", "''") for path in (self._lines, self._part))
        # Nothing is fetched: what is needed to read JSON and to write Parquet is in DuckDB's package.
        config = {"autoinstall_known_extensions": False}
        with self._duckdb.connect(":memory:", config=config) as database:
            database.execute(
                f"COPY (SELECT make_timestamptz(time) AS time, {names} FROM read_json('{lines}',"  # noqa: S608
                f" format='newline_delimited', columns={{{types}}}))"
                f" TO '{part}' (FORMAT parquet, COMPRESSION zstd)"
            )
        self._part.replace(self._path)


def told(series: HistoryColumns) -> Iterator[tuple[int, dict[str, Value]]]:
    """Time and columns of each row, by the names that people and programs see."""
    for t, row in rows(series):
        if "v" in row:
            yield t, {"value": row["v"], "quality": quality_text(row["q"])}
        else:
            yield t, row


def utc(t_us: int) -> str:
    """ISO 8601, exact to the microsecond."""
    return (_EPOCH + timedelta(microseconds=t_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _cell(value: Value) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _types(aggregates: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in aggregates or ("value",):
        found[name] = "BIGINT" if name == Aggregate.COUNT else "DOUBLE"
        if name in _ANY_TYPE:
            found[f"{name}_text"] = "VARCHAR"
    return found if aggregates else {**found, "quality": "VARCHAR"}


def _parts(name: str, value: Value) -> Iterator[tuple[str, Value]]:
    """The value in the column for it."""
    if name not in _ANY_TYPE:
        yield name, value
    elif isinstance(value, list):
        yield f"{name}_text", json.dumps(value)
    elif isinstance(value, str) or _is_large(value):
        yield f"{name}_text", str(value)
    else:
        yield name, float(value) if isinstance(value, bool) else value


def _is_large(value: Value) -> bool:
    return isinstance(value, int) and abs(value) > LAST_SAFE_INTEGER
