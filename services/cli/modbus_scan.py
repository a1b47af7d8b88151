"""What `dinrail modbus scan` finds, as it comes and as a table."""

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from plugins.api.scan import PlaceFinding, Scans
from services.cli.table import value_text

LAST_UNIT = 255
_OF_REGISTERS = ("holding", "input")
_COLUMNS = ("bool", "hex", "int16", "uint16", "float32 ABCD", "float32 CDAB")
_SUSPICIOUS = 100
"""So many units at one address are more likely one device that does not look at the unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """With which driver, on which connection, how politely, and how it is shown."""

    driver: Scans
    connection: BaseModel
    pause_s: float
    console: Console
    as_json: bool


def parse_units(text: str) -> list[int]:
    """The units in a list such as 1-10,17, in its order. Raises ValueError."""
    units: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last <= LAST_UNIT:
            raise ValueError(f"{part!r} is no range of units; write numbers from 0 to {LAST_UNIT}, such as 1-10,17")
        units += range(first, last + 1)
    return list(dict.fromkeys(units))


async def show_units(job: Scan, units: Sequence[int]) -> bool:
    """Shows each unit that answers as soon as it does. Whether any did. Raises DeviceError."""
    found = []
    with _progress() as progress:
        bar = progress.add_task("units asked", total=len(units))
        async for finding in job.driver.scan_units(job.connection, units, pause_s=job.pause_s):
            progress.advance(bar)
            if finding.answers:
                found.append(finding)
                if not job.as_json:
                    job.console.print(f"unit {finding.unit:3}  {finding.detail}", highlight=False)
    if job.as_json:
        job.console.print_json(json.dumps([asdict(finding) for finding in found]))
        return bool(found)
    summary = f"{len(found) or 'none'} of {len(units)} units {'answers' if len(found) == 1 else 'answer'}"
    job.console.print(summary, highlight=False)
    if len(found) >= _SUSPICIOUS:
        job.console.print("so many are probably one device that does not look at the unit", style="yellow")
    return bool(found)


async def show_places(job: Scan, unit: int, ranges: Sequence[str]) -> bool:
    """Shows what can be read in each range. Whether anything can. Raises ValueError, DeviceError.

    What was found is shown as well if the unit falls silent midway, or somebody has seen enough.
    """
    found: list[PlaceFinding] = []
    whole = False
    try:
        with _progress() as progress:
            for places in ranges:
                bar = progress.add_task(places, total=_count(places))
                async for some in job.driver.scan_places(job.connection, unit, places, pause_s=job.pause_s):
                    found += some
                    progress.advance(bar, len(some))
        whole = True
    finally:
        if found or whole:
            _show_places(job, unit, found)
    return any(finding.raw is not None for finding in found)


def _show_places(job: Scan, unit: int, found: Sequence[PlaceFinding]) -> None:
    if job.as_json:
        job.console.print_json(json.dumps([_reading(found, index) for index in range(len(found))]))
    else:
        job.console.print(_table(found))
        readable = sum(finding.raw is not None for finding in found)
        job.console.print(f"unit {unit}: {readable} of {len(found)} can be read", highlight=False)


def _progress() -> Progress:
    """A bar on a terminal; into a file or a pipe, nothing. On the error output, so that results stay clean."""
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)


def _count(places: str) -> int:
    """How many addresses a range has; the driver says what is wrong with one that is none."""
    numbers = [int(number) for number in re.findall(r"\d+", places)]
    return numbers[-1] - numbers[0] + 1 if numbers else 1


def _reading(found: Sequence[PlaceFinding], index: int) -> dict[str, Any]:
    """What is at one address, as each type that it may be. float32 takes the next register too."""
    finding = found[index]
    if finding.raw is None:
        return {"address": finding.address, "refused": finding.refused}
    table, _, number = finding.address.partition(":")
    if table not in _OF_REGISTERS:
        return {"address": finding.address, "bool": bool(finding.raw)}
    reading: dict[str, Any] = {
        "address": finding.address,
        "hex": f"{finding.raw:04x}",
        "uint16": finding.raw,
        "int16": finding.raw - 0x10000 if finding.raw & 0x8000 else finding.raw,
    }
    following = found[index + 1] if index + 1 < len(found) else None
    if following and following.raw is not None and following.address == f"{table}:{int(number) + 1}":
        reading["float32 ABCD"] = _float(finding.raw, following.raw)
        reading["float32 CDAB"] = _float(following.raw, finding.raw)
    return reading


def _float(high: int, low: int) -> float | None:
    """None where it is no number."""
    (value,) = struct.unpack(">f", struct.pack(">HH", high, low))
    return value if math.isfinite(value) else None


def _table(found: Sequence[PlaceFinding]) -> Table:
    """A row per address, but one for a run of refused ones."""
    readings = [_reading(found, index) for index in range(len(found))]
    columns = [column for column in _COLUMNS if any(column in reading for reading in readings)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("address", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    index = 0
    while index < len(found):
        run = _refused_run(found, index)
        if run:
            last = found[index + run - 1].address.partition(":")[2]
            span = found[index].address if run == 1 else f"{found[index].address}-{last}"
            table.add_row(span, *[""] * len(columns), found[index].refused, style="dim")
        else:
            reading = readings[index]
            table.add_row(reading["address"], *(_text(reading, column) for column in columns), "")
        index += run or 1
    return table


def _text(reading: Mapping[str, Any], column: str) -> str:
    if column == "hex":
        return str(reading.get(column, ""))
    return value_text(reading[column]) if column in reading else ""


def _refused_run(found: Sequence[PlaceFinding], start: int) -> int:
    """How many findings from here on are refused for the same reason, in one table."""
    table = found[start].address.partition(":")[0]
    end = start
    while (
        end < len(found)
        and found[end].raw is None
        and found[end].refused == found[start].refused
        and found[end].address.startswith(f"{table}:")
    ):
        end += 1
    return end - start
