"""Every command helps: with a text, with examples that it takes, with a word on each option, and in the shell."""

import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.core import TyperArgument, TyperCommand, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from services.cli.command_page import leaves, page
from services.cli.commands import COMMANDS as PLACES
from services.cli.examples import EXAMPLES
from services.cli.main import app

ROOT = Path(__file__).parents[3]
COMMANDS = dict(leaves(get_command(app)))


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_has_a_text_examples_and_a_word_on_each_of_its_options(words: str) -> None:
    help_text = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words.split(), "--help"]).output
    params = [one for one in COMMANDS[words].params if isinstance(one, TyperArgument | TyperOption)]

    assert (COMMANDS[words].help or "")[:1].isupper()
    assert words in EXAMPLES, f"give services/cli/examples.py an example of `dinrail {words}`"
    assert "Examples:" in help_text
    assert EXAMPLES[words][0] in help_text
    assert [one.name for one in params if not one.help] == []


def test_the_list_of_commands_begins_with_what_is_done_first_on_a_box() -> None:
    help_text = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"]).output
    listed = [line.split()[1] for line in help_text.partition("Commands")[2].splitlines()[1:] if line[2:3].isalpha()]

    assert listed[:4] == ["init", "check", "up", "watch"]
    assert sorted(listed) == sorted({words.split()[0] for words in COMMANDS})


@pytest.mark.parametrize("name", PLACES)
def test_the_list_of_commands_says_of_each_what_its_own_help_begins_with(name: str) -> None:
    first, _, _ = PLACES[name].load(name).help.partition("\n\n")

    assert PLACES[name].about == " ".join(first.split())


@pytest.mark.parametrize("example", [one for examples in EXAMPLES.values() for one in examples])
def test_an_example_is_taken_by_its_command(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words, *_ = example.partition(" > ")
    given = shlex.split(words)[1:]
    if given[0] == "--as":
        given = given[2:]
    name = max((one for one in COMMANDS if given[: len(one.split())] == one.split()), key=len, default="tags show")
    rest = given[1:] if name == "tags show" and given[1:2] != ["show"] else given[len(name.split()) :]
    command: TyperCommand = COMMANDS[name]

    assert example in EXAMPLES[name]
    command.make_context(name, rest)


def test_the_release_is_told_as_the_package_has_it() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.output) == (0, f"dinrail {version('dinrail')}\n")


def test_no_example_is_of_a_command_that_there_is_not() -> None:
    assert EXAMPLES.keys() - COMMANDS.keys() == set()


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    written = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")

    assert written == page(app), "python -m services.cli.command_page > docs/command-line.md"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for folder in ("devices", "pipelines", "users", "bin"):
        (tmp_path / "site" / folder).mkdir(parents=True)
    made = tmp_path / "site"
    tags = "groups: {fast: {interval: 1s, tags: {speed: {}, level: {}}}}"
    (made / "devices" / "pump.yaml").write_text(f"device: pump\n{tags}\n")
    (made / "devices" / "press.yaml").write_text("device: [broken\n")
    (made / "pipelines" / "tank-watch.yaml").write_text("pipeline: tank-watch\n")
    (made / "users" / "users.yaml").write_text("users:\n  anna: {role: operator}\n  otto: {role: viewer}\n")
    program = made / "bin" / "dinrail"
    program.write_text(f"#!{sys.executable}\nfrom services.cli.main import main\nmain()\n")
    program.chmod(0o755)
    return made


def completed(site: Path, *lines: str) -> list[list[str]]:
    """What bash offers at the end of each line, by the script that `dinrail --show-completion` gives."""
    asked = [
        f'COMP_WORDS=({line} ""); COMP_CWORD={line.count(" ")}; _dinrail_completion dinrail; echo "${{COMPREPLY[*]}}"'
        for line in lines
    ]
    script = "; ".join(['eval "$(_DINRAIL_COMPLETE=source_bash dinrail)"; IFS=" "', *asked])
    path = f"{site / 'bin'}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environ, cwd=site.parent, timeout=120, check=True
    )
    assert result.stderr == ""
    return [line.split() for line in result.stdout.splitlines()]


def test_the_shell_completes_commands_and_the_names_in_the_site_s_files(site: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "devices").mkdir(parents=True)
    (tmp_path / "other" / "devices" / "mixer.yaml").write_text("device: mixer\n")
    offered = {
        "dinrail device enable --dir other ": ["mixer"],
        "dinrail write pump ": ["level", "speed"],
        "dinrail history pump/": ["pump/level", "pump/speed"],
        "dinrail run tank": ["tank-watch"],
        "dinrail users role a": ["anna"],
    }

    assert dict(zip(offered, completed(site, *offered), strict=True)) == offered
