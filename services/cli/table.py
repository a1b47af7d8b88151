"""Values and states as text for people."""

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TypeAlias

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from contracts.v1.alarm import Alarm
from contracts.v1.device import DeviceStatus
from contracts.v1.frame import GOOD
from contracts.v1.message import Value
from contracts.v1.pipeline import WORKSPACE, PipelineInfo
from contracts.v1.run import RunState, RunStatus
from contracts.v1.service import ServiceStatus
from services.cli.picture import Picture, Row, quality_word

VALUE_WIDTH = 28
MOST_LINES = 8
"""Pipelines that are shown beside the values, and alarms."""
PIPE_WIDTH = 160

Line: TypeAlias = tuple[str, Text, str, str]
"""What, its state, since when, why."""

_STYLES = {
    "good": "green",
    "uncertain": "yellow",
    "bad": "red",
    ServiceStatus.ONLINE: "green",
    ServiceStatus.OFFLINE: "red",
    DeviceStatus.DEGRADED: "yellow",
    RunStatus.FAILED: "red",
    "active unacked": "red",
    "active acked": "yellow",
    "cleared unacked": "yellow",
}


def value_text(value: Value) -> str:
    """The value as people read it: floats with six digits, which is what a float32 holds."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(value_text(item) for item in value)}]"
    return printable(str(value))


def printable(text: str) -> str:
    """The text on one line, with escapes for what a terminal would obey instead of showing it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def clipped(text: str, width: int = VALUE_WIDTH) -> str:
    """The text, cut to so many characters, the last of which then says so."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def age_text(since_ms: int | None, now_ms: int) -> str:
    """How long ago, in the largest unit that says something: 120 ms, 4.2 s, 5 min, 3 h, 2 d."""
    if since_ms is None:
        return "-"
    seconds = max(0, now_ms - since_ms) / 1000
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds:.1f} s" if unit == "s" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def time_text(millis: int) -> str:
    """A time in milliseconds since 1970 UTC, by the clock of this machine's zone."""
    return datetime.fromtimestamp(millis / 1000, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def console() -> Console:
    """A console as wide as the terminal; into a file or a pipe, wide enough for any table.

    What stands in brackets or between colons is text of the plant, and no markup.
    """
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, emoji=False)


def filled(heads: Sequence[Column | str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of these rows, without the columns in which nothing stands: what does stand there has their room."""
    kept = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    table = Table(*(heads[at] for at in kept), box=None)
    for row in rows:
        table.add_row(*(row[at] for at in kept))
    return table


def print_table(table: Table, *, nothing: str) -> None:
    """The table; if it has no row, what there is not."""
    console().print(table if table.row_count else nothing)


def states(picture: Picture, now: int, *, cut: bool = False) -> Table:
    """A line per service, device, pipeline and alarm: its state, since when, and why. cut: to one line each."""
    fixed = (Column(no_wrap=True) for _ in range(3))
    table = Table(*fixed, Column(), box=None, show_header=False, pad_edge=False)
    for what, state, since, why in (*_services(picture, now), *_pipelines(picture, now), *_alarms(picture, now)):
        table.add_row(what, state, since, Text(printable(why), no_wrap=cut, overflow="ellipsis" if cut else None))
    return table


def _services(picture: Picture, now: int) -> Iterator[Line]:
    for (service, instance), presence in sorted(picture.services.items()):
        yield f"{service} {instance}", _styled(presence.state), age_text(presence.since, now), presence.version
    for device, state in sorted(picture.states.items()):
        error = (state.error or "").partition("\n")[0]
        yield f"device {device}", _styled(state.state), age_text(state.since, now), error


def _pipelines(picture: Picture, now: int) -> Iterator[Line]:
    """How the latest run of each stands; those with something wrong before the others."""
    wrong = {name: _wrong(info, picture.runs.get(name)) for name, info in picture.pipelines.items()}
    names = sorted(wrong, key=lambda name: (not wrong[name], name))
    for name in names[:MOST_LINES]:
        scope, pipeline = name
        label = f"pipeline {pipeline if scope == WORKSPACE else '/'.join(name)}"
        run = picture.runs.get(name)
        if run is None:
            yield label, Text("enabled" if picture.pipelines[name].enabled else "disabled"), "", wrong[name]
        else:
            yield label, _styled(run.state), age_text(run.since, now), wrong[name]
    if len(names) > MOST_LINES:
        yield f"... and {len(names) - MOST_LINES} more", Text(), "", "`dinrail pipeline list` shows all"


def _wrong(info: PipelineInfo, run: RunState | None) -> str:
    """Why its triggers do not start it, or its latest run has failed; empty if all is well."""
    error = run.error.message if run and run.error else ""
    return (info.problem or error).partition("\n")[0]


def _alarms(picture: Picture, now: int) -> Iterator[Line]:
    raised = picture.raised()
    for alarm in raised[:MOST_LINES]:
        yield f"alarm {alarm.alarm}", _styled(state_text(alarm)), age_text(alarm.since, now), alarm.text
    if len(raised) > MOST_LINES:
        yield f"... and {len(raised) - MOST_LINES} more", Text(), "", "`dinrail alarm list` shows all"


def state_text(alarm: Alarm) -> str:
    """The alarm's state as people read it: active unacked, cleared unacked, ..."""
    return str(alarm.state).replace("_", " ")


def values(rows: Sequence[Row], now: int) -> Table:
    """A line per tag."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device", no_wrap=True)
    table.add_column("tag", no_wrap=True)
    table.add_column("value", justify="right")
    units = any(row.unit for row in rows)  # the history knows none
    if units:
        table.add_column("unit", no_wrap=True)
    table.add_column("quality")
    table.add_column("age", justify="right", no_wrap=True)
    for row in rows:
        quality = _styled(quality_word(row.q), extra=f" ({row.cause})" if row.cause and row.q < GOOD else "")
        value = Text(clipped(value_text(row.value)))
        for text in (value, quality):  # where the terminal is narrow these are cut, and each tag has one line still
            text.no_wrap, text.overflow = True, "ellipsis"
        unit = (row.unit or "",) if units else ()
        table.add_row(row.device, row.tag, value, *unit, quality, age_text(row.ts, now))
    return table


def screen(picture: Picture, *, height: int, pattern: str = "*") -> RenderableType:
    """States and values, cut to a terminal of this height with a last line that says what was cut."""
    now = now_ms()
    rows = picture.rows(pattern)
    above = states(picture, now, cut=True)
    room = max(1, height - above.row_count - 4)
    shown = rows if len(rows) <= room else _some_of_each_device(rows, room)
    parts: list[RenderableType] = [above, Text(), values(shown, now)]
    if len(shown) < len(rows):
        parts.append(Text(f"... and {len(rows) - len(shown)} more; `dinrail tags` shows all", style="dim"))
    return Group(*parts)


def _some_of_each_device(rows: Sequence[Row], room: int) -> list[Row]:
    """Equally many rows of each device, as far as the room goes: measured values, which move, before the others."""
    devices = [list(of_one) for _, of_one in groupby(rows, key=lambda row: row.device)]
    each = 1
    while sum(min(each + 1, len(of_one)) for of_one in devices) <= room:
        each += 1
    chosen = [row for of_one in devices for row in sorted(of_one, key=_is_no_measurement)[:each]]
    return chosen[:room]


def _is_no_measurement(row: Row) -> bool:
    return not isinstance(row.value, float)


def _styled(word: str, extra: str = "") -> Text:
    return Text(word + extra, style=_STYLES.get(word, ""))
