"""`dinrail replay` and `dinrail pipeline diff`: a run gone through again, a shadow compared with the live version."""

import json
from collections.abc import Iterable

import typer
from pydantic import JsonValue

from contracts.acl import ENGINEER
from contracts.v1.pipeline import DIFF_PIPELINE, WORKSPACE, DiffPipeline, PipelineDiff
from contracts.v1.run import REPLAY_RUN, ReplayRun
from services.cli.counted import counted
from services.cli.options import HERE, AsJson, Folder, Scope
from services.cli.pipeline import Name, RunName, ask

REPLAY_S = 60.0
"""A long run takes a while to be fetched and gone through."""
_SHOWN = 400
"""Characters of one side of a difference; --json has all of it."""


def replay(run: RunName, scope: Scope = WORKSPACE, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Go through a recorded run again, sending nothing to any device; ends with 1 if it comes out otherwise."""
    asked = ReplayRun()
    result = ask(folder, REPLAY_RUN, asked, account=ENGINEER.name, timeout_s=REPLAY_S, scope=scope, id=run)
    if as_json:
        typer.echo(result.model_dump_json())
    elif result.same:
        typer.echo(f"{result.run}: {counted(result.events, 'event')}, comes out the same")
    else:
        typer.echo(f"{result.run}: {counted(result.events, 'event')}, {_differences(len(result.differences))}")
        for one in result.differences:
            place = f"{one.node}: {one.what}" if one.node and one.node != one.what else one.what
            _tell(place, (("recorded", one.recorded), ("replayed", one.replayed)))
    if not result.same:
        raise typer.Exit(1)


def diff(name: Name, scope: Scope = WORKSPACE, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show what the shadow would have done otherwise than the live version; ends with 1 if it would have."""
    found = ask(folder, DIFF_PIPELINE, DiffPipeline(), account=ENGINEER.name, scope=scope, id=name)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        _print_diff(found)
    if found.differences:
        raise typer.Exit(1)


def _print_diff(found: PipelineDiff) -> None:
    compared = f"{found.pipeline}: version {found.shadow} in the shadow of version {found.version}"
    if not found.runs:
        typer.echo(f"{compared}: no run of both has ended yet")
        return
    runs = f"{counted(found.runs, 'run')} compared"
    typer.echo(f"{compared}, {runs}: {_differences(len(found.differences) + found.more)}")
    for one in found.differences:
        place = f"{one.run}: {one.node}: {one.what}" if one.node else f"{one.run}: {one.what}"
        _tell(place, (("live", one.live), ("shadow", one.shadow)))
    if found.more:
        typer.echo(f"... and {found.more} older ones")


def _tell(place: str, sides: Iterable[tuple[str, JsonValue]]) -> None:
    typer.echo(f"  {place}")
    for side, value in sides:
        text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
        typer.echo(f"    {side:8}  {text if len(text) <= _SHOWN else f'{text[: _SHOWN - 1]}…'}")


def _differences(number: int) -> str:
    return counted(number, "difference") if number else "no differences"
