"""Jobs computed on a Dask cluster (https://distributed.dask.org): one that there is, or our own on this machine."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any
from uuid import uuid4

import msgspec
from distributed import Client, LocalCluster
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.scheduler import KilledWorker

from services.compute import dask_member
from services.compute.backend import BackendFull, BackendLost, WorkerDied
from services.compute.dask_member import Bundle, Member
from services.compute.job import LENGTH_BYTES, Answer, Job, Source, from_worker, packed
from services.compute.pool import probed
from services.runtime.logs import Log
from services.runtime.retry import Backoff

CONNECT_S = 10.0
GRACE_S = 5.0
"""How long after its time limit a job's end may still be told: its Dask worker ends it then, and says so."""
CANCEL_S = 2.0
LOOK_S = 0.2
"""How often it is looked whether the scheduler is still there."""
_RETRIES = "distributed.scheduler.allowed-failures"


class ClusterUnfit(Exception):
    """The cluster is there, and cannot be used; the text says what to change."""


class Cluster:
    """A Backend. scheduler: address of the cluster's; None: a cluster of `size` Dask workers on this machine.

    instance: the service's; what an earlier process of the same left on the cluster is taken away.
    wait_s: how long a job may wait for its begin. memory_mb: of a function that does not say how much it takes.
    """

    name = "cluster"

    def __init__(
        self,
        *,
        instance: str,
        scheduler: str | None,
        size: int,
        wait_s: float,
        memory_mb: int,
        log: Log,
        random: Random,
    ) -> None:
        self._prefix = f"dinrail-{instance}."
        self._scheduler = scheduler
        self._size = size
        self._wait_s = wait_s
        self._memory_mb = memory_mb
        self._log = log
        self._random = random
        self._topic = f"{self._prefix}{uuid4().hex}"
        self._client: Any = None
        self._member: Member | None = None
        self._bundles: tuple[Bundle, ...] | None = None
        self._begun: dict[str, asyncio.Future[None]] = {}
        self._jobs: Counter[str] = Counter()  # by the member that has them
        self._retired: set[str] = set()  # members that get no more
        self._problem = "not connected yet"
        self._turn = asyncio.Lock()
        self._connected = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the cluster is there, with the functions."""
        return self._client is not None and self._member is not None

    @property
    def state(self) -> str:
        """One line, for /health."""
        where = self._scheduler or "a cluster of our own"
        return f"Dask: {where}, {len(self._begun)} tasks there" if self.ready else f"Dask: {where}: {self._problem}"

    async def run(self) -> None:
        """Keeps a connection to the cluster until stop()."""
        backoff = Backoff(first_s=0.5, most_s=30.0, random=self._random)
        stopping = asyncio.create_task(self._stopping.wait(), name="cluster.stopping")
        try:
            while not self._stopping.is_set():
                try:
                    await self._keep(stopping, backoff)
                except (ClusterUnfit, OSError, TimeoutError) as error:
                    self._problem = str(error) or type(error).__name__
                    self._log.error("cluster_unavailable", scheduler=self._scheduler, error=self._problem)
                    await asyncio.wait((stopping,), timeout=backoff.next())
        finally:
            stopping.cancel()

    async def stop(self) -> None:
        """Gives up what is still computed."""
        self._stopping.set()

    async def probe(self, source: Source) -> str | None:
        """Loads a plugin in a process of its own, on this machine; gives what is wrong with it."""
        return await probed(source, memory_mb=self._memory_mb)

    async def renew(self, sources: Sequence[Source]) -> None:
        """These are the plugins from now on; returns when all Dask workers have them, once there is a cluster."""
        self._bundles = await asyncio.to_thread(lambda: tuple(map(Bundle.of, sources)))
        backoff = Backoff(first_s=LOOK_S, most_s=10.0, random=self._random)
        while True:
            await self._connected.wait()
            try:
                return await self._register()
            except (ClusterUnfit, OSError, TimeoutError) as error:
                self._problem = str(error) or type(error).__name__
                self._log.error("functions_not_given", error=self._problem)
                await asyncio.sleep(backoff.next())

    async def compute(self, job: Job, *, limit_s: float, begun: Callable[[], None]) -> Answer:
        """See Backend.compute()."""
        data = packed(job)
        client, member = self._client, self._member
        if client is None or member is None:
            raise BackendFull(self.state)
        key = f"{self._prefix}{uuid4().hex}"
        try:
            future = client.submit(
                dask_member.compute, member.name, key, data, limit_s, self._topic, key=key, pure=False, retries=0
            )
        except ClosedClientError as error:  # it is about to connect again
            raise BackendFull("the connection to the Dask scheduler is broken") from error
        self._jobs[member.name] += 1
        start = self._begun[key] = asyncio.get_running_loop().create_future()
        result: asyncio.Task[bytes] | None = None
        try:
            result = asyncio.create_task(_result(future), name=key)
            await asyncio.wait((result, start), timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                if not start.done():
                    raise BackendFull("all Dask workers are busy")
                begun()
                await asyncio.wait((result,), timeout=limit_s + GRACE_S)
                if not result.done():
                    raise TimeoutError
            return _answer(result.result())
        finally:
            del self._begun[key]
            if result is not None and not result.done():
                result.cancel()
                await self._end(client, member.name, key, future)
            future.release()
            self._jobs[member.name] -= 1
            await self._drop_idle(client)

    async def _keep(self, stopping: "asyncio.Task[bool]", backoff: Backoff) -> None:
        """Connected until it is broken or we stop. Raises ClusterUnfit, OSError, TimeoutError."""
        async with AsyncExitStack() as stack:
            where: Any = self._scheduler
            if where is None:
                where = await stack.enter_async_context(_own_cluster(self._size))
            client: Any = await stack.enter_async_context(_untyped(Client)(where, asynchronous=True, timeout=CONNECT_S))
            await _check(client)
            self._retired |= set(await client.run_on_scheduler(_members, self._prefix))
            await self._drop_idle(client)
            client.subscribe_topic(self._topic, self._on_begun)
            self._client = client
            try:
                if self._bundles is not None:
                    await self._register()
                backoff.reset()
                self._log.info("cluster_connected", scheduler=client.scheduler.address)
                self._connected.set()
                while client.status == "running" and not stopping.done():
                    await asyncio.wait((stopping,), timeout=LOOK_S)
                self._problem = "the connection is broken"
            finally:
                self._connected.clear()
                self._client = None
                await self._leave(client)

    async def _leave(self, client: Any) -> None:  # noqa: ANN401 - Dask's, untyped
        """Takes our functions away from the cluster, with what they still compute."""
        if self._member is not None:
            self._retired.add(self._member.name)
            self._member = None
        self._jobs.clear()
        if client.status == "running":
            await self._drop_idle(client)
        self._retired.clear()

    async def _drop_idle(self, client: Any) -> None:  # noqa: ANN401 - Dask's, untyped
        """Takes away the retired that have no jobs any more; on a broken cluster they are taken away by the next."""
        for name in [name for name in self._retired if self._jobs[name] <= 0]:
            self._retired.discard(name)
            del self._jobs[name]
            with suppress(OSError, TimeoutError, ValueError):
                async with asyncio.timeout(CANCEL_S):
                    await client.unregister_worker_plugin(name)

    async def _register(self) -> None:
        """Gives the functions to all Dask workers, those to come too. Raises ClusterUnfit, OSError, TimeoutError."""
        async with self._turn:
            client, before, bundles = self._client, self._member, self._bundles
            if client is None or bundles is None:
                raise ConnectionError(self._problem)
            if before is not None and before.bundles is bundles:
                return
            name = f"{self._prefix}{uuid4().hex}"
            member = Member(name=name, bundles=bundles, wait_s=self._wait_s, memory_mb=self._memory_mb)
            unwanted: Member | None = member
            try:
                await client.register_plugin(member, name=member.name)
                unwanted, self._member = before, member
            except ImportError as error:
                told = f"its Dask workers have not the dinrail of this service, with its extra `dask`: {error}"
                raise ClusterUnfit(told) from error
            finally:  # some Dask workers may have taken what others cannot
                if unwanted is not None:
                    self._retired.add(unwanted.name)
                    await self._drop_idle(client)

    def _on_begun(self, event: tuple[float, str]) -> None:
        begun = self._begun.get(event[1])
        if begun is not None and not begun.done():
            begun.set_result(None)

    async def _end(self, client: Any, member: str, key: str, future: Any) -> None:  # noqa: ANN401 - Dask's, untyped
        """Ends a job wherever it has come to; on a Dask worker that does not answer, its own time limit does so."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await future.cancel()
                await client.run(dask_member.cancel, member, key, on_error="ignore")


