"""What starts runs by itself, through a real broker and the whole orchestrator."""

import sqlite3
import time
from contextlib import asynccontextmanager

import pytest
import yaml

from contracts.v1.backfill import BACKFILL
from contracts.v1.event import EVENT, Event, Events
from contracts.v1.frame import FRAME, Frame, Sample
from contracts.v1.pipeline import DIFF_PIPELINE, WORKSPACE, DiffPipeline
from contracts.v1.resend import RESEND, ResendResult
from contracts.v1.run import RunTrigger
from contracts.v1.tag import TAG, TagValue
from plugins.api.document import DocumentError, Fault
from services.orchestrator.database import FILE, Database
from services.orchestrator.errors import TooManyPipelines
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.use_cases import RunOrder, RunPipeline
from tests.integration.gateway_site import listening
from tests.integration.orchestrator_site import orchestrator_process as killed_at_the_end
from tests.integration.orchestrator_site import running_orchestrator
from tests.integration.service_process import service_process
from tests.real_bus import MovedClock, make_bus, running

AT_ONCE = {"out": {"type": "expression", "expression": "1"}}
ECHO = {"out": {"type": "expression", "expression": "x", "inputs": {"x": "trigger.value"}}}


DAY_US = 86_400_000_000
TEN_MINUTES_US = 600_000_000


def slow(duration="200ms"):
    return {"wait": {"type": "delay", "duration": duration}}


class Plant:
    """Publishes as a gateway does, and sees the runs that follow."""

    def __init__(self, bus, listener):
        self.bus = bus
        self.listener = listener
        self._seq = 0

    async def frame(self, value, *, group="fast"):
        self._seq += 1
        sample = Sample(t=1_000_000 + self._seq, v={"level": value})
        await self.bus.publish(
            FRAME, Frame(epoch=1, seq=self._seq, rev="r", samples=[sample]), device="pump", group=group
        )

    def skip(self, frames):
        """So many are never published."""
        self._seq += frames

    async def tag(self, value, q=192, ts=None):
        told = TagValue(value=value, ts=ts or int(time.time() * 1000), q=q, seen=1)
        await self.bus.publish(TAG, told, device="pump", tag="level")

    async def event(self, type_, *, device="servo", version=1):
        event = Event(
            id="0",
            aggregate="device",
            aggregate_id=device,
            scope="plant",
            version=version,
            type=type_,
            t=5,
            data={"n": 1},
        )
        told = Events(owner="gateway", epoch=1, seq=version, events=[event])
        await self.bus.publish(EVENT, told, scope="plant", aggregate="device", id=device)

    def events(self, *types):
        """What was told of runs, in order of their identifiers, which is that of their being accepted."""
        topics = [topic for topic in self.listener.heard if topic.startswith(("event/main/run/", "backfill/event/"))]
        told = [event for topic in topics for message in self.listener.heard[topic] for event in message["events"]]
        once = {event["id"]: event for event in told if event["type"] in types}  # some come out of the journal too
        return sorted(once.values(), key=lambda event: event["aggregate_id"])

    @property
    def begun(self):
        """The triggers of the runs that began."""
        return [event["data"]["trigger"] for event in self.events("run.started")]

    @property
    def outputs(self):
        told = (event["data"]["outputs"] for event in self.events("run.completed"))
        return [outputs["out"] for outputs in told if outputs]

    async def until_runs(self, count, timeout_s=30.0):
        await self.listener.until(lambda: len(self.events("run.completed")) >= count, timeout_s)


@asynccontextmanager
async def plant_of(broker):
    gateway = make_bus(broker, "gateway-bus")
    async with listening(broker) as listener, running(gateway):
        yield Plant(gateway, listener)


@pytest.fixture
async def plant(broker):
    async with plant_of(broker) as standing:
        yield standing


@pytest.fixture
async def orchestrator(broker, tmp_path, plant):
    async with running_orchestrator(broker, tmp_path) as started:
        yield started


def order_of(name):
    return RunOrder(scope=WORKSPACE, pipeline=name, trigger=RunTrigger(kind="command", by="anna"))


def pipeline(trigger, nodes=None, **more):
    content = {"triggers": [trigger], "nodes": nodes or AT_ONCE, **more}
    return {**content, "outputs": {"out": "out.value"}} if "out" in content["nodes"] else content


