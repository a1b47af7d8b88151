"""`dinrail pipeline runs`: the runs that are shown, so that one can be looked at, cancelled or replayed."""

import json
from typing import Annotated

import typer
from rich.table import Column

from contracts.v1.pipeline import WORKSPACE
from contracts.v1.run import RUN, RunState, RunStatus
from services.cli import completion
from services.cli.options import HERE, AsJson, Folder, Scope
from services.cli.retained import retained
from services.cli.table import clipped, filled, print_table, time_text

WHY_WIDTH = 60


def runs(
    name: Annotated[
        str | None, typer.Argument(help="Of this pipeline alone.", autocompletion=completion.pipelines)
    ] = None,
    state: Annotated[RunStatus | None, typer.Option(help="In this state alone.")] = None,
    scope: Scope = WORKSPACE,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the runs that are under way or were lately, the newest first."""
    levels = {"scope": scope} if name is None else {"scope": scope, "pipeline": name}
    found = [one for one in retained(folder, RUN, **levels) if state is None or one.state is state]
    found.sort(key=lambda one: one.run, reverse=True)  # names of runs begin with their time
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], ensure_ascii=False))
        return
    run, pipeline = Column("run", no_wrap=True), Column("pipeline", overflow="fold")
    heads = (run, pipeline, "version", "state", Column("since", min_width=len("2026-11-22")), "started by", "error")
    rows: list[tuple[str, ...]] = []
    for one in found:
        error = clipped(one.error.message.partition("\n")[0], WHY_WIDTH) if one.error else ""
        since = time_text(one.since)
        rows.append((one.run, one.pipeline, str(one.version), _state_text(one), since, _started_by(one), error))
    print_table(filled(heads, rows), nothing="no runs")


def _state_text(run: RunState) -> str:
    place = f", {run.position}. in the queue" if run.position else ""
    return f"{run.state}{place}{', in the shadow' if run.shadow else ''}"


def _started_by(run: RunState) -> str:
    return f"{run.trigger.kind} {run.trigger.by}" if run.trigger.by else run.trigger.kind
