"""What any backend of the compute service does with jobs: processes of its own, or a Dask cluster."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
from distributed import Client, LocalCluster
from pydantic import ValidationError
from structlog.testing import capture_logs

from services.compute.backend import Backend, BackendFull, BackendLost, WorkerDied
from services.compute.composition import BackendMissing
from services.compute.dask_cluster import Cluster
from services.compute.dask_member import Bundle
from services.compute.job import Job, Source
from services.compute.settings import ComputeSettings
from tests.conftest import Eventually
from tests.integration import compute_jobs
from tests.integration.compute_jobs import UNRULY, call, pid_of, source_of, until_free
from tests.integration.compute_site import asking, begun, is_gone, multiple, never_loaded, serving
from tests.real_broker import Broker

Make = Callable[..., AbstractAsyncContextManager[Backend]]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of one Dask worker with one thread."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", scheduler_kwargs={"allowed_failures": 0}
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(params=["processes", "dask"])
def pool(request: pytest.FixtureRequest) -> Make:
    """Makes a backend of one worker that has the unruly functions."""
    if request.param == "processes":
        return compute_jobs.pool
    return partial(cluster, request.getfixturevalue("scheduler"))


@asynccontextmanager
async def cluster(scheduler: str | None, *, wait_s: float = 0.8, size: int = 1) -> AsyncIterator[Cluster]:
    """On the cluster that there is, or one of its own if it is to have more workers."""
    made = Cluster(
        scheduler=scheduler if size == 1 else None,
        size=size,
        instance="test",
        wait_s=wait_s,
        memory_mb=64,
        log=structlog.stdlib.get_logger(),
        random=Random(1),
    )
    running = asyncio.create_task(made.run())
    try:
        async with asyncio.timeout(30):
            await made.renew([UNRULY])
        yield made
    finally:
        await made.stop()
        await running


async def test_a_function_is_computed_in_another_process_that_stays_warm(pool: Make) -> None:
    async with pool() as workers:
        first = await call(workers, "echo", x=1.5)

        assert first.outputs == {"x": 1.5}
        assert await pid_of(workers) == await pid_of(workers) != os.getpid()


@pytest.mark.parametrize(
    ("function", "inputs", "told"),
    [
        ("die", {"with-signal": int(signal.SIGSEGV)}, "killed by SIGSEGV; it last said: these are my last words"),
        ("die", {"with-signal": int(signal.SIGKILL)}, "killed by SIGKILL"),
        ("leave", {}, "ended with exit code 3"),
    ],
)
async def test_a_function_that_kills_its_process_costs_one_job_and_says_how(
    pool: Make, function: str, inputs: dict[str, Any], told: str
) -> None:
    async with pool() as workers:
        with pytest.raises(WorkerDied, match=told):
            await call(workers, function, **inputs)

        assert (await until_free(workers, "echo", x=2.0)).outputs == {"x": 2.0}


async def test_an_endless_loop_is_ended_at_the_deadline_and_leaves_no_process(pool: Make) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)

        with pytest.raises(TimeoutError):
            await call(workers, "spin", limit_s=0.2)

        assert await until_free(workers, "worker")
        assert is_gone(pid)


async def test_processes_that_a_function_has_begun_end_with_it(
    pool: Make, tmp_path: Path, eventually: Eventually
) -> None:
    async with pool() as workers:
        with pytest.raises(TimeoutError):
            await call(workers, "brood", folder=str(tmp_path), limit_s=3.0)

        pid = int((tmp_path / "brood.pid").read_text())
        await eventually(lambda: is_gone(pid))


async def test_a_memory_hog_gets_no_more_than_its_limit_and_its_process_is_replaced(pool: Make) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        modest = await call(workers, "hog", mb=16)
        answer = await call(workers, "hog", mb=500)

        assert modest.outputs == {"mb": 16}
        assert answer.outputs is None
        assert answer.message == "it took more than 64 MiB of memory"
        assert (await until_free(workers, "worker")).outputs != {"pid": pid}


async def test_a_cancelled_job_ends_its_process(pool: Make, tmp_path: Path, eventually: Eventually) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        job = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))

        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        await eventually(lambda: is_gone(pid))
        assert (await until_free(workers, "echo", x=1.0)).outputs == {"x": 1.0}


async def test_what_a_function_prints_and_reads_is_not_what_we_say_to_it(pool: Make) -> None:
    async with pool() as workers:
        answer = await call(workers, "chat")

        assert answer.outputs == {"read": 0}
        assert (await call(workers, "echo", x=1.0)).outputs == {"x": 1.0}


@pytest.mark.parametrize(
    ("function", "inputs", "fault", "told"),
    [
        ("broken", {}, "compute_failed", "function.py:57: KeyError: 'what is not there'"),
        ("picky", {}, "invalid", "there is nothing to compute it of"),
        ("liar", {}, "compute_failed", "there is no output 'z'; there are: y"),
        ("liar", {}, "compute_failed", "output 'y': nan is no plain JSON value"),
        ("large", {"count": 200_000}, "compute_failed", "over the bound of"),
    ],
)
async def test_a_function_that_fails_says_why_and_keeps_its_process(
    pool: Make, function: str, inputs: dict[str, Any], fault: str, told: str
) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        answer = await call(workers, function, **inputs)

        assert answer.outputs is None
        assert answer.fault == fault
        assert told in answer.message
        assert await pid_of(workers) == pid


async def test_long_inputs_reach_the_function_whole(pool: Make) -> None:
    async with pool() as workers:
        answer = await call(workers, "large", count=50_000)
        assert answer.outputs == {"list": [1.5] * 50_000}


async def test_a_job_that_cannot_be_sent_is_refused_and_costs_no_worker(pool: Make) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        with pytest.raises(OverflowError):
            await call(workers, "echo", x=2**70)

        assert await pid_of(workers) == pid


async def test_a_job_that_finds_all_busy_waits_shortly_and_is_refused(
    pool: Make, tmp_path: Path, eventually: Eventually
) -> None:
    async with pool(wait_s=0.4) as workers:
        first = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))

        with pytest.raises(BackendFull, match="workers are busy"):
            await call(workers, "echo", x=1.0)

        (tmp_path / "a.end").touch()
        assert (await first).outputs is not None


async def test_new_functions_take_over_while_the_old_ones_run_to_their_end(
    pool: Make, tmp_path: Path, eventually: Eventually, doubled: Callable[[int], Source]
) -> None:
    async with pool(size=2) as workers:
        running = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))

        await workers.renew([doubled(2)])
        times = Job("multiple", "times", {"x": 1.0}, 64)
        new = await workers.compute(times, limit_s=10, begun=lambda: None)
        (tmp_path / "a.end").touch()

        assert new.outputs == {"y": 2.0}
        old = (await running).outputs
        assert old is not None
        await eventually(lambda: is_gone(old["pid"]))


async def test_a_job_for_functions_that_have_just_gone_costs_no_worker(pool: Make) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)

        answer = await workers.compute(Job("multiple", "times", {"x": 1.0}, 64), limit_s=10, begun=lambda: None)

        assert (answer.fault, answer.message) == (
            "compute_failed",
            "its plugin has just been replaced, and has it no more",
        )
        assert await pid_of(workers) == pid


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os\nos._exit(4)\n", "cannot be loaded: its process was ended with exit code 4"),
        ("1 / 0\n", "function.py:1: function:FUNCTIONS cannot be loaded: ZeroDivisionError"),
        ("FUNCTIONS = {}\n", "times is missing"),
    ],
)
async def test_a_plugin_that_cannot_be_loaded_is_told_and_costs_no_worker(
    pool: Make, tmp_path: Path, code: str, told: str
) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)

        error = await workers.probe(source_of(multiple(tmp_path, 2, code=code)))

        assert told in (error or "")
        assert await pid_of(workers) == pid


@pytest.fixture
def doubled(tmp_path: Path) -> Callable[[int], Source]:
    def make(factor: int) -> Source:
        return source_of(multiple(tmp_path, factor))

    return make


async def test_a_cluster_of_our_own_begins_and_ends_with_the_backend(eventually: Eventually) -> None:
    async with cluster(None) as workers:
        answer = await call(workers, "worker")
        assert workers.ready

    assert answer.outputs is not None
    pids = (answer.outputs["pid"], answer.outputs["parent"])
    await eventually(lambda: all(map(is_gone, pids)))


async def test_tasks_of_the_broker_are_computed_on_the_cluster(
    broker: Broker, tmp_path: Path, eventually: Eventually, scheduler: str
) -> None:
    own: dict[str, Any] = {"backend": "dask", "scheduler": scheduler, "wait": "800ms"}
    async with asking(broker) as site, serving(broker, tmp_path, **own):
        assert await site.call("echo", x=1.5) == {"x": 1.5}
        task = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: begun(tmp_path, "a"))

        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: is_gone(begun(tmp_path, "a")[0]))
        assert await site.call("echo", x=2.5) == {"x": 2.5}


async def test_a_missing_dask_is_told_with_how_to_install_it(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "services.compute.dask_cluster")
    monkeypatch.delitem(sys.modules, "services.compute.dask_member")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BackendMissing, match=r"distributed is not installed: pip install 'dinrail\[dask\]'"):
        async with serving(broker, tmp_path, backend="dask"):
            pass


def test_a_scheduler_without_dask_is_refused_in_the_settings() -> None:
    with pytest.raises(ValidationError, match="set `backend: dask` too"):
        ComputeSettings(scheduler="tcp://cluster:8786")


async def test_functions_are_taken_away_from_the_cluster_with_the_service_that_gave_them(scheduler: str) -> None:
    async with cluster(scheduler), Client(scheduler, asynchronous=True) as client:
        assert len(await client.run_on_scheduler(members)) == 1
    async with Client(scheduler, asynchronous=True) as client:
        assert await client.run_on_scheduler(members) == []


def members(dask_scheduler: Any) -> list[str]:
    return [name for name in dask_scheduler.worker_plugins if name.startswith("dinrail-")]


async def test_a_scheduler_that_goes_loses_its_jobs_and_blames_no_function(
    tmp_path: Path, eventually: Eventually
) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", scheduler_kwargs={"allowed_failures": 0}
    ) as passing:
        async with cluster(passing.scheduler_address) as workers:
            job = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
            await eventually(lambda: begun(tmp_path, "a"))

            await asyncio.to_thread(passing.close)
            with pytest.raises(BackendLost):
                await job

            await eventually(lambda: not workers.ready)
            with pytest.raises(BackendFull):
                await call(workers, "echo", x=1.0)


async def test_a_dask_worker_that_is_killed_costs_one_job_which_is_not_done_again(
    tmp_path: Path, eventually: Eventually
) -> None:
    async with cluster(None) as workers:
        answer = await call(workers, "worker")
        assert answer.outputs is not None
        job = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))

        os.kill(int(answer.outputs["parent"]), signal.SIGKILL)
        with pytest.raises(WorkerDied, match="its Dask worker died"):
            await job

        assert (await until_free(workers, "echo", x=1.0)).outputs == {"x": 1.0}
        assert len(begun(tmp_path, "a")) == 1


async def test_a_scheduler_that_would_do_jobs_again_in_silence_is_refused_with_what_to_change(
    eventually: Eventually,
) -> None:
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", processes=False) as careless:
        made = Cluster(
            instance="test",
            scheduler=careless.scheduler_address,
            size=1,
            wait_s=0.5,
            memory_mb=64,
            log=structlog.stdlib.get_logger(),
            random=Random(1),
        )
        running = asyncio.create_task(made.run())
        await eventually(lambda: "allowed-failures is 3" in made.state)
        assert not made.ready
        with pytest.raises(BackendFull, match="set it to 0"):
            await call(made, "echo", x=1.0)
        await made.stop()
        await running


async def test_functions_that_no_dask_worker_can_take_are_left_on_none(
    scheduler: str, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    async with cluster(scheduler) as workers, Client(scheduler, asynchronous=True) as client:
        before = await client.run_on_scheduler(members)
        with capture_logs() as told, monkeypatch.context() as broken:
            broken.setattr(Bundle, "of", lambda source: Bundle(source, {"x" * 300: b""}))  # no disk takes such a name
            renewing = asyncio.create_task(workers.renew([UNRULY]))
            await eventually(lambda: [one["event"] for one in told].count("functions_not_given") >= 2)

        assert await client.run_on_scheduler(members) == before
        renewing.cancel()
        await asyncio.wait([renewing])
        assert (await call(workers, "echo", x=1.0)).outputs == {"x": 1.0}


async def test_functions_whose_loading_is_given_up_are_left_on_no_dask_worker(
    scheduler: str, tmp_path: Path, eventually: Eventually
) -> None:
    folder, loading = never_loaded(tmp_path)
    async with cluster(scheduler) as workers, Client(scheduler, asynchronous=True) as client:
        before = await client.run_on_scheduler(members)
        renewing = asyncio.create_task(workers.renew([source_of(folder)]))
        await eventually(loading.exists)
        assert len(await client.run_on_scheduler(members)) == 2

        renewing.cancel()
        await asyncio.wait([renewing])

        assert await client.run_on_scheduler(members) == before
