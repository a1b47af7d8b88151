"""What the Dask backend does on a Dask worker: it keeps a Pool there, as a compute service does, and gives it jobs.

So a job ends there by its deadline, its memory and its crashes as it does here: the Dask worker computes nothing
itself.
"""

import asyncio
from collections import OrderedDict
from functools import partial
from pathlib import Path, PurePosixPath
from random import SystemRandom
from typing import Any

import msgspec
import structlog
from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin
from prometheus_client import CollectorRegistry

from services.compute.backend import BackendFull, BackendLost
from services.compute.job import LENGTH_BYTES, Answer, Job, Source, packed, to_worker
from services.compute.pool import START_S, Pool
from services.runtime.metrics import Metrics

MOST_CANCELLED = 1000
"""Cancellations that are remembered: one may overtake its job."""


class Bundle(msgspec.Struct, frozen=True):
    """A plugin as it travels: what is told of it, and the files of its folder by their path there."""

    source: Source
    files: dict[str, bytes]

    @classmethod
    def of(cls, source: Source) -> "Bundle":
        """The plugin whose files lie in the source's folder. Raises OSError."""
        folder = Path(source.folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return cls(source, {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    def unpacked(self, folder: Path) -> Source:
        """The plugin with its files in this folder. Raises OSError."""
        for name, data in self.files.items():
            path = folder / PurePosixPath(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return msgspec.structs.replace(self.source, folder=str(folder))


class Member(WorkerPlugin):
    """The functions on one Dask worker, from its registration until it is unregistered."""

    def __init__(self, *, name: str, bundles: tuple[Bundle, ...], wait_s: float, memory_mb: int) -> None:
        self.name = name
        self.bundles = bundles
        self._wait_s = wait_s
        self._memory_mb = memory_mb
        self._pool: Pool | None = None
        self._running: asyncio.Task[None] | None = None
        self._jobs: dict[str, asyncio.Task[Answer]] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._folders: dict[str, str] = {}

    async def setup(self, worker: Worker) -> None:
        """Unpacks the plugins and starts as many processes as the Dask worker has threads. Raises OSError."""
        sources = []
        for number, bundle in enumerate(self.bundles):
            source = bundle.unpacked(Path(worker.local_directory) / self.name / f"{number}")
            self._folders[source.folder] = bundle.source.folder
            sources.append(source)
        size = worker.state.nthreads
        pool = self._pool = Pool(
            size=size,
            queue=size,
            wait_s=self._wait_s,
            memory_mb=self._memory_mb,
            metrics=Metrics(CollectorRegistry()),
            log=structlog.stdlib.get_logger(),
            random=SystemRandom(),
        )
        self._running = asyncio.create_task(pool.run(), name=self.name)
        async with asyncio.timeout(START_S):
            await pool.renew(sources)

    async def teardown(self, worker: Worker) -> None:
        """Gives up what is still computed."""
        if self._pool is not None and self._running is not None:
            await self._pool.stop()
            await asyncio.wait((self._running,))

    async def compute(self, key: str, data: bytes, *, limit_s: float, worker: Worker, topic: str) -> bytes:
        """What comes of the job, packed; that it has begun is told as an event. Raises as Backend.compute()."""
        if self._pool is None or key in self._cancelled:
            raise BackendFull("it was cancelled, or its functions are not ready")
        begun = partial(worker.log_event, topic, key)
        wanted = to_worker(data[LENGTH_BYTES:])
        assert isinstance(wanted, Job)
        job = asyncio.create_task(self._pool.compute(wanted, limit_s=limit_s, begun=begun), name=key)
        self._jobs[key] = job
        try:
            answer = await job
        except asyncio.CancelledError:
            job.cancel()
            raise BackendLost("its Dask worker has ended it") from None
        finally:
            del self._jobs[key]
        return packed(msgspec.structs.replace(answer, message=self._told(answer.message)))

    def cancel(self, key: str) -> None:
        """Ends the job; one that has not come yet is not begun."""
        self._cancelled[key] = None
        if len(self._cancelled) > MOST_CANCELLED:
            self._cancelled.popitem(last=False)
        if key in self._jobs:
            self._jobs[key].cancel()

    def _told(self, message: str) -> str:
        """The message with the places where the service has the plugins."""
        for here, there in self._folders.items():
            message = message.replace(here, there)
        return message


async def compute(name: str, key: str, data: bytes, limit_s: float, topic: str) -> bytes:
    """As a Dask task: see Member.compute(). name: of the member."""
    worker = get_worker()
    member: Any = worker.plugins.get(name)
    if member is None:
        raise BackendFull("the functions have just been replaced")
    answer: bytes = await member.compute(key, data, limit_s=limit_s, worker=worker, topic=topic)
    return answer


def cancel(name: str, key: str, dask_worker: Worker) -> None:
    """On each Dask worker: see Member.cancel()."""
    member: Any = dask_worker.plugins.get(name)
    if member is not None:
        member.cancel(key)
