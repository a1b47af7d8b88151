"""`dinrail pipeline` and `dinrail run`: definitions and runs, while the orchestrator runs."""

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import JsonValue
from rich.table import Table

from contracts.acl import ENGINEER, OPERATOR, VIEWER
from contracts.v1.command import ErrorCode, Failure
from contracts.v1.pipeline import (
    ALL_PIPELINES,
    DELETE_PIPELINE,
    GET_PIPELINE,
    LIST_PIPELINES,
    LIST_VERSIONS,
    ROLLBACK_PIPELINE,
    RUN_PIPELINE,
    SAVE_PIPELINE,
    VALIDATE_PIPELINE,
    WORKSPACE,
    DeletePipeline,
    GetPipeline,
    ListPipelines,
    ListVersions,
    RollbackPipeline,
    RunPipeline,
    SavePipeline,
    ValidatePipeline,
)
from contracts.v1.run import CANCEL_RUN, GET_RUN, CancelRun, GetRun, RunState
from plugins.api.document import DocumentError, Fault
from services.cli import asking, completion
from services.cli.options import HERE, AsJson, Folder, Scope, fail
from services.cli.table import clipped, console, print_table
from services.cli.typed_input import Mistyped, named_values
from services.orchestrator.definition.definition_file import read_definition
from services.orchestrator.pipelines.folder import read_text

LONGEST_RUN_S = 3600.0

ask = partial(asking.ask, hint="is an orchestrator running? `dinrail watch` and its logs tell")

pipeline_app = typer.Typer(no_args_is_help=True, help="Save, show and change pipelines while the orchestrator runs.")

Name = Annotated[str, typer.Argument(help="The pipeline.", autocompletion=completion.pipelines)]
File = Annotated[Path, typer.Argument(help="A definition in YAML or JSON.")]
RunName = Annotated[str, typer.Argument(help="The run.")]
ExpectVersion = Annotated[
    int | None, typer.Option("--expect-version", min=1, help="Only if this is its live version now.")
]


@pipeline_app.command("list")
def list_pipelines(scope: Scope = WORKSPACE, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show the pipelines of the workspace."""
    found = ask(folder, LIST_PIPELINES, ListPipelines(), account=VIEWER.name, scope=scope, id=ALL_PIPELINES)
    if as_json:
        typer.echo(found.model_dump_json())
        return
    table = Table("pipeline", "version", "enabled", "title", "revision", box=None)
    for one in found.pipelines:
        table.add_row(one.pipeline, str(one.version), "yes" if one.enabled else "no", one.title or "", one.rev)
    print_table(table, nothing=f"no pipelines in {scope}")


@pipeline_app.command()
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="Another version than the live one.")] = None,
    scope: Scope = WORKSPACE,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a pipeline with its definition."""
    info = ask(folder, GET_PIPELINE, GetPipeline(version=version), account=VIEWER.name, scope=scope, id=name)
    if as_json:
        typer.echo(info.model_dump_json())
        return
    typer.echo(f"# version {info.version}, saved by {info.saved_by}, revision {info.rev}")
    content = json.loads(info.definition.model_dump_json(exclude_defaults=True))
    typer.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), nl=False)


@pipeline_app.command()
def save(
    file: File,
    shadow: Annotated[bool, typer.Option(help="Run it beside the live version, its writes held back.")] = False,
    expect_version: ExpectVersion = None,
    scope: Scope = WORKSPACE,
    folder: Folder = HERE,
) -> None:
    """Save a definition: it is checked, and live from then on."""
    name, text = _definition(file)
    asked = asking.question(SavePipeline, {"definition": text, "expect_version": expect_version, "shadow": shadow})
    told = partial(_faults_text, pipeline=name, file=file)
    saved = ask(folder, SAVE_PIPELINE, asked, account=ENGINEER.name, told=told, scope=scope, id=name)
    what = "the shadow" if saved.shadow else "live"
    typer.echo(f"{saved.pipeline}: version {saved.version} is {what}, revision {saved.rev}")


