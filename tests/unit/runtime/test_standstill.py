"""A process whose event loop stands still ends itself; one that was stopped as a whole does not."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.runtime.standstill import EXIT_CODE
from tests.polling import wait_until

PROCESS = Path(__file__).with_name("hanging_process.py")
DEADLINE_S = 30
LIMIT_S = 2.0
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(behaviour: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), behaviour, str(LIMIT_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "working\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_loop_that_stands_still_ends_the_process_which_says_where(start: Start) -> None:
    process = start("hangs")

    _, told = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == EXIT_CODE
    assert "stood still for 2 s" in told
    assert "in wait_in_vain" in told


def test_a_process_that_was_stopped_as_a_whole_for_longer_goes_on(start: Start) -> None:
    process = start("turns")
    process.send_signal(signal.SIGSTOP)
    state = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", DEADLINE_S, what="it is stopped")
    time.sleep(2 * LIMIT_S)  # how long it is stopped is what is tried

    process.send_signal(signal.SIGCONT)

    _, told = process.communicate("end\n", timeout=DEADLINE_S)
    assert (process.returncode, told) == (0, "")
