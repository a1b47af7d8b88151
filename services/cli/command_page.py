"""The page docs/command-line.md, as the commands tell it: `python -m services.cli.command_page` prints it."""

import inspect
import sys
from collections.abc import Iterator

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from services.cli.examples import EXAMPLES

HEAD = """\
# The command line

Made from the commands themselves by `python -m services.cli.command_page`; the same stands in `dinrail COMMAND --help`.

**Completion.** `dinrail --install-completion` sets it up for bash, zsh, fish or PowerShell; `--show-completion`
prints it. Commands, options and their choices are completed, and so are names of devices, tags, pipelines and users:
out of the files of the site that `--dir` names (without it `site`), without asking the broker.

**Exit codes.** 0: done, and the answer is yes. 1: done, and the answer is no (a fault, nothing found, refused). 2: it
could not be done as asked, or, but for `read`, `write` and `call`, nobody has answered.

Before every command, `dinrail --as USER` asks under one's own name, and `--password-file` holds his password.
`dinrail --version` tells which release this is.
"""


def page(app: typer.Typer) -> str:
    """The whole page."""
    sections = (_section(words, command) for words, command in leaves(get_command(app)))
    return "\n".join([HEAD, *(line for section in sections for line in section)])


def leaves(command: object, words: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Every command that does something, with its words, in the order of the alphabet."""
    if isinstance(command, TyperGroup):
        for name in sorted(command.commands):
            _, below, _ = command.resolve_command(typer.Context(command), [name])
            yield from leaves(below, f"{words} {name}".strip())
    elif isinstance(command, TyperCommand):
        yield words, command


def _section(words: str, command: TyperCommand) -> Iterator[str]:
    yield f"## dinrail {words}"
    yield inspect.cleandoc(command.help or "").partition("\n\nExample")[0]
    yield ""
    rows = [_row(one) for one in command.params if isinstance(one, TyperArgument | TyperOption) and one.name != "help"]
    if rows:
        yield from ("| | |", "|---|---|", *rows, "")
    yield from ("```", *EXAMPLES.get(words, ()), "```", "")


def _row(param: TyperArgument | TyperOption) -> str:
    about = param.help or ""
    if isinstance(param, TyperOption):
        names = "`, `".join((*param.opts, *param.secondary_opts))
        value = "" if param.is_flag else f" {(param.metavar or param.name or '').upper()}"
        name = f"`{names}`{value}"
    else:
        name = f"`{(param.metavar or param.name or '').upper()}`{'' if param.required else ' (may be left out)'}"
    return f"| {name} | {_cell(about)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    from services.cli.main import app

    sys.stdout.write(page(app))
