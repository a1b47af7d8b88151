"""`dinrail events`: what has happened, to what, by whom, as the recorder has stored it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import JsonValue
from rich.table import Column, Table
from rich.text import Text

from contracts.acl import VIEWER
from contracts.v1.command import PLANT, Command
from contracts.v1.event import Event
from contracts.v1.event_store import (
    AUDIT_EVENTS,
    MOST_EVENTS,
    READ_EVENTS,
    AggregateEvents,
    FoundEvents,
)
from contracts.v1.pipeline import WORKSPACE
from services.cli import asking
from services.cli.options import HERE, AsJson, Folder
from services.cli.table import clipped, print_table, printable
from services.cli.when import micros, stretch, time_text

HINT = "is a recorder running? `recorder.answers_queries` must be true in its settings, and --recorder its name"
_OF_WORKSPACES = frozenset({"run", "pipeline", "alarm"})
"""Kinds of aggregates that belong to a workspace; all others belong to the plant."""
_WIDEST = 90
"""Characters of an event's data; --json has all of it."""

Found = TypeVar("Found", FoundEvents, AggregateEvents)

events_app = typer.Typer(no_args_is_help=True, help="Show what has happened, to what, by whom.")

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Events at the most.")]
Since = Annotated[str | None, typer.Option(help="From then on: 2h (ago), or 2026-11-21 14:30 (here).")]
Until = Annotated[str | None, typer.Option(help="Before then, written in the same ways.")]
Workspace = Annotated[str | None, typer.Option("--workspace", help="The workspace; `plant` for what has none.")]
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
    first, end = stretch(since, until)
    asked = {"user": user, "type": type_, "since": first, "until": end}
    pages = list(_pages(AUDIT_EVENTS, asked, limit=limit, folder=folder, recorder=recorder))
    found = [event for page in pages for event in page.events]
    _print(found[::-1], as_json=as_json)
    if pages[-1].next is not None and not as_json:
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
    scope: Workspace = None,
    recorder: Recorder = "recorder",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what has happened to one thing, in the order of its versions; ends with 1 if versions are missing."""
    asked = {
        "scope": scope_of(aggregate, scope),
        "aggregate": aggregate,
        "aggregate_id": name,
        "from_version": from_version,
        "to_version": to_version,
        "to_t": micros(until),
    }
    pages = list(_pages(READ_EVENTS, asked, limit=limit, folder=folder, recorder=recorder))
    found = [event for page in pages for event in page.events]
    missing = [gap for page in pages for gap in page.missing]
    _print(found, as_json=as_json)
    if pages[0].first is not None:
        typer.echo(f"kept from version {pages[0].first} on; what was before was removed by retention", err=True)
    for line in _remarks(missing, {version for page in pages for version in page.repeated}):
        typer.echo(line, err=True)
    if pages[-1].next is not None:
        typer.echo(f"there are more: --from-version {found[-1].version + 1}", err=True)
    if missing:
        raise typer.Exit(1)


def _pages(
    command: Command[Any, Found], asked: Mapping[str, object], *, limit: int, folder: Path, recorder: str
) -> Iterator[Found]:
    """Answer after answer, at least one, until they hold so many events or there are no more."""
    left, after = limit, None
    while left > 0:
        payload = asking.question(command.payload, {**asked, "limit": min(MOST_EVENTS, left), "after": after})
        page = asking.ask(folder, command, payload, account=VIEWER.name, hint=HINT, id=recorder)
        yield page
        left, after = left - len(page.events), page.next
        if after is None:
            return


def scope_of(aggregate: str, named: str | None) -> str:
    """The scope of this kind of aggregates, unless one is named."""
    return named or (WORKSPACE if aggregate in _OF_WORKSPACES else PLANT)


def _print(events: Sequence[Event], *, as_json: bool) -> None:
    if as_json:
        for event in events:
            typer.echo(event.model_dump_json())
        return
    table = Table("time", "user", Column("what", overflow="fold"), "version", "type", "data", box=None)
    for event in events:
        scope = "" if event.scope == PLANT else f"{event.scope}/"
        what = f"{scope}{event.aggregate} {event.aggregate_id}"
        cells = (time_text(event.t), event.user or "", what, str(event.version), event.type, data_text(event.data))
        table.add_row(*map(Text, cells))
    print_table(table, nothing="no events")


def _remarks(missing: Iterable[tuple[int, int]], repeated: Iterable[int]) -> Iterator[str]:
    for first, last in missing:
        what = f"version {first} is" if first == last else f"versions {first} to {last} are"
        yield f"{what} missing: lost, or still to come"
    for version in sorted(repeated):
        yield f"version {version} is there more than once: its service has lost its count"


def data_text(data: Mapping[str, JsonValue]) -> str:
    """An event's data in one line, cut if it is long."""
    text = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in data.items())
    return clipped(printable(text), _WIDEST)