@pipeline_app.command()
def validate(file: File, scope: Scope = WORKSPACE, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Ask what would be wrong with a definition, if it were saved."""
    name, text = _definition(file)
    asked = asking.question(ValidatePipeline, {"definition": text})
    found = ask(folder, VALIDATE_PIPELINE, asked, account=ENGINEER.name, scope=scope, id=name)
    if as_json:
        typer.echo(found.model_dump_json())
        raise typer.Exit(0 if found.ok else 1)
    for fault in found.faults:
        typer.echo(str(Fault(str(file), fault.line or 0, fault.path, fault.message, fault.mend)))
    if not found.ok:
        raise typer.Exit(1)
    typer.echo(f"{file}: no faults")


@pipeline_app.command()
def versions(name: Name, scope: Scope = WORKSPACE, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show all versions of a pipeline, the newest first."""
    found = ask(folder, LIST_VERSIONS, ListVersions(), account=VIEWER.name, scope=scope, id=name)
    if as_json:
        typer.echo(found.model_dump_json())
        return
    table = Table("version", "is", "saved by", "revision", box=None)
    for one in found.versions:
        table.add_row(str(one.version), "live" if one.live else "shadow" if one.shadow else "", one.saved_by, one.rev)
    console().print(table)


@pipeline_app.command()
def rollback(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version whose content is to be live again.")],
    expect_version: ExpectVersion = None,
    scope: Scope = WORKSPACE,
    folder: Folder = HERE,
) -> None:
    """Make the content of an old version, or of a shadow, live as a new one; a shadow then ends."""
    asked = RollbackPipeline(version=version, expect_version=expect_version)
    saved = ask(folder, ROLLBACK_PIPELINE, asked, account=ENGINEER.name, scope=scope, id=name)
    typer.echo(f"{saved.pipeline}: version {saved.version} is live, with the content of version {version}")


@pipeline_app.command()
def delete(name: Name, expect_version: ExpectVersion = None, scope: Scope = WORKSPACE, folder: Folder = HERE) -> None:
    """Remove a pipeline; its versions stay."""
    asked = DeletePipeline(expect_version=expect_version)
    gone = ask(folder, DELETE_PIPELINE, asked, account=ENGINEER.name, scope=scope, id=name)
    typer.echo(f"{gone.pipeline}: removed; `dinrail pipeline rollback` brings a version back")


@pipeline_app.command()
def status(run: RunName, scope: Scope = WORKSPACE, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show how a run and each of its nodes stand."""
    state = ask(folder, GET_RUN, GetRun(), account=VIEWER.name, scope=scope, id=run)
    if as_json:
        typer.echo(state.model_dump_json())
        return
    _print_run(state)


@pipeline_app.command()
def cancel(
    run: RunName,
    reason: Annotated[str, typer.Option(help="For the log.")] = "",
    scope: Scope = WORKSPACE,
    folder: Folder = HERE,
) -> None:
    """Stop a run now."""
    asked = asking.question(CancelRun, {"reason": reason})
    state = ask(folder, CANCEL_RUN, asked, account=OPERATOR.name, scope=scope, id=run)
    typer.echo(f"{state.run}: {state.state}")


def run(
    name: Name,
    inputs: Annotated[list[str] | None, typer.Argument(help="Its inputs, as NAME=VALUE.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for its end.")] = True,
    timeout: Annotated[float, typer.Option(min=1, max=LONGEST_RUN_S, help="Seconds to wait for the answer.")] = 60.0,
    scope: Scope = WORKSPACE,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline, and wait for what it gives."""
    try:
        given: dict[str, Any] = dict(named_values(inputs or []))
    except Mistyped as error:
        fail(str(error))
    asked = asking.question(RunPipeline, {"inputs": given, "wait": wait})
    accepted = ask(folder, RUN_PIPELINE, asked, account=OPERATOR.name, timeout_s=timeout, scope=scope, id=name)
    if as_json:
        typer.echo(accepted.model_dump_json())
        return
    place = f", {accepted.position}. in the queue" if accepted.position else ""
    typer.echo(f"{accepted.run}: {accepted.state}{place}")
    for output, value in (accepted.outputs or {}).items():
        typer.echo(f"  {output} = {json.dumps(value, ensure_ascii=False)}")


def _definition(file: Path) -> tuple[str, str]:
    """The pipeline's name and the text; ends the program if the file cannot be read at all."""
    try:
        text = read_text(file)
        found = read_definition(text, source=str(file))
    except DocumentError as error:
        fail(str(error))
    name = found.document.data.get("pipeline")
    if not isinstance(name, str):
        fail(f"{file}: pipeline: is missing\n    mend: write the pipeline's name in its first line")
    return name, text


def _faults_text(failure: Failure, *, pipeline: str, file: Path) -> str:
    """Faults as `validate` shows them; another failure as any."""
    if failure.code is not ErrorCode.INVALID:
        return asking.refusal_text(failure)
    return re.sub(rf"^{re.escape(pipeline)}(?=:)", lambda _: str(file), failure.message, flags=re.MULTILINE)


def _print_run(state: RunState) -> None:
    why = f": {state.error.code}: {state.error.message}" if state.error else ""
    typer.echo(f"{state.run}: {state.pipeline} version {state.version}, {state.state}{why}")
    table = Table("node", "state", "tries", "output", "error", box=None)
    for name, node in state.nodes.items():
        told = node.error.message if node.error else ""
        output = _short(node.output) if node.output else f"{node.size} bytes" if node.size else ""
        table.add_row(name, str(node.state), str(node.tries) if node.tries else "", output, told)
    console().print(table)


def _short(output: Mapping[str, JsonValue]) -> str:
    text = ", ".join(f"{port} = {json.dumps(value, ensure_ascii=False)}" for port, value in output.items())
    return clipped(text, 100)