async def saved(orchestrator, content, name="p"):
    """Returns once the pipeline's triggers listen."""
    await orchestrator.save(name, content)
    await orchestrator.orchestrator.triggers.settled()


def count(orchestrator, outcome, kind):
    return orchestrator.metric("trigger_firings_total", workspace=WORKSPACE, pipeline="p", kind=kind, outcome=outcome)


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


async def test_of_frames_that_come_while_a_run_is_going_the_latest_is_run(plant, orchestrator):
    nodes = {**slow("500ms"), "out": {**AT_ONCE["out"], "after": ["wait"]}}
    await saved(orchestrator, pipeline({"frame": "pump/fast"}, nodes))
    for value in range(10):
        await plant.frame(float(value))
    await plant.until_runs(2)

    assert [trigger["t"] for trigger in plant.begun] == [1_000_001, 1_000_010]
    assert count(orchestrator, "replaced", "frame") == 8


async def test_a_frame_gives_its_values_to_the_nodes(plant, orchestrator):
    nodes = {"out": {"type": "expression", "expression": "v['level']", "inputs": {"v": "trigger.values"}}}
    await saved(orchestrator, pipeline({"frame": "pump/fast"}, nodes))
    await plant.frame(7.5)
    await plant.frame(1.0, group="slow")
    await plant.until_runs(1)

    assert plant.outputs == [7.5]


async def test_each_trigger_gives_its_own_inputs_to_the_runs_that_it_starts(plant, orchestrator):
    nodes = {"out": {"type": "expression", "expression": "x", "inputs": {"x": "inputs.x"}}}
    triggers = [{"frame": "pump/fast", "inputs": {"x": 1}}, {"tag": "pump/level", "inputs": {"x": 2}}]
    content = pipeline(triggers[0], nodes, inputs={"x": {"type": "integer"}})
    await saved(orchestrator, {**content, "triggers": triggers})
    await plant.frame(0.0)
    await plant.until_runs(1)
    await plant.tag(0.0)
    await plant.until_runs(2)

    assert plant.outputs == [1, 2]


async def test_a_tag_runs_the_pipeline_when_it_has_left_the_deadband(plant, orchestrator):
    await saved(orchestrator, pipeline({"tag": "pump/level", "deadband": 0.5}, ECHO))
    for value in (1.0, 1.4, 1.2, 2.0, 2.4, 2.6):
        before = len(plant.events("run.completed"))
        await plant.tag(value)
        if value in {1.0, 2.0, 2.6}:
            await plant.until_runs(before + 1)

    assert plant.outputs == [1.0, 2.0, 2.6]


async def test_a_tag_that_bounces_runs_the_pipeline_once_it_rests(plant, orchestrator):
    await saved(orchestrator, pipeline({"tag": "pump/level", "debounce": "500ms"}, ECHO))
    for value in (1.0, 2.0, 1.0, 2.0, 3.0):
        await plant.tag(value)
    await plant.until_runs(1)

    assert plant.outputs == [3.0]


async def test_a_tag_that_turns_bad_runs_the_pipeline_too(plant, orchestrator):
    nodes = {"out": {"type": "expression", "expression": "q", "inputs": {"q": "trigger.q"}}}
    await saved(orchestrator, pipeline({"tag": "pump/level", "deadband": 100}, nodes))
    await plant.tag(1.0)
    await plant.until_runs(1)
    await plant.tag(None, q=0)
    await plant.until_runs(2)

    assert plant.outputs == [192, 0]


@pytest.mark.parametrize(
    "trigger",
    [
        {"tag": "pump/level"},
        {"frame": "pump/fast"},
        {"event": {"aggregate": "device", "id": "servo", "type": "online"}},
    ],
)
async def test_what_one_pipeline_listens_to_others_may_listen_to_and_read_too(plant, orchestrator, trigger):
    reads = {"level": {"type": "read", "tag": "pump/level", "on_error": "skip"}}
    await saved(orchestrator, pipeline(trigger, reads), "reader")
    await saved(orchestrator, pipeline(trigger))
    await plant.tag(1.0)
    await plant.frame(1.0)
    await plant.event("online")
    await plant.until_runs(2)
    await orchestrator.orchestrator.repository.delete(WORKSPACE, "reader", by="anna", at_ms=1)
    await orchestrator.orchestrator.triggers.settled()
    await plant.tag(2.0)
    await plant.frame(2.0)
    await plant.event("online", version=2)
    await plant.until_runs(3)

    assert len(plant.begun) == 3


