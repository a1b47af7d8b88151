"""The workers of the compute service: real processes, and functions that do to them what functions should not.

What holds for any backend: test_compute_backends.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.compute.backend import BackendFull, WorkerDied
from services.compute.job import Job
from tests.conftest import Eventually
from tests.integration.compute_jobs import call, pid_of, pool, source_of, until_free
from tests.integration.compute_site import is_gone, multiple, never_loaded


async def test_workers_see_no_setting_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINRAIL_SECRET", "password")
    async with pool() as workers:
        answer = await call(workers, "worker")

    assert answer.outputs is not None
    assert answer.outputs["secret"] is None


async def test_a_copy_of_a_process_that_dies_ends_with_it_and_hides_its_death_from_nobody(
    tmp_path: Path, eventually: Eventually
) -> None:
    async with pool() as workers:
        with pytest.raises(WorkerDied, match="killed by SIGKILL"):
            await call(workers, "orphan", folder=str(tmp_path))

        await eventually(lambda: is_gone(int((tmp_path / "orphan.pid").read_text())))


async def test_a_function_cannot_give_itself_more_memory_than_its_worker_may_have() -> None:
    async with pool() as workers:
        answer = await call(workers, "greedy", mb=1000)

        assert answer.message == "it took more than 64 MiB of memory"
        assert answer.fatal


async def test_an_idle_worker_that_is_killed_is_replaced(eventually: Eventually) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: is_gone(pid) and not workers.ready)

        assert (await until_free(workers, "echo", x=1.0)).outputs == {"x": 1.0}


async def test_a_job_that_waits_gets_the_worker_that_comes_free(tmp_path: Path, eventually: Eventually) -> None:
    async with pool(wait_s=10, queue=1) as workers:
        first = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))
        second = asyncio.create_task(call(workers, "echo", x=1.0))
        await eventually(lambda: "1 tasks waiting" in workers.state)

        with pytest.raises(BackendFull, match="1 tasks wait"):
            await call(workers, "echo", x=3.0)
        (tmp_path / "a.end").touch()

        assert (await second).outputs == {"x": 1.0}
        await first


async def test_a_job_that_is_cancelled_while_it_waits_costs_no_worker(tmp_path: Path, eventually: Eventually) -> None:
    async with pool(wait_s=10) as workers:
        first = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))
        second = asyncio.create_task(call(workers, "echo", x=1.0))
        await eventually(lambda: "1 tasks waiting" in workers.state)

        second.cancel()
        (tmp_path / "a.end").touch()
        await first

        assert (await call(workers, "echo", x=2.0)).outputs == {"x": 2.0}


def children() -> set[str]:
    """The ids of our own processes (proc(5), /proc/PID/task/TID/children)."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


async def test_a_plugin_whose_loading_never_ends_is_refused_in_time_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = never_loaded(tmp_path)
    monkeypatch.setattr("services.compute.pool.PROBE_S", 0.5)
    async with pool() as workers:
        before = children()

        error = await asyncio.wait_for(workers.probe(source_of(folder)), 30)

        assert error == f"{folder}: it cannot be loaded within 0.5 s"
        assert children() == before


async def test_a_worker_that_is_not_warm_in_time_is_ended_and_another_is_begun_until_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    folder, _ = never_loaded(tmp_path)
    before = children()
    monkeypatch.setattr("services.compute.pool.START_S", 0.5)
    async with pool(warm=False) as workers:
        with capture_logs() as told:
            renewing = asyncio.create_task(workers.renew([source_of(folder)]))
            await eventually(lambda: [one["event"] for one in told].count("worker_not_started") >= 2)
            assert not workers.ready
        multiple(tmp_path, 3)
        monkeypatch.setattr("services.compute.pool.START_S", 30.0)

        await asyncio.wait_for(renewing, 60)
        answer = await workers.compute(Job("multiple", "times", {"x": 1.0}, 64), limit_s=10, begun=lambda: None)

        assert answer.outputs == {"y": 3.0}
        assert len(children() - before) == 1
