"""Triggers by the clock: intervals and the calendar."""

import pytest

from services.orchestrator.database import FILE, Database
from services.orchestrator.errors import TooManyPipelines
from services.orchestrator.use_cases import RunPipeline
from tests.integration.orchestrator_site import running_orchestrator
from tests.integration.triggers.plant import count, pipeline, saved, slow, told
from tests.real_bus import MovedClock

DAY_US = 86_400_000_000
TEN_MINUTES_US = 600_000_000


def clock_after_noon():
    """At 12:01 UTC, whatever time of the day it is: no time of a schedule is nearer than minutes."""
    clock = MovedClock()
    clock.advance(DAY_US / 1e6 - clock.now_us() % DAY_US / 1e6 + 12 * 3600 + 60)
    return clock


async def test_an_interval_runs_at_the_times_of_its_grid(plant, orchestrator):
    await saved(orchestrator, pipeline({"every": "100ms"}))
    await plant.until_runs(3)

    times = [trigger["t"] for trigger in plant.begun]
    assert {t % 100_000 for t in times} == {0}
    assert len(set(times)) == len(times)
    assert plant.begun[0]["kind"] == "every"


async def test_an_interval_shorter_than_its_run_leaves_out_what_it_cannot_do(plant, orchestrator):
    await saved(orchestrator, pipeline({"every": "20ms"}, slow("100ms")))
    await plant.until_runs(3)

    assert count(orchestrator, "replaced", "every") > 0
    assert len(plant.events("run.queued")) == 0


async def test_cron_runs_at_its_own_time_by_the_clock_of_its_zone(broker, plant, tmp_path):
    clock = clock_after_noon()
    async with running_orchestrator(broker, tmp_path, clock=clock) as started:
        await saved(started, pipeline({"cron": "0 6 * * *", "zone": "Asia/Kolkata", "missed": "once"}))
        first_us = clock.now_us() // DAY_US * DAY_US + DAY_US + 30 * 60_000_000  # 06:00 in Kolkata is 00:30 UTC
        for runs, (due_us, before_s) in enumerate([(first_us, 1.2), (first_us + DAY_US, 0.1)], 1):
            clock.advance((due_us - clock.now_us()) / 1e6 - before_s)
            await plant.until_runs(runs)

    runs = plant.events("run.started")
    assert [(run["data"]["trigger"]["kind"], run["data"]["trigger"]["t"]) for run in runs] == [
        ("cron", first_us), ("cron", first_us + DAY_US),
    ]  # fmt: skip
    assert all(run["t"] >= run["data"]["trigger"]["t"] for run in runs), "none before its time"


@pytest.mark.parametrize("missed", ["once", "skip"])
async def test_of_the_times_at_which_nothing_ran_the_last_is_made_up_for_or_skipped_and_told(
    broker, plant, tmp_path, missed
):
    clock = clock_after_noon()
    async with running_orchestrator(broker, tmp_path, clock=clock) as first:
        await saved(first, pipeline({"cron": "*/10 * * * *", "missed": missed}))
    last_us = (clock.now_us() // TEN_MINUTES_US + 12) * TEN_MINUTES_US
    clock.advance((last_us - clock.now_us()) / 1e6 + 300)
    async with running_orchestrator(broker, tmp_path, clock=clock) as second:
        await plant.listener.until(lambda: plant.events("run.completed") or told(plant, "trigger.missed"))
        skipped = count(second, "missed", "cron")
    async with running_orchestrator(broker, tmp_path, clock=clock) as third:
        await third.orchestrator.triggers.settled()
        clock.advance((last_us + TEN_MINUTES_US - clock.now_us()) / 1e6)
        await plant.until_runs(1 + (missed == "once"))

    missed_ones = [last_us] if missed == "once" else []
    assert [trigger["t"] for trigger in plant.begun] == [*missed_ones, last_us + TEN_MINUTES_US]
    assert skipped == (missed == "skip")
    assert [data["what"] for data in told(plant, "trigger.missed")] == ([] if missed == "once" else [[str(last_us)]])


async def test_a_time_of_the_calendar_that_waits_for_a_place_is_run_though_a_new_version_is_saved_meanwhile(
    broker, plant, tmp_path, monkeypatch, eventually
):
    content, start, full = pipeline({"cron": "*/10 * * * *", "missed": "once"}), RunPipeline.start, [True]

    def crowded(self, order):
        if full:
            raise TooManyPipelines("every place is taken")
        return start(self, order)

    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, content)
    async with Database(tmp_path / "orchestrator" / FILE) as database:
        await database.transaction(lambda sql: sql.execute("UPDATE due SET last = last - 7200000000"))
    monkeypatch.setattr(RunPipeline, "start", crowded)
    async with running_orchestrator(broker, tmp_path) as second:
        await eventually(lambda: count(second, "held", "cron"))
        await saved(second, {**content, "limits": {"runs": 2}})
        full.clear()
        await plant.until_runs(1)

    assert len(plant.begun) == 1
