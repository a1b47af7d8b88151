"""The workers of the compute service: real processes, and functions that do to them what functions should not."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from plugins.api.registry import read_manifest
from services.compute.backend import BackendFull, WorkerDied
from services.compute.job import Answer, Job, Source
from services.compute.library import Version
from services.compute.pool import Pool
from services.runtime.metrics import Metrics
from tests.conftest import Eventually
from tests.integration.compute_site import is_gone, multiple


def source_of(folder: Path) -> Source:
    return Version(manifest=read_manifest(folder), folder=folder, copy=folder, build="1").source


UNRULY = source_of(Path(__file__).parent / "functions/unruly")


@asynccontextmanager
async def pool(*, size: int = 1, queue: int = 10, wait_s: float = 0.5, warm: bool = True) -> AsyncIterator[Pool]:
    made = Pool(
        size=size,
        queue=queue,
        wait_s=wait_s,
        memory_mb=64,
        metrics=Metrics(CollectorRegistry()),
        log=structlog.stdlib.get_logger(),
        random=Random(1),
    )
    running = asyncio.create_task(made.run())
    try:
        if warm:
            await made.renew([UNRULY])
        yield made
    finally:
        await made.stop()
        await running


async def call(workers: Pool, function: str, *, limit_s: float = 10.0, memory_mb: int = 64, **inputs: Any) -> Answer:
    return await workers.compute(Job("unruly", function, inputs, memory_mb), limit_s=limit_s, begun=lambda: None)


async def pid_of(workers: Pool) -> int:
    answer = await call(workers, "worker")
    assert answer.outputs is not None
    return int(answer.outputs["pid"])


async def test_a_function_is_computed_in_another_process_that_stays_warm() -> None:
    async with pool() as workers:
        first = await call(workers, "echo", x=1.5)

        assert first.outputs == {"x": 1.5}
        assert await pid_of(workers) == await pid_of(workers) != os.getpid()


async def test_workers_see_no_setting_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINRAIL_SECRET", "password")
    async with pool() as workers:
        answer = await call(workers, "worker")

    assert answer.outputs is not None
    assert answer.outputs["secret"] is None


@pytest.mark.parametrize(
    ("function", "inputs", "told"),
    [
        ("die", {"with-signal": int(signal.SIGSEGV)}, "killed by SIGSEGV; it last said: these are my last words"),
        ("die", {"with-signal": int(signal.SIGKILL)}, "killed by SIGKILL"),
        ("leave", {}, "ended with exit code 3"),
    ],
)
async def test_a_function_that_kills_its_process_costs_one_job_and_says_how(
    function: str, inputs: dict[str, Any], told: str
) -> None:
    async with pool() as workers:
        with pytest.raises(WorkerDied, match=told):
            await call(workers, function, **inputs)

        assert (await until_free(workers, "echo", x=2.0)).outputs == {"x": 2.0}


async def until_free(workers: Pool, function: str, **inputs: Any) -> Answer:
    """A worker that is replaced takes longer to be warm than a job may wait for it."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await call(workers, function, **inputs)
            except BackendFull:
                continue


async def test_an_endless_loop_is_ended_at_the_deadline_and_leaves_no_process() -> None:
    async with pool() as workers:
        pid = await pid_of(workers)

        with pytest.raises(TimeoutError):
            await call(workers, "spin", limit_s=0.2)

        assert await until_free(workers, "worker")
        assert is_gone(pid)


async def test_processes_that_a_function_has_begun_end_with_it(tmp_path: Path, eventually: Eventually) -> None:
    async with pool() as workers:
        with pytest.raises(TimeoutError):
            await call(workers, "brood", folder=str(tmp_path), limit_s=1.0)

        pid = int((tmp_path / "brood.pid").read_text())
        await eventually(lambda: is_gone(pid))


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