async def test_an_event_that_the_filter_lets_through_runs_the_pipeline(plant, orchestrator):
    nodes = {"out": {"type": "expression", "expression": "d['n']", "inputs": {"d": "trigger.data"}}}
    await saved(orchestrator, pipeline({"event": {"aggregate": "device", "id": "servo", "type": "online"}}, nodes))
    await plant.event("offline", version=1)
    await plant.event("online", device="pump", version=2)
    await plant.event("online", version=3)
    await plant.until_runs(1)

    assert plant.outputs == [1]
    assert [trigger["by"] for trigger in plant.begun] == ["device/servo online"]


async def test_with_every_each_frame_is_run_in_order_though_the_line_is_short(plant, orchestrator):
    await saved(
        orchestrator,
        pipeline({"frame": "pump/fast", "deliver": "every"}, slow("20ms"), limits={"runs": 1, "queue": 2}),
    )
    for value in range(40):
        await plant.frame(float(value))
    await plant.until_runs(40)

    assert [trigger["t"] for trigger in plant.begun] == list(range(1_000_001, 1_000_041))
    assert count(orchestrator, "held", "every") > 0


async def test_with_every_the_frames_that_came_while_nobody_was_there_are_run_afterwards(broker, plant, tmp_path):
    content = pipeline({"frame": "pump/fast", "deliver": "every"})
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, content)
        await plant.frame(0.0)
        await plant.until_runs(1)
    for value in range(5):
        await plant.frame(float(value))

    async with running_orchestrator(broker, tmp_path):
        await plant.until_runs(6)

    assert [trigger["t"] for trigger in plant.begun] == list(range(1_000_001, 1_000_007))


async def test_with_every_a_change_of_a_tag_is_not_missed_while_a_run_is_going(plant, orchestrator):
    nodes = {**ECHO, **slow("20ms")}
    await saved(orchestrator, pipeline({"tag": "pump/level", "deliver": "every"}, nodes, limits={"queue": 1}))
    for value in (1.0, 2.0, 2.0, 3.0, 4.0, 5.0):
        await plant.tag(value)
    await plant.until_runs(5)

    assert plant.outputs == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_when_no_place_is_free_the_latest_waits_and_is_run_in_the_end(broker, plant, tmp_path):
    async with running_orchestrator(broker, tmp_path, runs=1, queue=0) as orchestrator:
        await saved(orchestrator, pipeline({"every": "1h"}, slow("1s"), limits={"runs": 1, "queue": 0}), "other")
        await saved(orchestrator, pipeline({"tag": "pump/level"}, ECHO))
        orchestrator.orchestrator.run_pipeline.start(order_of("other"))
        await plant.tag(1.0)
        await plant.tag(2.0)
        await plant.listener.until(lambda: plant.outputs)

    assert plant.outputs == [2.0]
    assert count(orchestrator, "held", "tag") > 0


async def test_a_pipeline_that_was_deleted_or_disabled_is_not_started_any_more(plant, orchestrator):
    await saved(orchestrator, pipeline({"tag": "pump/level"}, ECHO))
    await plant.tag(1.0)
    await plant.until_runs(1)
    await saved(orchestrator, pipeline({"tag": "pump/level"}, ECHO, enabled=False))
    await plant.tag(2.0)
    await saved(orchestrator, pipeline({"tag": "pump/level"}, ECHO))
    await plant.until_runs(2)
    await orchestrator.orchestrator.repository.delete(WORKSPACE, "p", by="anna", at_ms=1)
    await orchestrator.orchestrator.triggers.settled()
    await plant.tag(3.0)
    await saved(orchestrator, pipeline({"tag": "pump/level"}, ECHO), "q")
    await plant.until_runs(3)

    assert plant.outputs == [1.0, 2.0, 3.0]
    assert len(plant.begun) == 3


async def test_a_trigger_that_is_gone_leaves_no_session_at_the_broker(plant, orchestrator):
    content = pipeline({"frame": "pump/fast", "deliver": "every"})
    await saved(orchestrator, content)
    await plant.frame(0.0)
    await plant.until_runs(1)
    await orchestrator.orchestrator.repository.delete(WORKSPACE, "p", by="anna", at_ms=1)
    await orchestrator.orchestrator.triggers.settled()
    await plant.frame(1.0)

    await saved(orchestrator, content)
    await plant.frame(2.0)
    await plant.until_runs(2)

    assert [trigger["t"] for trigger in plant.begun] == [1_000_001, 1_000_003]