def _untyped(kind: Any) -> Any:  # noqa: ANN401
    """Dask says nothing of the arguments of its classes."""
    return kind


def _own_cluster(size: int) -> Any:  # noqa: ANN401 - Dask's, untyped
    """Of processes on this machine, which end with ours; the functions have limits of their own."""
    return _untyped(LocalCluster)(
        n_workers=size,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        asynchronous=True,
        memory_limit=0,
        scheduler_kwargs={"allowed_failures": 0},
    )


async def _check(client: Any) -> None:  # noqa: ANN401 - Dask's, untyped
    """Raises ClusterUnfit."""
    failures = await client.run_on_scheduler(_allowed_failures)
    if failures:
        raise ClusterUnfit(
            f"its scheduler's {_RETRIES} is {failures}: what a Dask worker died of would be done again in "
            "silence, though the function be not pure; set it to 0"
        )


def _allowed_failures(dask_scheduler: Any) -> int:  # noqa: ANN401 - Dask's, untyped
    """On the scheduler."""
    allowed: int = dask_scheduler.allowed_failures
    return allowed


def _members(prefix: str, dask_scheduler: Any) -> list[str]:  # noqa: ANN401 - Dask's, untyped
    """On the scheduler: those that an instance has registered."""
    return [name for name in dask_scheduler.worker_plugins if name.startswith(prefix)]


async def _result(future: Any) -> bytes:  # noqa: ANN401 - Dask's, untyped
    """What the job gave, packed. Raises as Backend.compute()."""
    try:
        data: bytes = await future.result()
    except KilledWorker as error:
        raise WorkerDied("its Dask worker died") from error
    except FutureCancelledError as error:
        raise BackendLost(f"the Dask scheduler has lost it: {error.reason}") from error
    return data


def _answer(data: bytes) -> Answer:
    """Raises WorkerDied on what is no answer."""
    try:
        answer = from_worker(data[LENGTH_BYTES:])
    except msgspec.DecodeError as error:
        raise WorkerDied(f"it answered what is no answer: {error}") from error
    if not isinstance(answer, Answer):
        raise WorkerDied("it spoke out of turn")
    return answer
