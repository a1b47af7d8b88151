"""A program that is kept running as a child process, and that never outlives us."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.log_file import LogFile
from services.runtime.retry import Backoff
from services.runtime.stopping import Stopping
from services.runtime.watch import marks

STEADY_S = 30
KILL_S = 5
CHUNK_BYTES = 1 << 16
LAST_OUTPUT_S = 1
SAVED_LOOK_S = 0.02
SAVE_S = 60
"""How long to save may take, once it has begun: a card's 10 MB in a second, of a few recorders' 128 MB."""
SHOWN_LINES = 5
SHOWN_BYTES = 2000
PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run.

    grace_s: how long it may take to end after SIGTERM. environment: beside our own variables.
    ports: of this machine, on which it listens once it is of use to others. late: first of all, values of machines are
    to be seen; until then it takes nobody's processor. rereads: of the broker, what it reads again when
    it is told to: the access rules, the passwords, the certificate. store: where it then saves what it holds.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    grace_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    late: bool = False
    rereads: tuple[Path, ...] = ()
    store: Path | None = None


class Child:
    """A program in a process group of its own, started again with a back-off whenever it ends by itself.

    tell: is given one line for every end and every new start.
    """

    def __init__(self, *, program: Program, log: LogFile, backoff: Backoff, tell: Callable[[str], None]) -> None:
        self.program = program
        self._log = log
        self._backoff = backoff
        self._tell = tell
        self._stopping = Stopping()
        self._anew = False  # it was asked to end in order to be started again
        self._ended = asyncio.Event()
        self._ended.set()
        self._process: Process | None = None
        self._last_output = b""
        self._last_words: list[str] = []
        self.failures = 0

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Keeps the program running until stop(); ends once the process is gone and its output is written."""
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                started = time.monotonic()
                code = await self._run_once()
                if self._anew and not self._stopping.is_set():
                    self._anew = False
                    continue
                # SIGTERM itself ends a program that has only just started.
                if not (self._stopping.is_set() and code in (0, -signal.SIGTERM)):
                    self.failures += 1
                if time.monotonic() - started > STEADY_S:
                    self._backoff.reset()
                if not self._stopping.is_set():
                    await self._wait_to_restart(code)
        finally:
            self._log.close()
            self._ended.set()

    async def stop(self) -> bool:
        """Asks the process to end; kills it if that takes longer than its grace. Whether it ended cleanly."""
        failures = self.failures
        self._stopping.set()
        if self._process is not None:
            self._signal(self._process, signal.SIGTERM)
        try:
            async with asyncio.timeout(self.program.grace_s):
                await self._ended.wait()
        except TimeoutError:
            self._tell(f"{self.program.name} did not end within {self.program.grace_s:g} s and is killed")
            self.kill()
            async with asyncio.timeout(KILL_S):
                await self._ended.wait()
        self._log.close()  # also of one that was never started
        return self.failures == failures

    def kill(self) -> None:
        """Ends the process at once."""
        self._stopping.set()
        if self._process is not None:
            self._signal(self._process, signal.SIGKILL)

    def reread(self) -> None:
        """Lets the program read its files again, if it does so at SIGHUP; one that does not run will at its start."""
        if self._process is not None:
            self._signal(self._process, signal.SIGHUP)

    async def start_anew(self) -> None:
        """Kills the process, after it has saved what it holds if it has a store and does so at SIGUSR1; it is started
        again at once. Returns once it has ended.
        """
        process, store = self._process, self.program.store
        if process is None:
            return
        self._anew = True
        if store is not None:
            await self._save(process, store)
        self._signal(process, signal.SIGKILL)
        await process.wait()

    async def _save(self, process: Process, store: Path) -> None:
        """Returns once it has saved, or does not begin to, or takes too long for it."""
        before = marks([store])
        partial = store.with_name(f"{store.name}.new")  # as mosquitto calls it until it is whole
        begun = time.monotonic()
        self._signal(process, signal.SIGUSR1)
        while process.returncode is None and marks([store]) == before:
            if time.monotonic() - begun > (SAVE_S if partial.is_file() else self.program.grace_s):
                self._tell(f"{self.program.name} has not saved what it holds; what came since it last did is gone")
                return
            await asyncio.sleep(SAVED_LOOK_S)

    async def _run_once(self) -> int:
        self._last_output = b""
        reader, transport, writing_end = await _output_pipe()
        try:
            process = await self._start(writing_end)
        finally:
            os.close(writing_end)
        self._process = process
        copying = asyncio.create_task(self._copy(reader), name=f"output of {self.program.name}")
        try:
            if self._stopping.is_set():
                self._signal(process, signal.SIGTERM)
            code = await process.wait()
            async with asyncio.timeout(LAST_OUTPUT_S):
                await asyncio.shield(copying)
        except TimeoutError:
            # Something that the program started still holds its output: it goes with the program.
            self._signal(process, signal.SIGKILL)
        finally:
            if process.returncode is None:
                self._signal(process, signal.SIGKILL)
            self._process = None
            copying.cancel()
            transport.close()
        return code

    async def _start(self, output: int) -> Process:
        parent = os.getpid()
        return await asyncio.create_subprocess_exec(
            *self.program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.program.folder,
            env={**os.environ, **self.program.environment},
            start_new_session=True,
            preexec_fn=lambda: _die_with(parent),
        )

    async def _copy(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            self._log.write(chunk)
            self._last_output = (self._last_output + chunk)[-SHOWN_BYTES:]

    async def _wait_to_restart(self, code: int) -> None:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        delay_s = self._backoff.next()
        self._tell(f"{self.program.name} {how}; starting it again in {delay_s:.1f} s; its log: {self._log.path}")
        words = self._last_output.decode(errors="replace").splitlines()[-SHOWN_LINES:]
        for line in words if words != self._last_words else ["(as before)"]:
            self._tell(f"    {line}")
        self._last_words = words
        if not await self._stopping.within(delay_s):
            self._tell(f"{self.program.name} is started again")

    @staticmethod
    def _signal(process: Process, number: signal.Signals) -> None:
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


async def _output_pipe() -> tuple[asyncio.StreamReader, asyncio.ReadTransport, int]:
    """A reader, the transport to close it by, and the descriptor that a program may write to.

    Not asyncio's own PIPE: with it, some Python releases let wait() hang until every holder of the pipe is gone.
    """
    reading_end, writing_end = os.pipe()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(reading_end, "rb"))
    return reader, transport, writing_end


def _die_with(parent: int) -> None:
    """Runs in the child before the program: the kernel kills it when our process ends, however that happens.

    SIGKILL rather than SIGTERM: a start right after our own violent end finds every port free. Services lose nothing
    by it; their journals are written for that.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended between fork and prctl
        os._exit(1)
