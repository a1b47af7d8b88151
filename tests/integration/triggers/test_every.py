"""Triggers that miss nothing (`deliver: every`), whoever stops, crashes or is killed."""

import pytest
import yaml

from contracts.v1.backfill import BACKFILL
from contracts.v1.frame import FRAME, Frame, Sample
from contracts.v1.pipeline import DIFF_PIPELINE, WORKSPACE, DiffPipeline
from contracts.v1.resend import RESEND, ResendResult
from tests.integration.orchestrator_site import orchestrator_process as killed_at_the_end
from tests.integration.orchestrator_site import running_orchestrator
from tests.integration.service_process import service_process
from tests.integration.triggers.plant import ECHO, MAY_ACT, completed, count, pipeline, saved, slow, told


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
