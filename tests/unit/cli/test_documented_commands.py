"""Commands as README and docs show them are there, with the options that stand beside them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> Iterator[tuple[str, str]]:
    """Page and command, without comments: from code blocks and from what stands in backquotes."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = re.findall(r"^(?:\$ )?\.venv/bin/dinrail (.*?)(?:  .*)?$|`dinrail ([a-z][^`\n]*)`", text, re.MULTILINE)
        yield from ((page.name, command) for command in dict.fromkeys(block or quoted for block, quoted in found))


@pytest.mark.parametrize(("page", "command"), list(commands()))
def test_a_command_of_the_pages_is_one_that_there_is(page: str, command: str) -> None:
    result = CliRunner().invoke(app, [*shlex.split(command, comments=True), "--help"])

    assert result.exit_code == 0, f"{page}: dinrail {command}: {result.output}"
