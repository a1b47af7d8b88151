"""As whom the command line asks: the site's own user of the role that it takes, or who `dinrail --as USER` names."""

import warnings
from contextvars import ContextVar
from dataclasses import dataclass
from getpass import GetPassWarning
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from services.cli.options import fail


@dataclass(slots=True)
class Person:
    """Who uses the command line. password_file: of his password; else he is asked for it, once."""

    name: str
    password_file: Path | None = None
    typed: str | None = None

    def password(self, kept: Path) -> str:
        """Out of his file, else of the site's own for this name (kept), else as he types it. Raises OSError."""
        if self.password_file is None and not kept.exists():
            if self.typed is None:
                self.typed = self._ask()
            return self.typed
        return (self.password_file or kept).read_text(encoding="utf-8").rstrip("\r\n")

    def _ask(self) -> str:
        try:
            with warnings.catch_warnings():  # without a terminal a line of the input is taken, and Python remarks on it
                warnings.simplefilter("ignore", GetPassWarning)
                return str(typer.prompt(f"Password of {self.name}", hide_input=True, err=True))
        except typer.Abort:
            way = "type it at a terminal, or name its --password-file before the command"
            fail(f"no password of {self.name} was given: {way}")


_PERSON: ContextVar[Person | None] = ContextVar("person", default=None)
"""Of the command that runs: asked for where a connection is made, far below the commands, none of which cares."""


def current_person() -> Person | None:
    """Who was named by `--as`; None if nobody was."""
    return _PERSON.get()


def _tell_release(asked: bool) -> None:
    if asked:
        metadata = import_module("importlib.metadata")  # it takes a sixth of what `dinrail --help` takes
        typer.echo(f"dinrail {metadata.version('dinrail')}")
        raise typer.Exit


Release = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_tell_release, help="Tell which release this is.")
]


def person_options(
    as_user: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="Ask as this user, not as the site's own.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="His password; else he is asked for it.")] = None,
    release: Release = False,
) -> None:
    """What all commands have in common."""
    if as_user is None and password_file is not None:
        fail("--password-file is for --as USER")
    _PERSON.set(None if as_user is None else Person(as_user, password_file))
