"""The page that tells how a driver is written is followed word for word, in a copy of the repository."""

import ast
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest

from services.cli.site import Ports
from tests.ports import free_port, free_ports_in_a_row

TREE = Path(__file__).parents[2]
PAGE = TREE / "docs" / "write-a-driver.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDED = ("contracts", "plugins", "services", "tests", "examples", "pyproject.toml")
DRIVER = Path("plugins/drivers/flow_meter")
METER_PORT, BASE_PORT = "7007", "21000"
"""As the page has them; a test takes others."""
UNTIL_LIVE = "until grep -q 'first live value' up.log; do sleep 0.2; done"
STEP_S = 120
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def edit(file: Path, code: str) -> None:
    """Puts a function in the place of its namesake, as somebody with an editor does; else at the end of the file."""
    text = file.read_text()
    name = re.search(r"def (\w+)", code)
    assert name is not None
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name[1]
    ]
    lines = text.splitlines(keepends=True)
    if found:
        (node,) = found
        assert node.end_lineno is not None
        lines[node.lineno - 1 : node.end_lineno] = [code]
    else:
        lines += ["\n\n", code]
    file.write_text("".join(lines))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone has of which the page makes use, with the environment that is there already."""
    folder = tmp_path / "clone"
    folder.mkdir()
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *NEEDED],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((TREE / name).read_bytes())
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    (programs / "dinrail").write_text(f'#!/bin/sh\nexec "{programs}/python" -m services.cli.main "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    if (TREE / ".dinrail").exists():
        (folder / ".dinrail").symlink_to((TREE / ".dinrail").resolve())
    return folder


def bash(script: str, *, folder: Path) -> str:
    """What it prints; it must end well."""
    process = subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        shown, _ = process.communicate(timeout=STEP_S)
    finally:
        with suppress(ProcessLookupError):  # what a step that failed has left behind
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{script}\n{shown}"
    return shown


def test_the_driver_of_the_page_passes_the_suite_and_its_values_are_read_written_and_recorded(clone: Path) -> None:
    text = (
        PAGE.read_text()
        .replace(METER_PORT, str(free_port()))
        .replace(BASE_PORT, str(free_ports_in_a_row(len(fields(Ports)))))
    )
    blocks = BLOCK.findall(text)
    steps = [(kind, name, body.replace("make .venv/.installed-dev\n", "")) for kind, name, body in blocks]
    (start,) = [at for at, (_, _, body) in enumerate(steps) if "dinrail up" in body]
    suites = []

    for kind, name, body in steps[:start]:
        if kind == "python":
            edit(clone / DRIVER / name, body)
        else:
            suites.append(bash(body, folder=clone))
    site = [body for _, _, body in steps[start:]]
    began = site[0].replace("--no-watch &", "--no-watch >up.log 2>&1 &")
    shown = bash("\n".join([began, UNTIL_LIVE, *site[1:]]), folder=clone)

    assert len([one for one in suites if " passed" in one]) == 2, suites
    assert "without fault" in suites[-1] or "no faults" in suites[-1]
    assert re.search(r"meter +level +12\.5 +% +good", shown), shown
    assert "meter/level: written 40.5, read back 40.5" in shown
    assert "12.5" in shown.split("read back")[1], "the history"
    assert "all processes ended cleanly" in (clone / "up.log").read_text()
