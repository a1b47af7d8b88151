"""`dinrail events replay`: what one thing was like, as its stored events tell."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from contracts.acl import VIEWER
from contracts.v1.event_state import REPLAY_EVENTS, AggregateState, Happening, ReplayEvents
from services.cli import asking
from services.cli.counted import counted
from services.cli.events import HINT, Recorder, Workspace, data_text, scope_of
from services.cli.options import HERE, AsJson, Folder
from services.cli.table import console
from services.cli.when import micros, time_text


def replay_events(
    aggregate: Annotated[str, typer.Argument(help="Its kind: device, run, pipeline, alarm, plugin, ...")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    version: Annotated[int | None, typer.Option(min=1, help="After this version.")] = None,
    at: Annotated[str | None, typer.Option(help="As it was then: 2h (ago), or 2026-11-21 14:30 (here).")] = None,
    scope: Workspace = None,
    recorder: Recorder = "recorder",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what one thing was like at a version or a time, from its events; ends with 1 if versions are missing."""
    asked = {
        "scope": scope_of(aggregate, scope),
        "aggregate": aggregate,
        "aggregate_id": name,
        "to_version": version,
        "to_t": micros(at),
    }
    question = asking.question(ReplayEvents, asked)
    state = asking.ask(folder, REPLAY_EVENTS, question, account=VIEWER.name, hint=HINT, again=True, id=recorder)
    if as_json:
        typer.echo(state.model_dump_json())
    else:
        _print(state)
    if state.missing:
        typer.echo(f"missing up to here, lost or still to come: {counted(state.missing, 'version')}", err=True)
        raise typer.Exit(1)


def _print(state: AggregateState) -> None:
    status = f", {state.status.type} since {time_text(state.status.t)}" if state.status else ""
    typer.echo(f"{state.aggregate} {state.aggregate_id}, version {state.version} of {time_text(state.t)}{status}")
    table = Table("what", "count", "last", "version", "user", "type", "data", box=None)
    for what, count, one in _lines(state):
        data = data_text(one.data) if one.data is not None else f"{one.size} bytes"
        cells = (what, count, time_text(one.t), str(one.version), one.user or "", one.type, data)
        table.add_row(*map(Text, cells))
    console().print(table)
    if state.omitted:
        typer.echo(f"left out, since told long ago: {state.omitted}", err=True)


def _lines(state: AggregateState) -> Iterator[tuple[str, str, Happening]]:
    for one in state.types.values():
        yield "", str(one.count), one.last
    for part, told in state.parts.items():
        yield part, "", told
