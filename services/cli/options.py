"""What the commands of the command line have in common: options, and how they fail."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

CANNOT = 2
"""Exit code: it could not be done as asked; 1 means that it was done and the answer is no."""

Folder = Annotated[Path, typer.Option("--dir", help="The site's folder.")]
Scope = Annotated[str, typer.Option("--workspace", help="The workspace.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
HERE = Path("site")


def error_text(error: Exception) -> str:
    """What is wrong, and where: of an error of the system the file first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def fail(message: str) -> NoReturn:
    """Tells why it could not be done, and ends."""
    typer.echo(message, err=True)
    raise typer.Exit(CANNOT)
