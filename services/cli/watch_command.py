"""`dinrail watch`: its options, and how a line is printed."""

import asyncio
import os
import sys
from typing import Annotated

import typer

from plugins.api.document import DocumentError
from services.cli.completion import Pattern
from services.cli.connection import ConnectionFailed, viewer_access
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.site import Site
from services.cli.watch import watch as watch_site


def watch(
    pattern: Pattern = "*",
    folder: Folder = HERE,
    as_json: AsJson = False,
    frames: Annotated[bool, typer.Option("--frames", help="Every value as recorded, not only changes.")] = False,
) -> None:
    """Show changes as they come, until Ctrl-C."""
    try:
        access = viewer_access(Site(folder))
        watching = watch_site(
            access=access, pattern=pattern, frames=frames, as_json=as_json, emit=_print_now, remark=_remark
        )
        asyncio.run(watching)
    except (ConnectionFailed, DocumentError) as error:
        fail(str(error))


def _remark(line: str) -> None:
    typer.echo(line, err=True)


def _print_now(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains once more at its end
        raise
