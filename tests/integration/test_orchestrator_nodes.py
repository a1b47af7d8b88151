"""What a node does when others fail it, loops, and outputs used again: over a real broker, gateway, compute service."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.command import REPLY, Command
from contracts.v1.device import ValueType
from contracts.v1.pipeline import RUN_PIPELINE, SAVE_PIPELINE, WORKSPACE, SavePipeline
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.compute_site import serving
from tests.integration.gateway_site import Listener, listening, running_gateway
from tests.integration.ledger import online
from tests.integration.orchestrator_site import orchestrator_process, run_pipeline, running_orchestrator
from tests.integration.test_gateway_calls import servo
from tests.integration.test_orchestrator_devices import pump_plant
from tests.integration.test_orchestrator_limits import types, waiting
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus, running

AWAY = {"type": "read", "tag": "nowhere/level", "source": "device", "timeout": "100ms"}
"""A read that nobody answers."""


def events(listener: Listener, run: str, type_: str) -> list[dict[str, Any]]:
    """The data of the run's events of this type."""
    heard = (event for message in listener.heard[f"event/main/run/{run}"] for event in message["events"])
    return [event["data"] for event in heard if event["type"] == type_]


async def ended(listener: Listener, run: str) -> None:
    await listener.until(lambda: types(listener, run)[-1:] in (["run.completed"], ["run.failed"]))


async def test_a_node_that_nobody_answers_is_tried_again_and_then_skipped_or_gone_on_without(
    broker: Broker, tmp_path: Path
) -> None:
    content = {
        "nodes": {
            "tried": {**AWAY, "timeout": "30ms", "retry": {"tries": 4, "first": "20ms", "factor": 3},
                      "on_error": "default", "default": {"value": 7, "q": 0, "t": 0}},
            "left-out": {**AWAY, "retry": {"tries": 1}, "on_error": "skip"},
            "sum": {"type": "expression", "expression": "x + 1", "inputs": {"x": "tried.value"}},
            "never": {"type": "expression", "expression": "x", "inputs": {"x": "left-out.value"}},
        },
        "outputs": {"sum": "sum.value", "never": "never.value"},
    }  # fmt: skip
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("bear", content)
        await site.save("bare", {"nodes": {"read": {**AWAY, "retry": {"tries": 1}}}})
        done, failed = await run_pipeline(client, "bear"), await run_pipeline(client, "bare")
        assert done.result is not None, done.error
        run = done.result.run
        await ended(listener, run)

    assert done.result.outputs == {"sum": 8, "never": None}
    assert [(data["node"], data["tries"], data["in_s"]) for data in events(listener, run, "node.retried")] == [
        ("tried", 1, pytest.approx(0.02)), ("tried", 2, pytest.approx(0.06)), ("tried", 3, pytest.approx(0.18)),
    ]  # fmt: skip
    assert {data["error"]["code"] for data in events(listener, run, "node.retried")} == {"timeout"}
    heard = [event for message in listener.heard[f"event/main/run/{run}"] for event in message["events"]]
    ends = [event["t"] / 1e6 for event in heard if event["data"].get("node") == "tried"]
    waits = [later - earlier for earlier, later in pairwise(ends[-4:])]
    assert [wait > least for wait, least in zip(waits, (0.019, 0.059, 0.179), strict=True)] == [True] * 3
    assert {data["node"]: "error" in data for data in events(listener, run, "node.skipped")} == {
        "left-out": True, "never": False,
    }  # fmt: skip
    (went_on,) = [data for data in events(listener, run, "node.completed") if data["node"] == "tried"]
    assert (went_on["outputs"]["value"], went_on["error"]["code"]) == (7, "timeout")
    assert failed.error is not None
    assert (failed.error.code, failed.error.detail["node"]) == ("timeout", "read")