async def test_a_memory_hog_gets_no_more_than_its_limit_and_its_process_is_replaced() -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        modest = await call(workers, "hog", mb=16)
        answer = await call(workers, "hog", mb=500)

        assert modest.outputs == {"mb": 16}
        assert answer.outputs is None
        assert answer.message == "it took more than 64 MiB of memory"
        assert (await until_free(workers, "worker")).outputs != {"pid": pid}


async def test_a_cancelled_job_ends_its_process(tmp_path: Path, eventually: Eventually) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        job = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))

        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        await eventually(lambda: is_gone(pid))
        assert (await until_free(workers, "echo", x=1.0)).outputs == {"x": 1.0}


async def test_an_idle_worker_that_is_killed_is_replaced(eventually: Eventually) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: is_gone(pid) and not workers.ready)

        assert (await until_free(workers, "echo", x=1.0)).outputs == {"x": 1.0}


async def test_what_a_function_prints_and_reads_is_not_what_we_say_to_it() -> None:
    async with pool() as workers:
        answer = await call(workers, "chat")

        assert answer.outputs == {"read": 0}
        assert (await call(workers, "echo", x=1.0)).outputs == {"x": 1.0}


@pytest.mark.parametrize(
    ("function", "inputs", "fault", "told"),
    [
        ("broken", {}, "compute_failed", "function.py:56: KeyError: 'what is not there'"),
        ("picky", {}, "invalid", "there is nothing to compute it of"),
        ("liar", {}, "compute_failed", "there is no output 'z'; there are: y"),
        ("liar", {}, "compute_failed", "output 'y': nan is no plain JSON value"),
        ("large", {"count": 200_000}, "compute_failed", "over the bound of"),
    ],
)
async def test_a_function_that_fails_says_why_and_keeps_its_process(
    function: str, inputs: dict[str, Any], fault: str, told: str
) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        answer = await call(workers, function, **inputs)

        assert answer.outputs is None
        assert answer.fault == fault
        assert told in answer.message
        assert await pid_of(workers) == pid


async def test_long_inputs_reach_the_function_whole() -> None:
    async with pool() as workers:
        answer = await call(workers, "large", count=50_000)
        assert answer.outputs == {"list": [1.5] * 50_000}


async def test_a_job_that_cannot_be_sent_is_refused_and_costs_no_worker() -> None:
    async with pool() as workers:
        pid = await pid_of(workers)
        with pytest.raises(OverflowError):
            await call(workers, "echo", x=2**70)

        assert await pid_of(workers) == pid


async def test_a_job_that_finds_all_busy_waits_shortly_and_is_refused(tmp_path: Path, eventually: Eventually) -> None:
    async with pool(wait_s=0.05) as workers:
        first = asyncio.create_task(call(workers, "wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: list(tmp_path.glob("a.*.begun")))

        with pytest.raises(BackendFull, match="all 1 workers are busy"):
            await call(workers, "echo", x=1.0)

        (tmp_path / "a.end").touch()
        assert (await first).outputs is not None


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


async def test_new_functions_take_over_while_the_old_ones_run_to_their_end(
    tmp_path: Path, eventually: Eventually, doubled: Callable[[int], Source]
) -> None:
    async with pool() as workers:
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


@pytest.fixture
def doubled(tmp_path: Path) -> Callable[[int], Source]:
    def make(factor: int) -> Source:
        return source_of(multiple(tmp_path, factor))

    return make


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os\nos._exit(4)\n", "cannot be loaded: its process was ended with exit code 4"),
        ("1 / 0\n", "function.py:1: function:FUNCTIONS cannot be loaded: ZeroDivisionError"),
        ("FUNCTIONS = {}\n", "times is missing"),
    ],
)
async def test_a_plugin_that_cannot_be_loaded_is_told_and_costs_no_worker(tmp_path: Path, code: str, told: str) -> None:
    async with pool() as workers:
        pid = await pid_of(workers)

        error = await workers.probe(source_of(multiple(tmp_path, 2, code=code)))

        assert told in (error or "")
        assert await pid_of(workers) == pid
