"""What starts runs by itself, through a real broker and the whole orchestrator."""

import sqlite3

import pytest

from contracts.v1.pipeline import WORKSPACE
from plugins.api.document import DocumentError, Fault
from services.orchestrator.pipelines.definitions import Definitions
from tests.integration.orchestrator_site import running_orchestrator
from tests.integration.triggers.plant import AT_ONCE, ECHO, completed, count, order_of, pipeline, saved, slow, told


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
