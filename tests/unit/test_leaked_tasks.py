"""The check of tests/conftest.py that no test leaves a task."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAKING = """
import asyncio

async def test_leaking():
    task = asyncio.create_task(asyncio.Event().wait(), name="left behind")
    globals()["kept"] = task

async def test_ending():
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
"""


def test_a_test_that_leaves_a_task_fails_and_one_that_ends_its_tasks_passes(tmp_path: Path) -> None:
    (tmp_path / "test_tasks.py").write_text(LEAKING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
    ]

    run = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "2 passed, 1 error" in run.stdout
    assert "ERROR test_tasks.py::test_leaking" in run.stdout
    assert "the test left tasks running" in run.stdout
    assert "left behind" in run.stdout