async def test_another_version_with_the_same_trigger_goes_on_where_the_one_before_was(plant, orchestrator):
    await saved(orchestrator, pipeline({"tag": "pump/level"}, ECHO))
    await plant.tag(1.0)
    await plant.until_runs(1)
    await saved(orchestrator, pipeline({"tag": "pump/level"}, {"out": {**ECHO["out"], "expression": "x * 10"}}))
    await plant.tag(1.0)
    await plant.tag(2.0)
    await plant.until_runs(2)

    assert plant.outputs == [1.0, 20.0]


async def test_with_every_a_killed_orchestrator_leaves_no_frame_without_a_run_that_was_told(broker, plant, tmp_path):
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(
            first, pipeline({"frame": "pump/fast", "deliver": "every"}, slow("20ms"), limits={"runs": 2, "queue": 2})
        )
    config = tmp_path / "dinrail.yaml"
    settings = {"site": "test", "broker": {"host": "127.0.0.1", "port": broker.port}}
    config.write_text(yaml.safe_dump({**settings, "orchestrator": {"data": "orchestrator"}}))
    every = set(range(1_000_001, 1_000_061))

    def accepted():
        return {event["data"]["trigger"]["t"] for event in plant.events("run.queued", "run.started")}

    def over():
        return {event["aggregate_id"] for event in plant.events("run.completed", "run.failed")}

    for value in range(60):
        await plant.frame(float(value))
    async with service_process("orchestrator", config) as process:
        await plant.listener.until(lambda: len(plant.begun) > 10)
        process.kill()
        await process.wait()
    before = accepted()
    async with service_process("orchestrator", config):
        await plant.listener.until(lambda: accepted() == every)
        runs = {event["aggregate_id"] for event in plant.events("run.queued", "run.started")}
        await plant.listener.until(lambda: over() >= runs)

    assert len(before) < 60


def told(plant, type_, name="p"):
    """The data of events of this type that were told of the pipeline's triggers."""
    messages = plant.listener.heard.get(f"event/main/pipeline/{name}", [])
    return [event["data"] for message in messages for event in message["events"] if event["type"] == type_]


def completed(plant):
    """For each run that came to its own end, the source time that triggered it, in order."""
    ended = {event["aggregate_id"] for event in plant.events("run.completed")}
    started = {event["aggregate_id"]: event["data"]["trigger"]["t"] for event in plant.events("run.started")}
    return sorted(started[run] for run in ended)


MAY_ACT = {
    "never": {"type": "condition", "when": "false"},
    "stroke": {"type": "call", "device": "servo", "function": "home", "after": ["never.then"]},
}


@pytest.mark.parametrize("more", [{}, MAY_ACT], ids=["harmless", "acting"])
async def test_with_every_an_orderly_stop_leaves_no_frame_without_a_completed_run(broker, plant, tmp_path, more):
    content = pipeline(
        {"frame": "pump/fast", "deliver": "every"}, {**slow("20ms"), **more}, limits={"runs": 1, "queue": 20}
    )
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, content)
        for value in range(10):
            await plant.frame(float(value))
        await plant.until_runs(2)
        for value in range(10, 20):  # 200 ms of runs, one after the other: the stop comes before their end
            await plant.frame(float(value))

    async with running_orchestrator(broker, tmp_path):
        await plant.until_runs(20)

    assert completed(plant) == list(range(1_000_001, 1_000_021))


async def test_with_every_a_run_that_may_have_acted_is_told_and_not_repeated_after_a_stop_that_cut_it_short(
    broker, plant, tmp_path
):
    nodes = {**slow("30s"), **MAY_ACT}
    content = pipeline({"frame": "pump/fast", "deliver": "every"}, nodes)
    async with running_orchestrator(broker, tmp_path, drain_runs="100ms") as first:
        await saved(first, content)
        await plant.frame(0.0)
        await plant.listener.until(lambda: plant.begun)
    async with running_orchestrator(broker, tmp_path, drain_runs="100ms") as second:
        await plant.listener.until(lambda: told(plant, "trigger.not_repeated"))
        await plant.frame(1.0)
        await plant.listener.until(lambda: len(plant.begun) == 2)
        assert count(second, "not_repeated", "every") == 1

    assert [data["what"] for data in told(plant, "trigger.not_repeated")] == [["1/1"]]
    assert [trigger["seq"] for trigger in plant.begun] == [1, 2]


