"""Processes of a bench: started, waited for, stopped, and what they take of the machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.results import ROOT
from tests.ports import listens

TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A child of the benchmark, with the processor time that it has taken."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        with log.open("wb") as file:
            self.child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE if name in {"simulator", "subscriber", "floor"} else file,
                stderr=file,
                env={**os.environ, **environment},
            )

    def cpu_s(self) -> float:
        """User and system time of the process so far."""
        return cpu_s(self.child.pid)

    def rss_mb(self) -> float:
        """Resident memory in megabytes."""
        return int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> bytes:
        """SIGTERM; what it printed, if that was kept."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.child.communicate(timeout=60)[0] or b""


@contextmanager
def at_work(commands: Mapping[str, list[str]], environment: Mapping[str, str], logs: Path) -> Iterator[None]:
    """These processes while it lasts: begun in this order, stopped backwards. logs: the folder of what they say."""
    with ExitStack() as running:
        for name, command in commands.items():
            running.callback(Process(name, command, environment, logs / f"{name}.log").stop)
        yield


def cpu_s(pid: int) -> float:
    """User and system time of a process so far (proc(5), /proc/PID/stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def child(name: str) -> int:
    """The process of this name that we have started."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        pid, rest = entry.read_text().split(" (", 1)
        command, _, fields = rest.rpartition(") ")
        if name.startswith(command) and int(fields.split()[1]) == os.getpid():
            return int(pid)
    raise LookupError(name)


def machine_ticks() -> tuple[int, int]:
    """The machine's processor time that its host has given to others, and all of it (proc(5), /proc/stat: `cpu`)."""
    fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def stolen_share(since: tuple[int, int]) -> float:
    """The share of the machine's time that was stolen since these ticks, 0 to 1; from 0.02 on, measure again."""
    stolen, every = machine_ticks()
    return round((stolen - since[0]) / max(1, every - since[1]), 4)


def wait_for_port(port: int) -> None:
    """Waits until something listens there."""
    wait_until(lambda: listens(port), f"port {port} listens")


def wait_until(condition: Callable[[], object], what: str, within_s: float = 60) -> None:
    """Looks ten times a second."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s: {what}")
        time.sleep(0.1)


def show_logs(folder: Path) -> None:
    """The end of each process's log, on the error output."""
    for log in folder.glob("*.log"):
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
