"""Runs looked back at over a real broker: gone through again, and a new version tried in the shadow of the live one."""

import asyncio
from pathlib import Path
from typing import Any

from contracts.v1.device import ValueType
from contracts.v1.pipeline import DIFF_PIPELINE, WORKSPACE, DiffPipeline
from contracts.v1.run import REPLAY_RUN, ReplayRun
from contracts.v1.tag import TAG, TagValue
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.orchestrator.settings import OrchestratorLimits
from services.runtime.settings import Rate
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_devices import pump_plant
from tests.integration.test_orchestrator_limits import waiting
from tests.real_broker import Broker
from tests.real_bus import make_bus, running


def control(factor: int) -> dict[str, Any]:
    return {
        "inputs": {"batch": {"type": "array", "default": [1, 2]}},
        "nodes": {
            "level": {"type": "read", "tag": "pump/level", "cache": "1h"},
            "each": {
                "type": "for_each", "items": "inputs.batch", "inputs": {"k": "level.value"}, "output": "wait.value",
                "nodes": {
                    "rest": {"type": "delay", "duration": "5ms"},
                    "wait": {"type": "expression", "expression": "x * k",
                             "inputs": {"x": "item.value", "k": "outer.k"}, "after": ["rest"]},
                },
            },
            "sum": {"type": "expression", "expression": f"sum(xs) * {factor}", "inputs": {"xs": "each.values"}},
            "line": {"type": "derive", "tag": "pump-line/sum", "inputs": {"value": "sum.value"}},
        },
        "outputs": {"sum": "sum.value"},
    }  # fmt: skip


def shadow_runs(listener: Listener) -> list[dict[str, Any]]:
    """How the runs of shadows stand."""
    states = [listener.last(topic) for topic in tuple(listener.heard) if topic.startswith("run/")]
    return [state for state in states if state.get("shadow")]


