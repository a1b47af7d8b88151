"""How runs go through their nodes, over a real broker: at the same time, within bounds, and apart from one another."""

import asyncio
from pathlib import Path
from typing import Any

from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_nodes import ended, events
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

LAYERS, WIDTH = 10, 10


def told(listener: Listener, run: str) -> list[tuple[str, str]]:
    """Type and node of each event of the run, in order; those of the run itself have no node."""
    heard = (event for message in listener.heard[f"event/main/run/{run}"] for event in message["events"])
    return [(event["type"], event["data"].get("node", "")) for event in heard]


async def test_a_hundred_delays_in_ten_layers_wait_ten_at_a_time(broker: Broker, tmp_path: Path) -> None:
    def after(layer: int) -> list[str]:
        return [f"n{layer - 1}-{at}" for at in range(WIDTH)] if layer else []

    nodes = {
        f"n{layer}-{at}": {"type": "delay", "duration": "50ms", "after": after(layer)}
        for layer in range(LAYERS)
        for at in range(WIDTH)
    }
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("wide", {"nodes": nodes})
        done = await run_pipeline(client, "wide")
        assert done.result is not None, done.error
        await ended(listener, done.result.run)

    order = told(listener, done.result.run)
    begun = {node: at for at, (type_, node) in enumerate(order) if type_ == "node.executing"}
    over = {node: at for at, (type_, node) in enumerate(order) if type_ == "node.completed"}
    assert begun.keys() == over.keys() == nodes.keys()
    for layer in range(LAYERS):
        own = [f"n{layer}-{at}" for at in range(WIDTH)]
        assert max(begun[node] for node in own) < min(over[node] for node in own)


async def test_a_for_each_has_no_more_turns_under_way_than_its_concurrency(broker: Broker, tmp_path: Path) -> None:
    content = {
        "nodes": {
            "each": {
                "type": "for_each", "items": "inputs.batch", "concurrency": 3, "output": "out.value",
                "nodes": {
                    "rest": {"type": "delay", "duration": "5ms"},
                    "out": {"type": "expression", "expression": "x * 10", "inputs": {"x": "item.value"},
                            "after": ["rest"]},
                },
            },
        },
        "inputs": {"batch": {"type": "array"}},
        "outputs": {"values": "each.values"},
    }  # fmt: skip
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("batch", content)
        done = await run_pipeline(client, "batch", {"batch": list(range(10))})
        assert done.result is not None, done.error
        await ended(listener, done.result.run)

    turns, most = 0, 0
    for type_, node in told(listener, done.result.run):
        turns += node.endswith(".rest") and type_ == "node.executing"
        turns -= node.endswith(".out") and type_ == "node.completed"
        most = max(most, turns)
    assert done.result.outputs == {"values": [10 * number for number in range(10)]}
    assert most == 3


async def test_runs_of_one_pipeline_at_the_same_time_share_nothing(broker: Broker, tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "inputs": {"x": {"type": "number"}},
        "nodes": {
            "count": {
                "type": "while", "when": "n < 5", "state": {"n": 0, "sum": 0}, "inputs": {"x": "inputs.x"},
                "next": {"n": "more.value", "sum": "sum.value"},
                "nodes": {
                    "rest": {"type": "delay", "duration": "5ms"},
                    "more": {"type": "expression", "expression": "n + 1", "inputs": {"n": "state.n"},
                             "after": ["rest"]},
                    "sum": {"type": "expression", "expression": "s + x",
                            "inputs": {"s": "state.sum", "x": "outer.x"}, "after": ["rest"]},
                },
            },
        },
        "outputs": {"sum": "count.sum"},
        "limits": {"runs": 10},
    }  # fmt: skip
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("sum", content)
        outcomes = await asyncio.gather(*(run_pipeline(client, "sum", {"x": x}) for x in range(10)))

    assert [outcome.result and outcome.result.outputs for outcome in outcomes] == [{"sum": 5 * x} for x in range(10)]


async def test_a_node_runs_the_version_of_another_pipeline_that_it_names_or_the_live_one(
    broker: Broker, tmp_path: Path
) -> None:
    def inner(value: int) -> dict[str, Any]:
        return {
            "nodes": {"one": {"type": "expression", "expression": str(value)}},
            "outputs": {"value": "one.value"},
        }

    content = {
        "nodes": {
            "old": {"type": "pipeline", "pipeline": "inner", "version": 1},
            "live": {"type": "pipeline", "pipeline": "inner", "after": ["old"]},
        },
        "outputs": {"old": "old.value", "live": "live.value"},
    }
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("inner", inner(1))
        await site.save("inner", inner(2))
        await site.save("outer", content)
        done = await run_pipeline(client, "outer")

    assert done.result is not None, done.error
    assert done.result.outputs == {"old": 1, "live": 2}


async def test_a_node_that_fails_for_good_is_told_with_its_reason_and_what_needs_it_is_passed_over(
    broker: Broker, tmp_path: Path
) -> None:
    content = {
        "nodes": {
            "bad": {"type": "expression", "expression": "1 / x", "constants": {"x": 0}},
            "after": {"type": "expression", "expression": "x", "inputs": {"x": "bad.value"}},
        },
    }
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("bad", content)
        failed = await run_pipeline(client, "bad")
        assert failed.error is not None
        run = str(failed.error.detail["run"])
        await ended(listener, run)

    (node,), (end,) = events(listener, run, "node.failed"), events(listener, run, "run.failed")
    assert (node["node"], node["tries"], node["error"]["code"]) == ("bad", 1, "invalid")
    assert (end["error"]["detail"]["node"], end["nodes"]) == ("bad", 1)
    assert "division by zero" in end["error"]["message"]
    assert [data["node"] for data in events(listener, run, "node.skipped")] == ["after"]
