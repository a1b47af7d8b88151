import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from structlog.testing import LogCapture

from services.runtime.lifecycle import Supervisor
from services.runtime.logs import Log
from services.runtime.metrics import Metrics


@pytest.fixture
async def supervisor(log: Log, metrics: Metrics) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(log=log, metrics=metrics, first_s=0.001)
    running = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0)
    yield supervisor
    await supervisor.stop()
    async with asyncio.timeout(30):
        await running


class Child:
    """Crashes `crashes` times, then runs until it is cancelled."""

    def __init__(self, crashes: int = 0) -> None:
        self.crashes = crashes
        self.starts = 0
        self.begun = asyncio.Event()
        self.settled = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        self.starts += 1
        self.begun.set()
        if self.starts <= self.crashes:
            raise ValueError(f"crash {self.starts}")
        self.settled.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_a_child_that_crashes_is_restarted_and_counted(
    supervisor: Supervisor, metrics: Metrics, captured: LogCapture
) -> None:
    child = Child(crashes=3)

    supervisor.keep("pump", child.run)
    await asyncio.wait_for(child.settled.wait(), 30)

    assert child.starts == 4
    assert metrics.registry.get_sample_value("dinrail_crashes_total", {"task": "pump"}) == 3
    assert [entry["child"] for entry in captured.entries] == ["pump"] * 3
    assert all(entry["exc_info"] for entry in captured.entries)


async def test_a_cancellation_that_nobody_asked_for_is_a_crash(supervisor: Supervisor, metrics: Metrics) -> None:
    """A library let one escape (asyncua's connect did): the device behind it would have been silent for ever."""
    lives: list[int] = []
    again = asyncio.Event()

    async def run() -> None:
        lives.append(len(lives))
        if len(lives) < 3:
            raise asyncio.CancelledError
        again.set()
        await asyncio.Event().wait()

    supervisor.keep("pump", run)
    await asyncio.wait_for(again.wait(), 30)

    assert metrics.registry.get_sample_value("dinrail_crashes_total", {"task": "pump"}) == 2


async def test_one_child_s_crash_touches_no_other(supervisor: Supervisor) -> None:
    broken, sound = Child(crashes=3), Child()

    supervisor.keep("broken", broken.run)
    supervisor.keep("sound", sound.run)
    await asyncio.wait_for(broken.settled.wait(), 30)

    assert sound.starts == 1
    assert not sound.ended.is_set()


async def test_the_waits_between_restarts_grow(supervisor: Supervisor, captured: LogCapture) -> None:
    child = Child(crashes=4)

    supervisor.keep("pump", child.run)
    await asyncio.wait_for(child.settled.wait(), 30)

    waits = [entry["restart_in_s"] for entry in captured.entries]
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]


async def test_a_dropped_child_has_ended(supervisor: Supervisor) -> None:
    child = Child()
    supervisor.keep("pump", child.run)
    await asyncio.wait_for(child.settled.wait(), 30)

    await supervisor.drop("pump")

    assert child.ended.is_set()


async def test_a_cancellation_that_escapes_after_a_group_of_tasks_has_failed_is_a_crash_too(
    supervisor: Supervisor,
) -> None:
    """Such a group leaves its task counted as cancelled (Python before 3.13), as each lost connection does."""
    child = Child()

    async def fail() -> None:
        raise OSError("the connection was lost")

    async def run() -> None:
        if child.starts == 0:
            child.starts = 1
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(fail())
            raise asyncio.CancelledError
        await child.run()

    supervisor.keep("pump", run)

    await asyncio.wait_for(child.settled.wait(), 30)


async def test_a_group_of_tasks_that_has_failed_leaves_nothing_to_the_child_s_next_life(supervisor: Supervisor) -> None:
    """Else each deadline in it is taken for a cancellation by Python 3.11.2, and is a crash again."""
    counted: list[int] = []
    again = asyncio.Event()

    async def fail() -> None:
        raise OSError("the connection was lost")

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        counted.append(task.cancelling())
        if len(counted) < 3:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
        again.set()
        await asyncio.Event().wait()

    supervisor.keep("pump", run)
    await asyncio.wait_for(again.wait(), 30)

    assert counted == [0, 0, 0]


async def test_a_child_that_loses_its_cancellation_is_cancelled_again(log: Log, metrics: Metrics) -> None:
    """As a device does whose connection fails in the moment in which it is to end (Python before 3.13)."""
    child = Child()

    async def run() -> None:
        with suppress(asyncio.CancelledError):
            await child.run()
        await asyncio.Event().wait()

    supervisor = Supervisor(log=log, metrics=metrics, again_s=0.01)
    running = asyncio.create_task(supervisor.run())
    supervisor.keep("pump", run)
    await asyncio.wait_for(child.settled.wait(), 30)

    await asyncio.wait_for(supervisor.drop("pump"), 30)

    assert child.ended.is_set()
    await supervisor.stop()
    await running


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_a_child_that_crashes_as_it_is_dropped_has_ended(
    supervisor: Supervisor, captured: LogCapture, error: type[BaseException]
) -> None:
    begun = asyncio.Event()

    async def run() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise error("at its end")

    supervisor.keep("pump", run)
    await begun.wait()
    begun.clear()

    async with asyncio.timeout(30):
        await supervisor.drop("pump")

    assert [entry["event"] for entry in captured.entries] == ["child_crashed"] * (error is ValueError)
    assert not begun.is_set()


async def test_a_dropped_child_is_not_restarted_while_it_waits_for_its_restart(log: Log, metrics: Metrics) -> None:
    supervisor = Supervisor(log=log, metrics=metrics, first_s=3600)
    running = asyncio.create_task(supervisor.run())
    child = Child(crashes=1)
    supervisor.keep("pump", child.run)
    await asyncio.wait_for(child.begun.wait(), 30)

    await supervisor.drop("pump")
    supervisor.keep("pump", child.run)
    await asyncio.wait_for(child.settled.wait(), 30)

    assert child.starts == 2
    await supervisor.stop()
    await running


async def test_a_name_is_kept_once(supervisor: Supervisor) -> None:
    supervisor.keep("pump", Child().run)

    with pytest.raises(ValueError, match="kept already"):
        supervisor.keep("pump", Child().run)


async def test_a_child_that_returns_is_not_restarted_and_its_name_is_free(supervisor: Supervisor) -> None:
    starts = 0
    returned = asyncio.Event()

    async def run() -> None:
        nonlocal starts
        starts += 1
        returned.set()

    supervisor.keep("pump", run)
    await asyncio.wait_for(returned.wait(), 30)
    for _ in range(5):
        await asyncio.sleep(0)

    assert starts == 1
    supervisor.keep("pump", run)


async def test_children_kept_before_it_runs_start_with_it_and_end_with_it(log: Log, metrics: Metrics) -> None:
    supervisor, child = Supervisor(log=log, metrics=metrics), Child()
    supervisor.keep("pump", child.run)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await child.settled.wait()
        await supervisor.stop()

    assert child.ended.is_set()


async def test_dropping_an_unknown_child_does_nothing(supervisor: Supervisor) -> None:
    await supervisor.drop("nobody")
