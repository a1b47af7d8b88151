"""`dinrail events`: what has happened, to what, by whom, as the recorder has stored it."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, JsonValue, ValidationError
from rich.table import Table
from rich.text import Text

from contracts.acl import VIEWER
from contracts.codec import json_path
from contracts.v1.command import PLANT
from contracts.v1.event import Event
from contracts.v1.event_store import (
    AUDIT_EVENTS,
    MOST_EVENTS,
    READ_EVENTS,
    AuditEvents,
    ReadEvents,
)
from contracts.v1.pipeline import WORKSPACE
from plugins.api.duration import parse_duration
from services.cli import asking
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.table import clipped, console

HINT = "is a recorder running? `recorder.answers_queries` must be true in its settings, and --recorder its name"
_OF_WORKSPACES = frozenset({"run", "pipeline", "alarm"})
"""Kinds of aggregates that belong to a workspace; all others belong to the plant."""
_WIDEST = 90
"""Characters of an event's data; --json has all of it."""

Q = TypeVar("Q", bound=BaseModel)

events_app = typer.Typer(no_args_is_help=True, help="Show what has happened, to what, by whom.")

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Events at the most.")]
Since = Annotated[str | None, typer.Option(help="From then on: 2h (ago), or 2026-11-21 14:30 (here).")]
Until = Annotated[str | None, typer.Option(help="Before then, written in the same ways.")]
Recorder = Annotated[str, typer.Option(help="The recorder that answers.")]


@events_app.command("list")
def list_events(
    user: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only this type, such as write.done.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    recorder: Recorder = "recorder",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the latest events, the last one at the bottom."""
    from_us, to_us = _micros(since), _micros(until)
    found: list[Event] = []
    after, more = None, True
    while more and len(found) < limit:
        asked = _question(
            AuditEvents,
            user=user,
            type=type_,
            since=from_us,
            until=to_us,
            limit=min(MOST_EVENTS, limit - len(found)),
            after=after,
        )
        page = asking.ask(folder, AUDIT_EVENTS, asked, account=VIEWER.name, hint=HINT, id=recorder)
        found += page.events
        after, more = page.next, page.next is not None
    _print(found[::-1], as_json=as_json)
    if more and not as_json:
        typer.echo(f"there are older ones: --limit {10 * limit}, or --until, shows them", err=True)


@events_app.command()
def show(
    aggregate: Annotated[str, typer.Argument(help="Its kind: device, run, pipeline, alarm, plugin, ...")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    from_version: Annotated[int, typer.Option(min=1, help="Begin with this version.")] = 1,
    to_version: Annotated[int | None, typer.Option(min=1, help="End with this version.")] = None,
    until: Annotated[str | None, typer.Option(help="As it was then: 2h (ago), or 2026-11-21 14:30 (here).")] = None,
    limit: Limit = 1000,
    scope: Annotated[str | None, typer.Option("--workspace", help="The workspace; `plant` for what has none.")] = None,
    recorder: Recorder = "recorder",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what has happened to one thing, in the order of its versions; ends with 1 if versions are missing."""
    found: list[Event] = []
    missing: list[tuple[int, int]] = []
    repeated: set[int] = set()
    to_t, after, more = _micros(until), None, True
    while more and len(found) < limit:
        asked = _question(
            ReadEvents,
            scope=scope or (WORKSPACE if aggregate in _OF_WORKSPACES else PLANT),
            aggregate=aggregate,
            aggregate_id=name,
            from_version=from_version,
            to_version=to_version,
            to_t=to_t,
            limit=min(MOST_EVENTS, limit - len(found)),
            after=after,
        )
        page = asking.ask(folder, READ_EVENTS, asked, account=VIEWER.name, hint=HINT, id=recorder)
        found += page.events
        missing += page.missing
        repeated.update(page.repeated)
        after, more = page.next, page.next is not None
    _print(found, as_json=as_json)
    for line in _remarks(missing, repeated):
        typer.echo(line, err=True)
    if more:
        typer.echo(f"there are more: --from-version {found[-1].version + 1}", err=True)
    if missing:
        raise typer.Exit(1)


def _question(model: type[Q], **fields: object) -> Q:
    """What is asked, without what was not given; ends the program if it breaks the contract."""
    try:
        return model.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        fail(f"{json_path(fault['loc'])}: {fault['msg']}")


def _micros(text: str | None) -> int | None:
    """Microseconds since 1970 UTC; ends the program if it is no time."""
    if text is None:
        return None
    with suppress(ValueError):
        return time.time_ns() // 1000 - round(parse_duration(text) * 1e6)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e6)
    except (ValueError, OverflowError):
        fail(f"{text}: not a time; write 30m or 2h for so long ago, or 2026-11-21 14:30")


def _print(events: Sequence[Event], *, as_json: bool) -> None:
    if as_json:
        for event in events:
            typer.echo(event.model_dump_json())
        return
    table = Table("time", "user", "what", "version", "type", "data", box=None)
    for event in events:
        scope = "" if event.scope == PLANT else f"{event.scope}/"
        what = f"{scope}{event.aggregate} {event.aggregate_id}"
        cells = (_time(event.t), event.user or "", what, str(event.version), event.type, _short(event.data))
        table.add_row(*map(Text, cells))
    console().print(table)


def _remarks(missing: Iterable[tuple[int, int]], repeated: Iterable[int]) -> Iterator[str]:
    for first, last in missing:
        what = f"version {first} is" if first == last else f"versions {first} to {last} are"
        yield f"{what} missing: lost, or still to come"
    for version in sorted(repeated):
        yield f"version {version} is there more than once: its service has lost its count"


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _short(data: Mapping[str, JsonValue]) -> str:
    text = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in data.items())
    return clipped(text, _WIDEST)