async def test_with_every_a_kill_repeats_no_run_that_may_have_acted_and_loses_no_frame(broker, plant, tmp_path):
    nodes = {
        "long": {"type": "condition", "when": "v['level'] > 0", "inputs": {"v": "trigger.values"}},
        "wait": {"type": "delay", "duration": "30s", "after": ["long.then"]},
    }
    content = pipeline({"frame": "pump/fast", "deliver": "every"}, {**nodes, **MAY_ACT})
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, content)
    # So that it is killed before how far the trigger has come is on the disk.
    never = "import services.orchestrator.triggers.progress as progress\nprogress.LINGER_S = 600"
    with killed_at_the_end(broker, tmp_path, first=never):
        for value in (0.0, 1.0, 0.0):
            await plant.frame(value)
        await plant.until_runs(1)
        await plant.listener.until(lambda: len(plant.begun) == 2)
    async with running_orchestrator(broker, tmp_path) as second:
        await plant.listener.until(lambda: told(plant, "trigger.not_repeated"))
        await plant.until_runs(2)
        assert count(second, "not_repeated", "every") == 1

    assert [data["what"] for data in told(plant, "trigger.not_repeated")] == [["1/2"]]
    assert [trigger["seq"] for trigger in plant.begun] == [1, 2, 3]


async def test_with_every_a_harmless_run_that_a_stop_cut_short_is_run_again(broker, plant, tmp_path):
    content = pipeline({"frame": "pump/fast", "deliver": "every"}, slow("30s"))
    for runs in (1, 2):
        async with running_orchestrator(broker, tmp_path, drain_runs="100ms") as started:
            if runs == 1:
                await saved(started, content)
                await plant.frame(0.0)
            await plant.listener.until(lambda runs=runs: len(plant.begun) == runs)

    assert [(trigger["epoch"], trigger["seq"]) for trigger in plant.begun] == [(1, 1), (1, 1)]


def scaled(factor, **more):
    """For each frame, the level times this is published as a tag."""
    calculated = {"type": "expression", "expression": f"v['level'] * {factor}", "inputs": {"v": "trigger.values"}}
    line = {"type": "derive", "tag": "line/scaled", "inputs": {"value": "scaled.value"}}
    return pipeline({"frame": "pump/fast", "deliver": "every"}, {"scaled": calculated, "line": line, **more})


async def test_with_every_a_shadow_runs_for_each_frame_changes_nothing_and_holds_up_none_though_it_hangs(
    broker, plant, tmp_path
):
    def live():
        return [trigger["seq"] for trigger in plant.begun if trigger["kind"] == "frame"]

    async with running_orchestrator(broker, tmp_path, drain_runs="100ms") as started:
        await saved(started, scaled(1))
        await started.save("p", scaled(3), shadow=True)
        for value in (1.0, 2.0, 3.0):
            await plant.frame(value)
        await plant.until_runs(6)
        bus = plant.listener.bus
        diff = await bus.request(DIFF_PIPELINE, DiffPipeline(), user="anna", scope=WORKSPACE, id="p")
        await started.save("p", scaled(5, **slow("30s")), shadow=True)
        for value in (4.0, 5.0, 6.0):
            await plant.frame(value)
        await plant.until_runs(9)
        await plant.listener.until(lambda: plant.listener.last("tag/line/scaled").get("value") == 6.0)

    assert live() == [1, 2, 3, 4, 5, 6]
    assert {value["value"] for value in plant.listener.heard["tag/line/scaled"]} <= {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}
    assert diff.result is not None, diff.error
    assert (diff.result.runs, [(one.what, one.live, one.shadow) for one in diff.result.differences]) == (
        3, [("tag line/scaled", value, 3 * value) for value in (1.0, 2.0, 3.0)],
    )  # fmt: skip


async def test_with_every_what_can_never_be_run_is_told_as_a_dead_letter_and_holds_up_nothing(plant, orchestrator):
    await saved(orchestrator, pipeline({"frame": "pump/fast", "deliver": "every", "inputs": {"n": 1}}))
    await plant.frame(0.0)
    await plant.listener.until(lambda: told(plant, "trigger.refused"))
    await plant.bus.publish(
        FRAME,
        Frame(epoch=2, seq=1, rev="r", samples=[Sample(t=5, v={"level": 1.0})]),
        device="pump",
        group="fast",
    )
    await plant.listener.until(lambda: len(told(plant, "trigger.refused")) == 2)

    assert [data["what"] for data in told(plant, "trigger.refused")] == [["1/1"], ["2/1"]]
    assert "no input 'n'" in told(plant, "trigger.refused")[0]["error"]
    assert count(orchestrator, "refused", "every") == 2


