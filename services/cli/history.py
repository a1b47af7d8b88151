"""`dinrail history`: recorded values, or what they amount to, as a table, a line of blocks, CSV, JSON or Parquet."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.status import Status

from contracts.acl import VIEWER
from contracts.v1.history import MOST_POINTS, QUERY_HISTORY, Aggregate, HistoryColumns, HistoryFound, QueryHistory
from contracts.v1.message import LAST_SAFE_INTEGER
from plugins.api.duration import parse_duration
from services.cli import asking, completion
from services.cli.clock_buckets import begun, stretches
from services.cli.history_files import CsvLines, JsonLines, ParquetFile
from services.cli.history_table import SPARK, SPARK_WIDTH, Gathered, Out, Sparklines, ValueTable, spark_width
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.table import console
from services.cli.when import is_ago, micros, names_zone

HINT = "is a recorder running? `recorder.answers_queries` must be true in its settings, and --recorder its name"
_ROWS = 1000
"""Of a table, unless --limit says another number."""
_NOTHING = "nothing was recorded in that time"
_OLDER = ", or it is older than raw values are kept (recorder.store.keep): --every 1m shows what is left"

Patterns = Annotated[
    list[str],
    typer.Argument(
        help="DEVICE, TAG or DEVICE/TAG, with * and ? as in file names.", autocompletion=completion.device_tags
    ),
]


def history(
    patterns: Patterns,
    *,
    since: Annotated[str, typer.Option(help="From then on: 2h (ago), or 2026-11-21 14:30 (here).")] = "1h",
    until: Annotated[str, typer.Option(help="Before then, written in the same ways.")] = "0s",
    every: Annotated[str | None, typer.Option(help="Sum up so long a time in each row: 1m, 1h, 1d.")] = None,
    agg: Annotated[list[Aggregate] | None, typer.Option(help="What is told of it (mean); repeat it.")] = None,
    good: Annotated[bool, typer.Option("--good", help="Only good values, no uncertain ones.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help=f"Rows at the most; {_ROWS} of a table.")] = None,
    spark: Annotated[bool, typer.Option("--spark", help="A line for each tag.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table for spreadsheets.")] = False,
    as_json: AsJson = False,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
    recorder: Annotated[str, typer.Option(help="The recorder that answers.")] = "recorder",
    folder: Folder = HERE,
) -> None:
    """Show recorded values: each one, or summed up (--every, --agg). Ends with 1 if there are none."""
    if sum((spark, as_csv, as_json, parquet is not None)) > 1:
        fail("--spark, --csv, --json, --parquet: choose one")
    if spark and (every or agg):
        fail("--spark chooses --every and --agg itself: leave them out, or take --csv or --json")
    asked = _asked(since, until, every=every, agg=agg, spark=spark)
    question = asking.question(QueryHistory, {"tags": patterns, "good_only": good, **asked})
    aggregates = tuple(map(str, question.aggregates or ()))
    out: Out
    if parquet is not None:
        out = ParquetFile(parquet, aggregates)
    elif as_csv:
        out = CsvLines(aggregates)
    elif as_json:
        out = JsonLines(aggregates)
    else:
        out = Sparklines(question, width=question.buckets or SPARK_WIDTH) if spark else ValueTable(aggregates)
        limit = limit or (None if spark else _ROWS)
    with out:
        questions = _by_clock(question, since)
        rows, more = _fetch(questions, out, limit=limit, folder=folder, recorder=recorder)
    if more:
        typer.echo(f"there is more: --limit {10 * rows}, or --every 1m to sum it up", err=True)
    if not rows:
        typer.echo(_NOTHING if aggregates else f"{_NOTHING}{_OLDER}", err=True)
        raise typer.Exit(1)


def _asked(since: str, until: str, *, every: str | None, agg: list[Aggregate] | None, spark: bool) -> dict[str, object]:
    """Time and buckets of the question. So long ago begins at the beginning of a bucket, as the clock here has it."""
    step = None if every is None else _duration_us(every)
    first, end = micros(since), micros(until)
    if step and first is not None and is_ago(since):
        first = begun(first, step)
    asked: dict[str, object] = {"since": max(first or 0, 0), "until": end}
    if spark:
        return {**asked, "aggregates": list(SPARK), "buckets": spark_width(console().width)}
    if step or agg:
        asked["aggregates"] = agg or [Aggregate.MEAN]
    return {**asked, "every": step}


def _duration_us(text: str) -> int:
    found = 0
    with suppress(ValueError, OverflowError):
        found = round(parse_duration(text) * 1e6)
    if not 0 < found <= LAST_SAFE_INTEGER:
        fail(f"--every {text}: not a length of time; write 10s, 1m, 1h or 1d")
    return found


def _by_clock(question: QueryHistory, since: str) -> Sequence[QueryHistory]:
    """The question, in parts where the clock here changes among its buckets; unless `since` names a zone of its own."""
    if question.every is None or names_zone(since):
        return [question]
    return [
        question.model_copy(update=part._asdict()) for part in stretches(question.since, question.until, question.every)
    ]


def _fetch(
    questions: Sequence[QueryHistory], out: Out, *, limit: int | None, folder: Path, recorder: str
) -> tuple[int, bool]:
    """Asks until all is there, or so many rows; gives how many there are, and whether there is more."""
    if len(questions) == 1:
        return _asked_on(questions, out.add, limit=limit, folder=folder, recorder=recorder)
    # By tag and time, as one question's come: the first ones of all are among the first ones of each.
    gathered = Gathered()
    _, more = _asked_on(questions, gathered.add, limit=limit, folder=folder, recorder=recorder)
    rows, cut = gathered.pour(out, limit)
    return rows, more or cut


def _asked_on(
    questions: Sequence[QueryHistory],
    add: Callable[[HistoryColumns], None],
    *,
    limit: int | None,
    folder: Path,
    recorder: str,
) -> tuple[int, bool]:
    """Asks one question after the other, each until all is there, or so many rows. Gives what _fetch() does."""
    rows, before, more = 0, 0, False
    waiting = iter(questions)
    question = next(waiting)

    def asked_for(after: str | None) -> QueryHistory:
        """The question for what is missing still."""
        left = MOST_POINTS if limit is None else min(MOST_POINTS, limit - (rows - before))
        return question.model_copy(update={"limit": left, "after": after})

    def following(found: HistoryFound) -> BaseModel | None:
        """Takes an answer, and asks for the next."""
        nonlocal rows, before, more, question
        for series in found.series:
            rows += len(series.t)
            add(series)
        place = found.next
        status.update(f"{rows:,} rows" + (f", {place.rpartition('/')[0]}" if place else ""))
        if place is not None and rows - before != limit:
            return asked_for(place)
        more = more or place is not None
        others = next(waiting, None)
        if others is None:
            return None
        question, before = others, rows
        return asked_for(None)

    with Status("asking the recorder", console=Console(stderr=True)) as status:
        asking.ask_on(folder, QUERY_HISTORY, asked_for(None), following, account=VIEWER.name, hint=HINT, id=recorder)
    return rows, more
