"""`make up` as a new user has it: a bare Debian, a clone, a terminal, Ctrl-C."""

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import termios
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = "debian:bookworm-slim"
FIRST_VALUE_S = 600
"""Three minutes are promised for a machine of its own; what a test shares its machine with, nobody knows."""
STOP_S = 60
NO_PACKAGES = 77  # as bare_machine.sh
NO_DISTRIBUTION = "No matching distribution found"
"""What pip says where it reaches no index."""
CTRL_C = b"\x03"
PASSED_ON = ("PIP_CERT", "PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")
"""Variables without which pip may find no packages from here."""

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(FIRST_VALUE_S + STOP_S + 60)]


def missing() -> str:
    """Why there can be no bare machine here; empty if there can."""
    if shutil.which("docker") is None or shutil.which("git") is None:
        return "no docker or no git"
    if not (ROOT / ".git").exists():
        return "this is not a clone"
    for words, what in (
        (("docker", "version", "-f", "{{.Server.Version}}"), "no Docker engine answers"),
        (("docker", "image", "inspect", IMAGE), f"image {IMAGE} is not here"),
    ):
        if subprocess.run(words, capture_output=True, timeout=30, check=False).returncode != 0:
            return what
    return ""


class Terminal:
    """A command with a terminal of its own, and all that it has shown there."""

    def __init__(self, command: Sequence[str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, close_fds=True
        )
        os.close(theirs)
        self._shown = b""

    @property
    def text(self) -> str:
        return self._shown.decode(errors="replace")

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def until(self, words: str, within_s: float) -> bool:
        """Reads until these words were shown; False if the command or the time ended before."""
        deadline = time.monotonic() + within_s
        while words not in self.text:
            ready, _, _ = select.select([self._ours], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                return False
            try:
                self._shown += os.read(self._ours, 1 << 16)
            except OSError:  # Linux's answer once the other end is closed
                return False
        return True

    def close(self) -> None:
        os.close(self._ours)


@contextmanager
def bare_machine(repository: Path) -> Iterator[Terminal]:
    name = f"dinrail-bare-{uuid.uuid4().hex[:8]}"
    passed_on = [word for variable in PASSED_ON if variable in os.environ for word in ("-e", variable)]
    mounts = ("-v", f"{repository}:/repository:ro", "-v", f"{Path(__file__).parent}:/deploy:ro")
    command = ("docker", "run", "--rm", "-it", "--init", "--name", name, *passed_on, *mounts, "-w", "/root", IMAGE)
    terminal = Terminal((*command, "sh", "/deploy/bare_machine.sh", "/repository"))
    try:
        yield terminal
    finally:
        subprocess.run(("docker", "rm", "-f", name), capture_output=True, timeout=60, check=False)
        terminal.close()
        terminal.process.wait(timeout=30)


def test_make_up_on_a_bare_debian_shows_a_live_value_and_ctrl_c_ends_all(tmp_path: Path) -> None:
    reason = missing()
    if reason:
        pytest.skip(f"make up was not run on a bare machine: {reason}")
    repository = tmp_path / "dinrail.git"
    subprocess.run(("git", "clone", "-q", "--bare", "--depth", "1", ROOT.as_uri(), repository), check=True, timeout=60)

    with bare_machine(repository) as terminal:
        if not terminal.until("first live value after", FIRST_VALUE_S):
            if terminal.process.poll() == NO_PACKAGES:
                pytest.skip("make up was not run on a bare machine: Debian's packages cannot be had here")
            if NO_DISTRIBUTION in terminal.text:
                pytest.skip("make up was not run on a bare machine: pip reaches no index from a container here")
            pytest.fail(f"no live value within {FIRST_VALUE_S} s:\n{terminal.text[-3000:]}")
        terminal.press(CTRL_C)
        ended = terminal.until("bare machine: done", STOP_S)

    assert ended, terminal.text[-3000:]
    assert "all processes ended cleanly" in terminal.text
    assert "left running" not in terminal.text