async def test_with_every_a_consumer_that_crashes_loses_no_frame(plant, orchestrator, monkeypatch):
    runs = orchestrator.orchestrator.run_pipeline
    start, crashed = runs.start, []

    def crash_once(order):
        if order.trigger.t == 1_000_002 and not crashed:
            crashed.append(order)
            raise ZeroDivisionError
        return start(order)

    monkeypatch.setattr(runs, "start", crash_once)
    await saved(orchestrator, pipeline({"frame": "pump/fast", "deliver": "every"}, slow("10ms")))
    for value in range(5):
        await plant.frame(float(value))
    await plant.until_runs(4)

    assert completed(plant) == [1_000_001, 1_000_003, 1_000_004, 1_000_005]
    await plant.listener.until(lambda: told(plant, "trigger.refused"))
    (data,) = told(plant, "trigger.refused")
    assert (data["what"], data["error"][:18]) == (["1/2"], "its start crashed;")


async def test_with_every_frames_that_are_missing_are_asked_for_and_what_is_gone_is_told(plant, orchestrator):
    asked = []

    async def resend(delivery):
        asked.append(delivery.payload)
        for seq in (2, 3):
            late = Frame(epoch=1, seq=seq, rev="r", samples=[Sample(t=2_000_000_000_000_000 + seq, v={"level": 0.0})])
            await plant.bus.publish(BACKFILL, late, kind="frame", owner="pump", stream="fast")
        return ResendResult(sending=[(2, 3)], gone=[(4, 4, "trimmed")])

    plant.bus.serve(RESEND, resend, id="pump")
    await plant.bus.settled()
    await saved(orchestrator, pipeline({"frame": "pump/fast", "deliver": "every"}))
    await plant.frame(0.0)
    plant.skip(3)
    await plant.frame(0.0)
    await plant.until_runs(4)
    await plant.listener.until(lambda: told(plant, "trigger.lost"))

    assert [(one.stream, one.epoch, one.ranges) for one in asked] == [("fast", 1, [(2, 4)])]
    assert sorted(trigger["seq"] for trigger in plant.begun) == [1, 2, 3, 5]
    (gap,), (lost,) = told(plant, "trigger.gap"), told(plant, "trigger.lost")
    assert (gap["what"], gap["count"]) == (["1/2-4"], 3)
    assert (lost["what"], lost["error"]) == (["1/4-4"], "trimmed")


@pytest.mark.parametrize("deliver", ["latest", "every"])
async def test_a_restart_without_a_change_of_the_tag_beyond_the_deadband_runs_nothing(broker, plant, tmp_path, deliver):
    content = pipeline({"tag": "pump/level", "deadband": 0.5, "deliver": deliver}, ECHO)
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, content)
        await plant.tag(1.0)
        await plant.until_runs(1)
    await plant.tag(1.4)
    async with running_orchestrator(broker, tmp_path) as second:
        await second.orchestrator.triggers.settled()
        await plant.tag(1.2)
        await plant.tag(2.0)
        await plant.until_runs(2)

    assert plant.outputs == [1.0, 2.0]


async def test_a_change_while_the_orchestrator_was_away_runs_the_pipeline_at_the_start(broker, plant, tmp_path):
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, pipeline({"tag": "pump/level"}, ECHO))
        await plant.tag(1.0)
        await plant.until_runs(1)
    await plant.tag(2.0)
    async with running_orchestrator(broker, tmp_path):
        await plant.until_runs(2)

    assert plant.outputs == [1.0, 2.0]


async def test_triggers_that_the_disk_refused_are_made_when_it_takes_them(plant, orchestrator, monkeypatch):
    sessions = orchestrator.orchestrator.triggers._use.sessions
    begun, refused = sessions.begun, []

    async def refuse_once(*given):
        if not refused:
            refused.append(given)
            raise sqlite3.OperationalError("disk I/O error")
        return await begun(*given)

    monkeypatch.setattr(sessions, "begun", refuse_once)
    both = [{"tag": "pump/level"}, {"frame": "pump/fast", "deliver": "every"}]
    await saved(orchestrator, {**pipeline(both[0]), "triggers": both})
    await plant.frame(0.0)
    await plant.tag(1.0)
    await plant.until_runs(2)

    assert refused
    assert sorted(trigger["kind"] for trigger in plant.begun) == ["frame", "tag"]


