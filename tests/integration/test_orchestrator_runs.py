"""Runs asked for over a real mosquitto: done, told as events, and shown as retained topics."""

from pathlib import Path
from typing import Any

from contracts.v1.tag import TAG, TagValue
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

SCALED = {
    "inputs": {"x": {"type": "number", "default": 3.0}},
    "nodes": {
        "scaled": {"type": "expression", "expression": "x * 2 + k", "inputs": {"x": "inputs.x"}, "constants": {"k": 1}},
        "high": {"type": "condition", "when": "x > 10", "inputs": {"x": "scaled.value"}},
        "loud": {"type": "expression", "expression": "x", "inputs": {"x": "scaled.value"}, "after": ["high.then"]},
        "quiet": {"type": "expression", "expression": "-x", "inputs": {"x": "scaled.value"}, "after": ["high.else"]},
    },
    "outputs": {"scaled": "scaled.value", "loud": "loud.value", "quiet": "quiet.value"},
}


def events_of(listener: Listener, run: str) -> list[dict[str, Any]]:
    return [event for message in listener.heard[f"event/main/run/{run}"] for event in message["events"]]


async def test_a_run_is_answered_told_and_shown(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("scale", SCALED)
        outcome = await run_pipeline(client, "scale", {"x": 7.0})
        assert outcome.result is not None, outcome.error
        run = outcome.result.run
        await listener.until(lambda: listener.last(f"run/main/scale/{run}").get("state") == "done")
        await listener.until(lambda: any(event["type"] == "run.completed" for event in events_of(listener, run)))

    assert outcome.result.outputs == {"scaled": 15.0, "loud": 15.0, "quiet": None}
    state = listener.last(f"run/main/scale/{run}")
    assert {name: node["state"] for name, node in state["nodes"].items()} == {
        "scaled": "done", "high": "done", "loud": "done", "quiet": "skipped",
    }  # fmt: skip
    assert state["nodes"]["scaled"]["output"] == {"value": 15.0}
    assert state["trigger"] == {"kind": "command", "by": "anna"}
    events = events_of(listener, run)
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "run.started"
    assert {event["user"] for event in events} == {"anna"}
    told = [(event["type"], event["data"].get("node")) for event in events[1:-1]]
    assert told.count(("node.executing", "scaled")) == told.count(("node.completed", "scaled")) == 1
    assert ("node.skipped", "quiet") in told
    assert len(listener.heard[f"event/main/run/{run}"]) == 1, "one message for all that happened in one step"


async def test_the_last_value_of_a_tag_that_is_no_more_is_not_taken_for_good(broker: Broker, tmp_path: Path) -> None:
    content = {"nodes": {"level": {"type": "read", "tag": "pump/level", "retry": {"tries": 1}},
                         "by": {"type": "expression", "expression": "k", "inputs": {"k": "trigger.kind"}}},
               "outputs": {"level": "level.value", "q": "level.q", "by": "by.value"}}  # fmt: skip
    client = make_bus(broker, "anna-console")
    client.retain(TAG, TagValue(value=10, ts=5, q=192, seen=5), device="pump", tag="level")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("read", content)
        known = await run_pipeline(client, "read")
        client.retain(TAG, None, device="pump", tag="level")
        await listener.until(lambda: "tag/pump/level" in listener.cleared)
        gone = await run_pipeline(client, "read")

    assert known.result is not None, known.error
    assert known.result.outputs == {"level": 10, "q": 192, "by": "command"}
    assert gone.error is not None
    assert gone.error.code == "not_found"


async def test_runs_are_counted_by_how_they_ended_until_their_pipeline_is_deleted(
    broker: Broker, tmp_path: Path
) -> None:
    failing = {"nodes": {"x": {"type": "expression", "expression": "1 / 0", "retry": {"tries": 1}}}}
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("scale", SCALED)
        await site.save("fails", failing)
        for name in ("scale", "scale", "fails"):
            await run_pipeline(client, name)
        of = {"workspace": "main", "pipeline": "scale"}
        done = site.metric("pipeline_executions_total", status="done", **of)
        failed = site.metric("pipeline_executions_total", workspace="main", pipeline="fails", status="failed")
        timed = site.metric("pipeline_duration_seconds_count", **of)
        active = site.metric("active_pipelines")
        await site.orchestrator.repository.delete("main", "scale", by="anna", at_ms=1)
        names = {labels.get("pipeline") for labels in site.labels()}

    assert (done, failed, timed, active) == (2, 1, 2, 0)
    assert "fails" in names
    assert "scale" not in names
