"""What is due is fired, kept and found again, by a clock that tests set, with a real database."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog

from services.orchestrator.database import FILE, Database
from services.orchestrator.definition.schedule import Cron, Interval
from services.orchestrator.triggers import timekeeper
from services.orchestrator.triggers.timekeeper import DueTimes, Timekeeper
from tests.unit.runtime.manual_clock import ManualClock

HOUR = 3_600_000_000
HOURLY = Cron.of("0 * * * *")
"""Due at whole hours."""


class Watch:
    """The due times that were fired and those that were skipped."""

    def __init__(self, keeper, key="p"):
        self.keeper = keeper
        self.key = key
        self.fired = []
        self.skipped = []

    async def add(self, schedule=HOURLY, missed="once", fire=None):
        await self.keeper.add(
            self.key, schedule, missed=missed, kept=True, fire=fire or self.fired.append, skip=self.skipped.append
        )


@asynccontextmanager
async def at_work(keeper):
    task = asyncio.create_task(keeper.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def database(tmp_path):
    async with Database(tmp_path / FILE) as opened:
        yield opened


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(timekeeper, "LOOK_S", 0.01)


@pytest.fixture
def clock():
    clock = ManualClock()
    clock.wall_us = 100 * HOUR + 1
    return clock


def new_keeper(database, clock):
    """As after a start."""
    return Timekeeper(due_times=DueTimes(database=database), clock=clock, log=structlog.get_logger())


async def test_a_time_whose_run_never_began_is_made_up_for_after_a_restart(database, clock, eventually):
    first = Watch(new_keeper(database, clock))
    await first.add()
    clock.wall_us = 101 * HOUR
    async with at_work(first.keeper):
        await eventually(lambda: first.fired == [101 * HOUR])
    clock.wall_us += 60_000_000

    again = Watch(new_keeper(database, clock))
    await again.add()
    async with at_work(again.keeper):
        await eventually(lambda: again.fired == [101 * HOUR])
        await again.keeper.done("p", 101 * HOUR)

    last = Watch(new_keeper(database, clock))
    await last.add()
    async with at_work(last.keeper):
        await last.keeper.done("other", 0)
    assert last.fired == []


async def test_a_time_that_was_fired_is_not_fired_again_for_a_new_version_while_it_waits_for_its_run(
    database, clock, eventually
):
    watch = Watch(new_keeper(database, clock))
    await watch.add()
    clock.wall_us = 101 * HOUR
    async with at_work(watch.keeper):
        await eventually(lambda: watch.fired == [101 * HOUR])
        await watch.keeper.remove("p")
        await watch.add()
        clock.wall_us = 102 * HOUR
        await watch.add()
        await eventually(lambda: len(watch.fired) == 2)

    assert watch.fired == [101 * HOUR, 102 * HOUR]


async def test_what_was_missed_and_is_skipped_is_told_once_also_over_a_restart(database, clock, eventually):
    first = Watch(new_keeper(database, clock))
    await first.add(missed="skip")
    clock.wall_us = 103 * HOUR + 60_000_000
    again = Watch(new_keeper(database, clock))
    await again.add(missed="skip")
    async with at_work(again.keeper):
        await eventually(lambda: again.skipped == [103 * HOUR])
        await again.keeper.done("other", 0)  # behind what it has written itself

    last = Watch(new_keeper(database, clock))
    await last.add(missed="skip")
    async with at_work(last.keeper):
        await last.keeper.done("other", 0)
    assert (first.fired, again.fired, last.fired, last.skipped) == ([], [], [], [])


async def test_a_pipeline_that_goes_while_another_is_skipped_costs_no_third_its_due_time(database, clock, eventually):
    keeper = new_keeper(database, clock)
    skipped, gone, due = Watch(keeper, "a"), Watch(keeper, "b"), Watch(keeper, "c")
    await skipped.add(missed="skip")
    await gone.add()
    await due.add(Interval(HOUR))
    clock.wall_us = 101 * HOUR + 60_000_000

    def skip(_):
        task = asyncio.get_running_loop().create_task(keeper.remove("b"))
        removals.append(task)

    removals = []
    await keeper.add("a", HOURLY, missed="skip", kept=True, fire=skipped.fired.append, skip=skip)
    async with at_work(keeper):
        await eventually(lambda: due.fired or due.skipped)
        await asyncio.gather(*removals)

    assert gone.fired == []
    assert due.fired == [101 * HOUR]


async def test_one_whose_firing_crashes_costs_no_other_its_due_time(database, clock, eventually):
    keeper = new_keeper(database, clock)
    broken, due = Watch(keeper, "a"), Watch(keeper, "b")

    def crash(_):
        raise ZeroDivisionError

    await broken.add(fire=crash)
    await due.add()
    clock.wall_us = 101 * HOUR
    async with at_work(keeper) as task:
        await asyncio.wait([task])
    assert isinstance(task.exception(), ZeroDivisionError)
    async with at_work(keeper):  # as its supervisor does
        await eventually(lambda: due.fired == [101 * HOUR])