async def test_what_waits_for_a_pipeline_that_cannot_be_read_is_kept(broker, plant, tmp_path, monkeypatch):
    content = pipeline({"frame": "pump/fast", "deliver": "every"})
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, content)
        await plant.frame(0.0)
        await plant.until_runs(1)
    await plant.frame(1.0)

    def unreadable(self, text):
        raise DocumentError([Fault("p", 1, "nodes", "of another release", "upgrade")])

    with monkeypatch.context() as patched:
        patched.setattr(Definitions, "of", unreadable)
        async with running_orchestrator(broker, tmp_path) as second:
            await second.orchestrator.triggers.settled()
            assert any(line["event"] == "triggers_unusable" for line in second.log.lines)
    async with running_orchestrator(broker, tmp_path):
        await plant.until_runs(2)

    assert completed(plant) == [1_000_001, 1_000_002]


async def test_pipelines_whose_failures_start_one_another_are_stopped_and_that_is_told(plant, orchestrator):
    fails = {"bad": {"type": "expression", "expression": "1 / 0"}}
    await saved(orchestrator, pipeline({"event": {"aggregate": "run", "type": "run.failed"}}, fails))
    await saved(orchestrator, {"nodes": fails}, "first")
    orchestrator.orchestrator.run_pipeline.start(order_of("first"))
    await plant.listener.until(lambda: told(plant, "trigger.endless"))

    assert len(plant.begun) == 1 + 5
    assert count(orchestrator, "endless", "event") == 1


@pytest.mark.parametrize("more", [{}, MAY_ACT], ids=["harmless", "acting"])
async def test_with_every_a_version_with_other_limits_runs_no_frame_twice_that_was_in_line(plant, orchestrator, more):
    trigger, nodes = {"frame": "pump/fast", "deliver": "every"}, {**slow("200ms"), **more}
    await saved(orchestrator, pipeline(trigger, nodes, limits={"runs": 1, "queue": 20}))
    for value in range(6):
        await plant.frame(float(value))
    await plant.listener.until(lambda: len(plant.events("run.queued")) == 5)
    await saved(orchestrator, pipeline(trigger, nodes, limits={"runs": 2, "queue": 20}))
    await plant.frame(9.0)
    await plant.listener.until(lambda: 1_000_007 in completed(plant))

    assert completed(plant) == list(range(1_000_001, 1_000_008))
    assert not told(plant, "trigger.not_repeated")


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


async def test_with_every_a_tag_that_goes_back_to_a_value_whose_run_a_stop_cut_short_has_changed(
    broker, plant, tmp_path
):
    nodes = {
        "slow": {"type": "condition", "when": "x == 2.0", "inputs": {"x": "trigger.value"}},
        "wait": {"type": "delay", "duration": "30s", "after": ["slow.then"]},
    }
    content = pipeline({"tag": "pump/level", "deliver": "every"}, nodes, limits={"runs": 3})
    async with running_orchestrator(broker, tmp_path, drain_runs="100ms") as first:
        await saved(first, content)
        for value in (2.0, 3.0):
            await plant.tag(value)
        await plant.until_runs(1)
    async with running_orchestrator(broker, tmp_path, drain_runs="100ms"):
        await plant.tag(2.0)
        await plant.listener.until(lambda: len(plant.begun) == 4)


@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_change_that_waits_for_its_run_when_the_orchestrator_stops_is_run_at_the_next_start(
    broker, plant, tmp_path, eventually, when
):
    nodes = {**ECHO, **slow("500ms")}
    async with running_orchestrator(broker, tmp_path) as first:
        await saved(first, pipeline({"tag": "pump/level"}, nodes))
        await plant.tag(1.0)
        await plant.listener.until(lambda: plant.begun)
        if when == "during":
            await first.orchestrator.engine.stop()
        for value in (2.0, 3.0):  # the second takes the place of the first, which shows that it came
            await plant.tag(value)
        await eventually(lambda: count(first, "replaced", "tag") == 1)
    async with running_orchestrator(broker, tmp_path):
        await plant.listener.until(lambda: 3.0 in plant.outputs)
