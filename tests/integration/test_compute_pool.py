"""The workers of the compute service: real processes, and functions that do to them what functions should not.

What holds for any backend: test_compute_backends.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from services.compute.backend import BackendFull, WorkerDied
from tests.conftest import Eventually
from tests.integration.compute_jobs import call, pid_of, pool, until_free
from tests.integration.compute_site import is_gone


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
