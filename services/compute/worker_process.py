"""A worker seen from the service: started, given one job at a time, killed when its time is up."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from contracts.codec import MAX_BYTES
from services.compute.backend import WorkerDied
from services.compute.job import LENGTH_BYTES, Answer, FromWorker, Job, Load, Loaded, Source, from_worker, packed

MOST_FRAME_BYTES = 4 << 20
"""A longer answer is none: the worker itself refuses to send what is a quarter of it."""
FRAMING_BYTES = 4096
"""What a reply needs beside the outputs."""
LAST_WORDS_BYTES = 4096
WORDS_S = 1.0
"""How long the end of what it said is waited for, once it is gone."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A library that computes in threads of its own would take the processors of the other workers."""
_OURS = "DINRAIL_"


class WorkerProcess:
    """A process in a group of its own.

    ended: set once it is gone. idle: it waits for a job. retired: it shall get none any more.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._last_words = bytearray()
        self._listening = asyncio.create_task(self._listen(), name=f"worker.{process.pid}")
        self.ended = asyncio.Event()
        self.idle = False
        self.retired = False
        self.refused: Mapping[str, str] = {}

    @classmethod
    async def start(cls, sources: Sequence[Source], *, memory_mb: int, within_s: float) -> "WorkerProcess":
        """A worker that has loaded these plugins. Raises WorkerDied, TimeoutError, OSError; then nothing is left.

        memory_mb: of a function that does not say how much it takes.
        """
        most_memory_mb = max((memory_mb, *(source.memory_mb for source in sources)))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.compute.worker",
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env=_environment(),
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(within_s):
                loaded = await worker._ask(Load(tuple(sources), MAX_BYTES - FRAMING_BYTES, most_memory_mb))
            if not isinstance(loaded, Loaded):
                raise WorkerDied("it spoke out of turn")
            worker.refused = loaded.refused
            worker.idle = True
        finally:
            if not worker.idle:
                await worker.kill()
        return worker

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def compute(self, job: Job, *, limit_s: float) -> Answer:
        """What comes of the job. Raises WorkerDied, and TimeoutError after limit_s; OverflowError, TypeError on inputs
        that cannot be sent.

        Unless it is idle afterwards, it is at work still or dead, and is to be killed.
        """
        self.idle = False
        async with asyncio.timeout(limit_s):
            try:
                answer = await self._ask(job)
            except (OverflowError, TypeError):
                self.idle = True
                raise
        if not isinstance(answer, Answer):
            raise WorkerDied("it spoke out of turn")
        self.idle = not answer.spent
        return answer

    def discard(self) -> None:
        """Kills it with all that it has started; it will soon be gone."""
        self.idle = False
        self._kill_group()

    async def kill(self) -> None:
        """As discard(), and returns once it is gone. Idempotent."""
        self.discard()
        await self.ended.wait()
        await self._listening

    def _kill_group(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _ask(self, message: Load | Job) -> FromWorker:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(packed(message))
        try:
            length = int.from_bytes(await stdout.readexactly(LENGTH_BYTES))
            if length > MOST_FRAME_BYTES:
                raise WorkerDied(f"it answered with {length} bytes")
            return from_worker(await stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._kill_group()  # a child of the function's may live on
            await self.ended.wait()
            raise WorkerDied(self._end()) from None
        except msgspec.DecodeError as error:
            raise WorkerDied(f"it answered what is no answer: {error}") from error

    async def _listen(self) -> None:
        """Keeps what it last said on standard error, so that it never waits for a reader, until it is gone."""
        reading = asyncio.create_task(self._read_last_words(), name=f"worker.{self._process.pid}.words")
        await self._process.wait()
        self.idle = False
        with suppress(TimeoutError):
            async with asyncio.timeout(WORDS_S):  # a process that the function began and nobody could kill may hold it
                await reading
        self.ended.set()

    async def _read_last_words(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        while chunk := await stderr.read(LAST_WORDS_BYTES):
            self._last_words = (self._last_words + chunk)[-LAST_WORDS_BYTES:]

    def _end(self) -> str:
        code = self._process.returncode or 0
        try:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except ValueError:
            how = f"killed by signal {-code}"
        last = self._last_words.decode(errors="replace").strip().splitlines()
        return f"its process was {how}" + (f"; it last said: {last[-1][:200]}" if last else "")


def _environment() -> dict[str, str]:
    """What functions may see of ours, without the service's own settings, which may hold passwords.

    Sets have one order in all workers, so that a function that goes through one is as pure as it looks.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**inherited, **_ONE_THREAD, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}
