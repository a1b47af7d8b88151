"""The workers: as many as there shall be, warm, each replaced when it ends; what finds none free waits shortly."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

from services.compute.backend import BackendFull, WorkerDied
from services.compute.job import Answer, Job, Source
from services.compute.worker_process import WorkerProcess
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff

PROBE_S = 60.0
"""How long a plugin may take to be loaded, and a process to begin. Who is late stays refused: where ten containers
started together on two busy cores, one with NumPy took over 10 s."""
START_S = 120.0
"""How long a worker may take to load all functions."""


class Pool:
    """A Backend of processes. size: workers. queue: jobs that may wait for one. wait_s: how long a job may wait.
    memory_mb: of a function that does not say how much it takes.

    A job that waited behind one that takes 300 s would be blocked by it though another service is idle: so it is
    refused after wait_s, and its asker asks again.
    """

    name = "pool"

    def __init__(
        self,
        *,
        size: int,
        queue: int,
        wait_s: float,
        memory_mb: int,
        metrics: Metrics,
        log: Log,
        random: Random,
    ) -> None:
        self._memory_mb = memory_mb
        self._queue = queue
        self._wait_s = wait_s
        self._log = log
        self._random = random
        self._sources: tuple[Source, ...] = ()
        self._free: list[WorkerProcess] = []
        self._living: set[WorkerProcess] = set()
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._slots = [_Slot() for _ in range(size)]
        self._stopping = asyncio.Event()
        self._replaced = metrics.compute_workers_replaced
        metrics.compute_workers_busy.set_function(lambda: float(self.busy))
        metrics.watch_depth(self.name, self._waiting)

    @property
    def busy(self) -> int:
        """Workers that compute."""
        return sum(not (worker.idle or worker.ended.is_set()) for worker in self._living)

    @property
    def ready(self) -> bool:
        """Whether a worker is warm, busy or not."""
        return any(slot.worker is not None for slot in self._slots)

    @property
    def state(self) -> str:
        """One line, for /health."""
        warm = sum(slot.worker is not None for slot in self._slots)
        return f"{warm} of {len(self._slots)} workers warm, {self.busy} busy, {len(self._waiting)} tasks waiting"

    async def probe(self, source: Source) -> str | None:
        """Loads a plugin in a process of its own; gives what is wrong with it."""
        return await probed(source, memory_mb=self._memory_mb)

    async def run(self) -> None:
        """Keeps the workers until stop(); what they still compute is then given up."""
        keeping = [
            asyncio.create_task(self._keep(slot), name=f"pool.{number}") for number, slot in enumerate(self._slots)
        ]
        stopping = asyncio.create_task(self._stopping.wait(), name="pool.stopping")
        try:
            done, _ = await asyncio.wait([stopping, *keeping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (stopping, *keeping):
                task.cancel()
            await asyncio.gather(stopping, *keeping, return_exceptions=True)
            await asyncio.gather(*(worker.kill() for worker in self._living))

    async def stop(self) -> None:
        """Ends the workers."""
        self._stopping.set()

    async def renew(self, sources: Sequence[Source]) -> None:
        """Workers have these plugins from now on. Returns when no worker with others takes a job any more.

        A job that is at work goes on to its end in the worker that has it.
        """
        self._sources = tuple(sources)
        for slot in self._slots:
            slot.renewed.clear()
            slot.renew.set()
        for slot in self._slots:
            await slot.renewed.wait()

    async def compute(self, job: Job, *, limit_s: float, begun: Callable[[], None]) -> Answer:
        """What comes of the job; `begun` is called once a worker has it. Cancelled, it ends the work too.

        Raises BackendFull, WorkerDied, and TimeoutError limit_s after its begin; OverflowError, TypeError on inputs
        that cannot be sent.
        """
        worker = await self._free_worker()
        try:
            begun()
            return await worker.compute(job, limit_s=limit_s)
        finally:
            self._give(worker)

    async def _free_worker(self) -> WorkerProcess:
        while self._free:
            worker = self._free.pop()
            if worker.idle:
                return worker
        if len(self._waiting) >= self._queue:
            raise BackendFull(f"all {len(self._slots)} workers are busy and {self._queue} tasks wait")
        waiting: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        taken = False
        try:
            async with asyncio.timeout(self._wait_s):
                worker = await waiting
            taken = True
        except TimeoutError:
            raise BackendFull(f"all {len(self._slots)} workers are busy") from None
        finally:
            if not taken:
                with suppress(ValueError):
                    self._waiting.remove(waiting)
                if waiting.done() and not waiting.cancelled():
                    self._give(waiting.result())
        return worker

    def _give(self, worker: WorkerProcess) -> None:
        """The worker is free: for who waits longest, or until somebody comes. One of no more use is killed."""
        if not worker.idle or worker.retired:
            worker.discard()
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(worker)
                return
        self._free.append(worker)

    async def _keep(self, slot: "_Slot") -> None:
        """Keeps one worker: another when it ends, or when other plugins are wanted, and then before it goes."""
        backoff = Backoff(first_s=0.1, most_s=10.0, random=self._random)
        await slot.renew.wait()
        while True:
            slot.renew.clear()
            try:
                worker = await WorkerProcess.start(self._sources, memory_mb=self._memory_mb, within_s=START_S)
            except (WorkerDied, TimeoutError, OSError) as error:
                self._log.error("worker_not_started", error=str(error) or type(error).__name__)
                slot.renew.set()
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            self._living = {worker, *(one for one in self._living if not one.ended.is_set())}
            self._retire(slot.worker)
            slot.worker = worker
            if not slot.renew.is_set():
                slot.renewed.set()
            self._give(worker)
            await _first(worker.ended, slot.renew)
            if worker.ended.is_set():
                slot.worker = None
                self._replaced.inc()

    def _retire(self, worker: WorkerProcess | None) -> None:
        if worker is not None:
            worker.retired = True
            if worker in self._free:
                self._free.remove(worker)
                worker.discard()


class _Slot:
    """A worker's place. renew: other plugins are wanted than it has; renewed: it has those."""

    def __init__(self) -> None:
        self.worker: WorkerProcess | None = None
        self.renew = asyncio.Event()
        self.renewed = asyncio.Event()


async def _first(*events: asyncio.Event) -> None:
    """Returns when one of them is set."""
    waiting = [asyncio.create_task(event.wait(), name="pool.waiting") for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def probed(source: Source, *, memory_mb: int) -> str | None:
    """See Backend.probe(). memory_mb: of a function that does not say how much it takes."""
    try:
        worker = await WorkerProcess.start([source], memory_mb=memory_mb, within_s=PROBE_S)
    except TimeoutError:
        return f"{source.folder}: it cannot be loaded within {PROBE_S:g} s"
    except (WorkerDied, OSError) as error:
        return f"{source.folder}: it cannot be loaded: {error}"
    await worker.kill()
    return worker.refused.get(source.plugin)