async def test_a_run_comes_out_the_same_when_it_is_gone_through_again(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")
    client.retain(TAG, TagValue(value=10, ts=5, q=192, seen=5), device="pump", tag="level")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("control", control(1))
        await site.save("slow", waiting(timeout="50ms"))
        done, failed = await run_pipeline(client, "control"), await run_pipeline(client, "slow")
        assert done.result is not None, done.error
        assert failed.error is not None
        outcomes = [
            await client.request(REPLAY_RUN, ReplayRun(), user="anna", scope=WORKSPACE, id=str(run))
            for run in (done.result.run, failed.error.detail["run"])
        ]

    assert done.result.outputs == {"sum": 30}
    for outcome in outcomes:
        assert outcome.result is not None, outcome.error
        assert (outcome.result.same, outcome.result.differences) == (True, [])
        assert outcome.result.events > 3


async def test_a_shadow_runs_beside_the_live_version_changes_nothing_and_tells_what_it_would_have_done(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    client.retain(TAG, TagValue(value=10, ts=5, q=192, seen=5), device="pump", tag="level")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("control", control(1))
        none = await client.request(DIFF_PIPELINE, DiffPipeline(), user="anna", scope=WORKSPACE, id="control")
        await site.save("control", control(3), shadow=True)
        done = await run_pipeline(client, "control")
        assert done.result is not None, done.error
        await listener.until(lambda: [state["state"] for state in shadow_runs(listener)] == ["done"])
        outcome = await client.request(DIFF_PIPELINE, DiffPipeline(), user="anna", scope=WORKSPACE, id="control")

    assert none.error is not None
    assert none.error.code == "not_found"
    assert [value["value"] for value in listener.heard["tag/pump-line/sum"]] == [30]
    assert outcome.result is not None, outcome.error
    diff = outcome.result
    assert (diff.version, diff.shadow, diff.runs) == (1, 2, 1)
    found = {difference.what: (difference.live, difference.shadow) for difference in diff.differences}
    assert found["tag pump-line/sum"] == (30, 90)
    assert found.keys() == {"end", "tag pump-line/sum"}


def follow(factor: int) -> dict[str, Any]:
    """For each frame, the level times this is written as the speed, and is an alarm beyond 50."""
    level = {"values": "trigger.values"}
    return {
        "triggers": [{"frame": "pump/fast"}],
        "nodes": {
            "wanted": {"type": "expression", "expression": f"values['level'] * {factor}", "inputs": level},
            "set": {"type": "write", "tag": "pump/speed", "inputs": {"value": "wanted.value"}},
            "fast": {"type": "alarm", "alarm": "too-fast", "when": "x > 50", "inputs": {"x": "wanted.value"},
                     "text": "Too fast"},
        },
    }  # fmt: skip


async def test_the_shadow_of_a_pipeline_that_frames_start_writes_to_no_device_and_raises_no_alarm(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    def written() -> list[float]:
        heard = (event for message in listener.heard["event/plant/device/pump"] for event in message["events"])
        return [event["data"]["value"] for event in heard if event["type"] == "write.done"]

    unit.set_value("holding:30", ValueType.FLOAT32, 21.0)
    client = make_bus(broker, "anna-console")
    async with pump_plant(broker, tmp_path, plc, client) as (listener, site):
        await site.save("follow", follow(1))
        await site.save("follow", follow(3), shadow=True)
        await listener.until(lambda: [state["state"] for state in shadow_runs(listener)].count("done") >= 3)
        outcome = await client.request(DIFF_PIPELINE, DiffPipeline(), user="anna", scope=WORKSPACE, id="follow")
        await listener.until(written)

    assert outcome.result is not None, outcome.error
    found = {difference.what: (difference.live, difference.shadow) for difference in outcome.result.differences}
    assert outcome.result.runs >= 2
    assert found == {"write pump/speed": (21.0, 63.0), "alarm too-fast": (False, True)}
    assert set(written()) == {21.0}
    assert unit.value("holding:10", ValueType.FLOAT32) == 21.0
    assert "active_unacked" not in {told["state"] for told in listener.heard["alarm/main/follow/too-fast"]}


async def test_what_a_cached_node_gave_is_used_again_for_its_time_and_said_to_be(
    broker: Broker, tmp_path: Path
) -> None:
    def read(cache: str) -> dict[str, Any]:
        return {"type": "read", "tag": "pump/level", "cache": cache}

    def of_node(run: str, node: str) -> list[dict[str, Any]]:
        told = [event for message in listener.heard[f"event/main/run/{run}"] for event in message["events"]]
        return [event for event in told if event["type"] == "node.completed" and event["data"]["node"] == node]

    content = {
        "nodes": {"long": read("1h"), "short": read("200ms")},
        "outputs": {"long": "long.value", "short": "short.value"},
    }
    client = make_bus(broker, "anna-console")
    client.retain(TAG, TagValue(value=10, ts=5, q=192, seen=5), device="pump", tag="level")
    async with (
        listening(broker) as listener,
        running_orchestrator(broker, tmp_path, limits=OrchestratorLimits(acts=Rate(rate=10_000, burst=10_000))) as site,
        running(client),
    ):
        await site.save("levels", content)
        runs = [await run_pipeline(client, "levels")]
        client.retain(TAG, TagValue(value=99, ts=6, q=192, seen=6), device="pump", tag="level")
        await listener.until(lambda: listener.last("tag/pump/level")["value"] == 99)
        async with asyncio.timeout(30):
            while runs[-1].result and runs[-1].result.outputs == {"long": 10, "short": 10}:
                runs.append(await run_pipeline(client, "levels"))
        first, last = [str(runs[at].result.run) for at in (0, -1) if runs[at].result]
        await listener.until(lambda: of_node(first, "short") and of_node(last, "short"))

    assert runs[-1].result is not None, runs[-1].error
    assert runs[-1].result.outputs == {"long": 10, "short": 99}
    assert of_node(last, "long")[0]["data"]["cached"] is True
    assert "cached" not in of_node(last, "short")[0]["data"]
    assert of_node(last, "short")[0]["t"] - of_node(first, "short")[0]["t"] > 190_000, "not before its time is over"
