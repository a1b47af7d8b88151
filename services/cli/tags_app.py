"""`dinrail tags`: shows last values; `dinrail tags export` and `import`: tags as a table."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from plugins.api.document import DocumentError
from services.cli import completion
from services.cli.completion import Pattern
from services.cli.connection import ConnectionFailed, viewer_access
from services.cli.counted import counted
from services.cli.fault_lines import shown
from services.cli.options import HERE, AsJson, Folder, error_text, fail
from services.cli.site import Site
from services.cli.table import console
from services.cli.tag_files import export_tags, import_tags
from services.cli.tags import show_tags
from services.cli.tags_then import show_tags_then

SHOW = "show"


class ShowUnlessNamed(TyperGroup):
    """`dinrail tags PATTERN` means `dinrail tags show PATTERN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer does not export it
        """Puts the command in that is meant."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


tags_app = typer.Typer(cls=ShowUnlessNamed, help="Show last values (`tags PATTERN`); tags as a table (CSV) and back.")


@tags_app.command(SHOW)
def show(
    pattern: Pattern = "*",
    *,
    at: Annotated[
        str | None, typer.Option(help="As it was then: 2h (ago), or 2026-11-21 14:30 (here); from the history.")
    ] = None,
    recorder: Annotated[str, typer.Option(help="The recorder that answers (--at).")] = "recorder",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the last value of every tag, once, and how devices and services are."""
    if at is not None:
        raise typer.Exit(show_tags_then(folder, pattern, at, recorder=recorder, as_json=as_json))
    try:
        access = viewer_access(Site(folder))
        code = asyncio.run(show_tags(access=access, pattern=pattern, as_json=as_json, console=console()))
    except (ConnectionFailed, DocumentError) as error:
        fail(str(error))
    raise typer.Exit(code)


@tags_app.command("export")
def export(
    device: Annotated[str, typer.Argument(help="Whose tags.", autocompletion=completion.devices)], folder: Folder = HERE
) -> None:
    """Print the tags of a device file as a table: `dinrail tags export pump > pump.csv`."""
    try:
        typer.echo(export_tags(Site(folder), device), nl=False)
    except (DocumentError, OSError) as error:
        fail(error_text(error))


@tags_app.command("import")
def import_table(
    table: Annotated[Path, typer.Argument(help="A CSV file as `export` writes it.")],
    device: Annotated[str | None, typer.Option(help="The device of rows that name none.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    folder: Folder = HERE,
) -> None:
    """Give devices the tags of a table, and no others. With a fault in any row nothing is changed."""
    try:
        found = import_tags(Site(folder), table, device=device)
        if not dry_run:
            found.store()
    except DocumentError as error:
        for line in shown(error.faults):
            typer.echo(line)
        typer.echo(f"\n{table}: {counted(len(error.faults), 'fault')}; nothing was changed")
        raise typer.Exit(1) from None
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    for line in found.summary:
        typer.echo(f"{line} (not changed: dry run)" if dry_run else line)
