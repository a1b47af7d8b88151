"""The life of a service as another process sees it: signals in, log lines and an exit code out."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SERVICE = Path(__file__).with_name("service_process.py")
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(behaviour: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(SERVICE), behaviour], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until_working(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    for line in process.stdout:
        if line == "working\n":
            return
    pytest.fail(f"it ended before it worked: {process.communicate()}")


def end(process: "subprocess.Popen[str]") -> tuple[int, str, list[str]]:
    """Exit code, the last line, and the events logged since."""
    out, err = process.communicate(timeout=20)
    assert err == ""
    lines = out.splitlines()
    return process.returncode, lines[-1], [json.loads(line)["event"] for line in lines if line.startswith("{")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_service_and_it_exits_0(start: Start, number: signal.Signals) -> None:
    process = start("drains")
    until_working(process)

    process.send_signal(number)

    code, last, events = end(process)
    counts = re.fullmatch(r"made=(\d+) handled=(\d+) tasks_left=0", last)
    assert counts, last
    assert counts[1] == counts[2]
    assert code == 0
    assert events == ["service_stopping", "part_drained", "part_drained", "service_stopped"]


def test_a_part_that_hangs_is_cancelled_at_the_deadline_and_it_exits_1(start: Start) -> None:
    process = start("hangs")
    until_working(process)

    process.send_signal(signal.SIGTERM)

    code, last, events = end(process)
    assert code == 1
    assert last.endswith("tasks_left=0")
    assert events == ["service_stopping", "part_drained", "drain_cut_short", "part_cancelled", "service_stopped"]


def test_a_second_signal_ends_it_at_once_with_1(start: Start) -> None:
    process = start("hangs")
    until_working(process)
    process.send_signal(signal.SIGTERM)
    assert process.stdout
    while "part_drained" not in process.stdout.readline():
        assert process.poll() is None

    process.send_signal(signal.SIGTERM)

    code, _, events = end(process)
    assert code == 1
    assert events == ["drain_cut_short", "part_cancelled", "service_stopped"]


def test_a_crash_of_a_part_ends_the_process_with_1_and_its_traceback(start: Start) -> None:
    process = start("crashes")

    out, _ = process.communicate(timeout=20)

    assert process.returncode == 1
    [crash] = [json.loads(line) for line in out.splitlines() if "part_crashed" in line]
    assert "RuntimeError: broken sink" in crash["exception"]
