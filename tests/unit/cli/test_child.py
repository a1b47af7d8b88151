"""A child process, with real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from services.cli.child import Child, Program
from services.cli.log_file import LogFile
from services.runtime.retry import Backoff
from tests.conftest import Eventually

ENDS_CLEANLY = (
    "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('ready', flush=True); signal.pause()"
)
IGNORES_TERM = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
SAVES = """
import os, signal, time
def save(*_):
    time.sleep(0.2)  # longer than some tests give for an end: how long it takes is what they try
    open({store!r} + ".new", "w").write("all that it held")
    os.replace({store!r} + ".new", {store!r})
signal.signal(signal.SIGUSR1, save)
print("ready", flush=True)
while True:
    signal.pause()
"""
TELLS_ITS_ID = "import os, signal; print('id', os.getpid(), flush=True); signal.pause()"
ENDS_AT_ONCE = "import sys; print('no such device', flush=True); sys.exit(3)"
# Starts a program of its own that keeps the output open, and ends.
LEAVES_ONE_BEHIND = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"])
print("grandchild", child.pid, flush=True)
import signal; signal.pause()
"""
ORPHAN_MAKER = """
import asyncio, sys
from pathlib import Path
from random import Random
from services.cli.child import Child, Program
from services.cli.log_file import LogFile
from services.runtime.retry import Backoff

program = Program(name="p", command=(sys.executable, "-c", sys.argv[1]), folder=Path.cwd(), grace_s=5)
child = Child(program=program, log=LogFile(Path(sys.argv[2])), backoff=Backoff(random=Random()), tell=print)
asyncio.run(child.run())
"""


class Bench:
    """A child under test, what it told, and its log."""

    def __init__(self, folder: Path, code: str, *, grace_s: float = 10, store: Path | None = None) -> None:
        self.told: list[str] = []
        self.log = LogFile(folder / "logs" / "p.log")
        command = (sys.executable, "-c", code)
        program = Program(name="p", command=command, folder=folder, grace_s=grace_s, store=store)
        backoff = Backoff(first_s=0.01, most_s=0.02, random=Random(1))
        self.child = Child(program=program, log=self.log, backoff=backoff, tell=self.told.append)

    @property
    def printed(self) -> str:
        return self.log.path.read_text()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.child.run())
        try:
            yield
        finally:
            await self.child.stop()
            async with asyncio.timeout(30):
                await task


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_program_that_ends_within_its_grace_has_ended_cleanly(tmp_path: Path, eventually: Eventually) -> None:
    bench = Bench(tmp_path, ENDS_CLEANLY)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed)
        pid = bench.child.pid

        assert await bench.child.stop()

    assert pid is not None
    assert not alive(pid)
    assert bench.told == []


async def test_a_program_that_will_not_end_is_killed_and_that_is_said(tmp_path: Path, eventually: Eventually) -> None:
    bench = Bench(tmp_path, IGNORES_TERM, grace_s=0.1)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed)

        assert not await bench.child.stop()

    assert "killed" in bench.told[0]
    assert bench.child.pid is None


async def test_a_killed_program_is_started_again(tmp_path: Path, eventually: Eventually) -> None:
    bench = Bench(tmp_path, ENDS_CLEANLY)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed)
        first = bench.child.pid
        assert first is not None

        os.kill(first, signal.SIGKILL)

        await eventually(lambda: bench.printed.count("ready") == 2)
        assert bench.child.pid != first
        assert bench.child.failures == 1
        assert "SIGKILL" in bench.told[0]


async def test_a_program_that_is_started_anew_is_no_failure_and_nothing_is_waited_for(
    tmp_path: Path, eventually: Eventually
) -> None:
    bench = Bench(tmp_path, ENDS_CLEANLY)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed)
        first = bench.child.pid

        await bench.child.start_anew()

        await eventually(lambda: bench.printed.count("ready") == 2)
        assert first is not None
        assert not alive(first)
        assert bench.child.pid not in (first, None)
        assert await bench.child.stop()
    assert bench.told == []


async def test_a_program_with_a_store_has_saved_before_it_is_started_anew(
    tmp_path: Path, eventually: Eventually
) -> None:
    store = tmp_path / "store"
    bench = Bench(tmp_path, SAVES.format(store=str(store)), store=store)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed)

        await bench.child.start_anew()

        assert store.read_text() == "all that it held"
        await eventually(lambda: bench.printed.count("ready") == 2)
    assert bench.told == []


@pytest.mark.parametrize("store", ["store", None])
async def test_a_program_that_neither_saves_nor_ends_is_started_anew_too(
    tmp_path: Path, eventually: Eventually, store: str | None
) -> None:
    deaf = IGNORES_TERM.replace("signal.signal(15", "signal.signal(10, signal.SIG_IGN); signal.signal(15")
    bench = Bench(tmp_path, deaf, grace_s=0.1, store=tmp_path / store if store else None)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed)

        await bench.child.start_anew()

        await eventually(lambda: bench.printed.count("ready") == 2)
        assert bench.told == (["p has not saved what it holds; what came since it last did is gone"] if store else [])


async def test_a_program_that_takes_long_to_save_is_not_killed_meanwhile(
    tmp_path: Path, eventually: Eventually
) -> None:
    store = tmp_path / "store"
    (tmp_path / "store.new").write_text("a part of what it hol")
    bench = Bench(tmp_path, SAVES.format(store=str(store)), grace_s=0.01, store=store)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed)

        await bench.child.start_anew()

        assert store.read_text() == "all that it held"
        assert bench.told == []


async def test_a_program_that_keeps_ending_is_tried_again_and_its_last_words_are_shown(
    tmp_path: Path, eventually: Eventually
) -> None:
    bench = Bench(tmp_path, ENDS_AT_ONCE)
    async with bench.running():
        await eventually(lambda: bench.child.failures >= 3)

    assert "exit code 3" in bench.told[0]
    assert str(bench.log.path) in bench.told[0]
    assert "no such device" in bench.told[1]


async def test_what_a_program_has_started_goes_with_it(tmp_path: Path, eventually: Eventually) -> None:
    bench = Bench(tmp_path, LEAVES_ONE_BEHIND)
    async with bench.running():
        await eventually(lambda: "ready" in bench.printed and "grandchild" in bench.printed)
        grandchild = int(bench.printed.partition("grandchild ")[2].split()[0])
        pid = bench.child.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not alive(grandchild))


async def test_a_stop_before_the_start_starts_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ENDS_CLEANLY)

    assert await bench.child.stop()
    await bench.child.run()

    assert bench.printed == ""


async def test_no_process_outlives_us_even_if_we_are_killed(tmp_path: Path, eventually: Eventually) -> None:
    log = tmp_path / "p.log"
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", ORPHAN_MAKER, TELLS_ITS_ID, str(log))
    await eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    pid = int(log.read_text().removeprefix("id "))
    assert alive(pid)

    supervisor.kill()
    await supervisor.wait()

    await eventually(lambda: not alive(pid))