async def test_a_loop_repeats_until_its_condition_is_false_and_a_branch_is_taken_by_what_came_of_it(
    broker: Broker, tmp_path: Path
) -> None:
    content: dict[str, Any] = {
        "nodes": {
            "count": {
                "type": "while", "when": "n < 3", "state": {"n": 0}, "next": {"n": "more.value"},
                "nodes": {
                    "rest": {"type": "delay", "duration": "2ms"},
                    "more": {"type": "expression", "expression": "n + 1", "inputs": {"n": "state.n"},
                             "after": ["rest"]},
                },
            },
            "enough": {"type": "condition", "when": "n == 3", "inputs": {"n": "count.n"}},
            "yes": {"type": "derive", "tag": "line/n", "inputs": {"value": "count.n"}, "after": ["enough.then"]},
            "no": {"type": "derive", "tag": "line/none", "inputs": {"value": "count.n"}, "after": ["enough.else"]},
        },
        "outputs": {"n": "count.n", "rounds": "count.rounds"},
    }  # fmt: skip
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("count", content)
        await site.save("endless", {"nodes": {"count": {**content["nodes"]["count"], "when": "n >= 0", "most": 5}}})
        done, endless = await run_pipeline(client, "count"), await run_pipeline(client, "endless")
        assert done.result is not None, done.error
        assert endless.error is not None
        run = str(endless.error.detail["run"])
        await ended(listener, run)
        await ended(listener, done.result.run)
        await listener.until(lambda: listener.last("tag/line/n").get("value") == 3)

    assert done.result.outputs == {"n": 3, "rounds": 3}
    assert not listener.heard["tag/line/none"]
    rounds = [data["node"] for data in events(listener, done.result.run, "node.completed") if "more" in data["node"]]
    assert rounds == ["count[0].more", "count[1].more", "count[2].more"]
    assert "5 rounds" in endless.error.message
    assert sum(data["node"].endswith(".more") for data in events(listener, run, "node.completed")) == 5


async def test_a_write_that_was_not_answered_in_time_is_done_again_if_the_pipeline_says_so(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    write = {"type": "write", "tag": "pump/speed", "constants": {"value": 30.0}, "timeout": "200ms",
             "retry": {"tries": 20, "first": "500ms", "factor": 1}}  # fmt: skip
    client = make_bus(broker, "anna-console")
    async with pump_plant(broker, tmp_path, plc, client) as (listener, site):
        await site.save("set", {"nodes": {"set": write}, "outputs": {"held": "set.read_back"}})
        unit.silent = True
        accepted = await run_pipeline(client, "set", wait=False)
        assert accepted.result is not None, accepted.error
        run = accepted.result.run
        await listener.until(lambda: events(listener, run, "node.retried"))
        unit.silent = False
        await ended(listener, run)

    (done,) = events(listener, run, "run.completed")
    assert done["outputs"] == {"held": 30.0}
    assert unit.value("holding:10", ValueType.FLOAT32) == 30.0
    assert events(listener, run, "node.retried")[0]["error"]["code"] in {"timeout", "device_unavailable"}


def home_after(seconds: str) -> dict[str, Any]:
    """Runs `inner`, which calls the servo, after so long."""
    return {
        "nodes": {
            "rest": {"type": "delay", "duration": seconds},
            "sub": {"type": "pipeline", "pipeline": "inner", "after": ["rest"]},
            "where": {"type": "expression", "expression": "x + 50", "inputs": {"x": "sub.position"}},
        },
        "outputs": {"where": "where.value"},
    }


async def test_a_call_whose_outputs_are_used_again_takes_none_of_those_that_were_held_back_in_a_shadow(
    broker: Broker, tmp_path: Path
) -> None:
    inner = {
        "nodes": {"home": {"type": "call", "device": "servo", "function": "home", "cache": "1h"}},
        "outputs": {"position": "home.position"},
    }
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"servo": servo()}),
        running_orchestrator(broker, tmp_path) as site,
        running(client),
    ):
        await online(listener, "servo")
        await site.save("inner", inner)
        await site.save("outer", home_after("300ms"))
        await site.save("outer", home_after("1ms"), shadow=True)  # its call is held back first
        outcomes = [await run_pipeline(client, "outer") for _ in range(2)]
        calls = [event for m in listener.heard["event/plant/device/servo"] for event in m["events"]]

    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [outcome.result.outputs for outcome in outcomes if outcome.result] == [{"where": 50.0}] * 2
    assert [event["type"] for event in calls].count("call.done") == 1, "the second was not done anew"


async def test_what_a_function_gave_is_used_again_for_the_same_inputs_alone(broker: Broker, tmp_path: Path) -> None:
    content = {
        "inputs": {"x": {"type": "number"}},
        "nodes": {"echo": {"type": "compute", "function": "echo", "inputs": {"x": "inputs.x"}, "cache": "1h"}},
        "outputs": {"x": "echo.x"},
    }
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        serving(broker, tmp_path),
        running_orchestrator(broker, tmp_path) as site,
        running(client),
    ):
        await site.save("echo", content)
        outcomes = [await run_pipeline(client, "echo", {"x": x}) for x in (1.5, 1.5, 2.5)]
        runs = [str(outcome.result.run) for outcome in outcomes if outcome.result]
        for run in runs:
            await ended(listener, run)

    assert [outcome.result.outputs for outcome in outcomes if outcome.result] == [{"x": 1.5}, {"x": 1.5}, {"x": 2.5}]
    cached = [events(listener, run, "node.completed")[0].get("cached", False) for run in runs]
    assert cached == [False, True, False]
    given = [events(listener, run, "node.executing")[0]["inputs"] for run in runs]
    assert given == [{"x": 1.5}, {"x": 1.5}, {"x": 2.5}]


async def send(
    listener: Listener, command: Command[Any, Any], name: str, payload: bytes = b"{}", *, number: bytes = b"7"
) -> None:
    """A command of anna's, each time as the same message."""
    await listener.bus._link.send(
        command.build(site=SITE, user="anna", scope=WORKSPACE, id=name),
        payload,
        kind=command.name,
        retain=False,
        expiry_s=60,
        response_topic=REPLY.build(site=SITE, user="anna", client="console"),
        correlation=number,
    )


async def test_a_run_command_that_comes_again_starts_no_other_run_also_after_a_kill(
    broker: Broker, tmp_path: Path
) -> None:
    replies, waits = "reply/anna/console", b'{"wait":true}'
    async with listening(broker) as listener:
        async with running_orchestrator(broker, tmp_path) as site:
            await site.save("slow", waiting())

        def runs() -> set[str]:
            return {topic.rpartition("/")[2] for topic in listener.heard if topic.startswith("event/main/run/")}

        with orchestrator_process(broker, tmp_path):
            await listener.until(lambda: listener.last("service/orchestrator/orchestrator").get("state") == "online")
            for count in (1, 2):
                await send(listener, RUN_PIPELINE, "slow")
                await listener.until(lambda count=count: len(listener.heard[replies]) == count)
            await send(listener, RUN_PIPELINE, "slow", waits, number=b"8")
            await listener.until(lambda: len(runs()) == 2)
        before = runs()
        async with running_orchestrator(broker, tmp_path) as again:
            await listener.until(lambda: all(types(listener, run)[-1] == "run.failed" for run in before))
            await listener.until(lambda: len(listener.heard[replies]) == 3)
            await send(listener, RUN_PIPELINE, "slow")
            await listener.until(lambda: len(listener.heard[replies]) == 4)
            await send(listener, RUN_PIPELINE, "slow", waits, number=b"8")
            await listener.until(lambda: len(listener.heard[replies]) == 5)
            assert again.running_runs == 0

    first, second, unknown, answered, unknown_again = listener.heard[replies]
    assert first == second == answered
    assert first["result"]["run"] in before
    assert unknown == unknown_again
    assert unknown["error"]["code"] == "internal"
    assert unknown["error"]["message"].startswith("outcome unknown")
    assert runs() == before


async def test_a_save_that_comes_again_after_a_kill_does_not_undo_the_one_that_came_in_between(
    broker: Broker, tmp_path: Path
) -> None:
    replies = "reply/anna/console"

    def saving(seconds: str) -> bytes:
        return SavePipeline(definition=json.dumps({"pipeline": "p", **waiting(seconds)})).model_dump_json().encode()

    async with listening(broker) as listener:
        with orchestrator_process(broker, tmp_path):
            await listener.until(lambda: listener.last("service/orchestrator/orchestrator").get("state") == "online")
            for count, (seconds, number) in enumerate([("1s", b"1"), ("2s", b"2")], start=1):
                await send(listener, SAVE_PIPELINE, "p", saving(seconds), number=number)
                await listener.until(lambda count=count: len(listener.heard[replies]) == count)
        async with running_orchestrator(broker, tmp_path) as again:
            await send(listener, SAVE_PIPELINE, "p", saving("1s"), number=b"1")
            await listener.until(lambda: len(listener.heard[replies]) == 3)
            live = again.orchestrator.repository.live(WORKSPACE, "p")

    first, second, repeated = listener.heard[replies]
    assert (first["result"]["version"], second["result"]["version"]) == (1, 2)
    assert repeated == first
    assert live.version == 2
