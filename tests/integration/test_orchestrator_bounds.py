"""What bounds runs, over a real broker: their values, the runs below one, the places of shadows, a full disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.pipeline import DIFF_PIPELINE, WORKSPACE, DiffPipeline
from contracts.v1.run import RunTrigger
from services.orchestrator.errors import InvalidInputs
from services.orchestrator.nodes import pipeline as pipeline_nodes
from services.orchestrator.pipelines.version import Draft
from services.orchestrator.use_cases import RunOrder
from tests.conftest import Eventually
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_limits import types, waiting
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

ONE = {"nodes": {"one": {"type": "expression", "expression": "1"}}, "outputs": {"one": "one.value"}}


def stream_of(listener: Listener) -> list[int]:
    """The sequence numbers of all event messages."""
    heard = [
        message for topic, messages in listener.heard.items() if topic.startswith("event/") for message in messages
    ]
    return sorted(message["seq"] for message in heard)


async def test_a_run_of_values_that_grow_on_their_way_onto_the_wire_is_told_ends_and_frees_its_place(
    broker: Broker, tmp_path: Path
) -> None:
    say = {"type": "expression", "expression": "x", "inputs": {"x": "inputs.text"}}
    content = {
        "inputs": {"text": {"type": "string"}},
        "nodes": {f"n{at}": say for at in range(4)},
        "outputs": {f"y{at}": "n0.value" for at in range(2)},
    }
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path, runs=1) as site, running(client):
        await site.save("say", content)
        # Each of the characters is six bytes of JSON.
        outcomes = [await run_pipeline(client, "say", {"text": "\x01" * 60_000}) for _ in range(3)]
        runs = [str(outcome.result.run) for outcome in outcomes if outcome.result]
        for run in runs:
            await listener.until(lambda run=run: types(listener, run)[-1:] == ["run.completed"])

    assert len(runs) == 3, outcomes
    numbers = stream_of(listener)
    assert numbers == list(range(1, len(numbers) + 1)), "no gap"
    (started,) = [e for m in listener.heard[f"event/main/run/{runs[0]}"] for e in m["events"] if "rev" in e["data"]]
    assert started["data"]["inputs"]["text"]["bytes"] == 360_002


async def test_a_trigger_whose_values_no_event_could_hold_starts_no_run_and_is_told_why(
    broker: Broker, tmp_path: Path
) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    async with running_orchestrator(broker, tmp_path, runs=1) as site:
        await site.save("one", ONE)
        for value, why in ((deep, "nested too deep"), ("a" * (1 << 20), "longer than 960 KiB")):
            order = RunOrder(
                scope=WORKSPACE, pipeline="one", trigger=RunTrigger(kind="event"), values={"data": {"value": value}}
            )
            with pytest.raises(InvalidInputs, match=why):
                site.orchestrator.run_pipeline.start(order)
        assert site.running_runs == 0
        run = site.orchestrator.run_pipeline.start(replace(order, values={"data": {"value": [1]}}))

    assert run.run.outputs == {"one": 1}, "the place is free"


async def test_the_state_of_the_largest_run_is_shown(broker: Broker, tmp_path: Path) -> None:
    say = {"type": "expression", "expression": "x", "inputs": {"x": "inputs.text"}}
    content = {"inputs": {"text": {"type": "string"}}, "nodes": {f"n{at:->60}": say for at in range(500)}}
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("large", content)
        short, long = [await run_pipeline(client, "large", {"text": "a" * size}) for size in (700, 1980)]
        assert short.result is not None, short.error
        assert long.result is not None, long.error
        topics = [f"run/main/large/{outcome.result.run}" for outcome in (short, long)]
        for topic in topics:
            await listener.until(lambda topic=topic: listener.last(topic).get("state") == "done")

    states = [listener.last(topic)["nodes"] for topic in topics]
    assert [len(nodes) for nodes in states] == [500, 500]
    assert {len(node["output"]["value"]) for node in states[0].values()} == {700}
    assert {node["size"] for node in states[1].values()} == {1992}


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_runs_go_on_and_are_told_while_the_disk_of_the_journal_is_full_and_what_is_lost_is_counted(
    broker: Broker, tmp_path: Path
) -> None:
    say = {
        "inputs": {"text": {"type": "string"}},
        "nodes": {"say": {"type": "expression", "expression": "x", "inputs": {"x": "inputs.text"}}},
    }
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        journal = site.orchestrator._use.journal
        await site.save("say", say)
        before, while_full, after = {"text": "a" * 30_000}, {"text": "b"}, {"text": "c"}
        outcomes = [await run_pipeline(client, "say", before) for _ in range(2)]  # the journal is longer then
        with full_disk():
            outcomes += [await run_pipeline(client, "say", while_full) for _ in range(5)]
            lost = journal.usage.lost["disk_full"]
        outcomes += [await run_pipeline(client, "say", after) for _ in range(5)]
        runs = [str(outcome.result.run) for outcome in outcomes if outcome.result]
        for run in runs:
            await listener.until(lambda run=run: types(listener, run)[-1:] == ["run.completed"])
        lost_since = journal.usage.lost["disk_full"] - lost

    assert len(runs) == 12
    assert (lost >= 5, lost_since) == (True, 0)
    numbers = stream_of(listener)
    assert numbers == list(range(1, len(numbers) + 1)), "told all the same"
    versions = [[e["version"] for m in listener.heard[f"event/main/run/{run}"] for e in m["events"]] for run in runs]
    assert all(told == list(range(1, len(told) + 1)) for told in versions)


def each(items: int, **sub: Any) -> dict[str, Any]:
    """Runs `inner` for each of so many items, as many at a time as may be."""
    node = {"type": "pipeline", "pipeline": "inner", **sub}
    loop = {"type": "for_each", "items": "inputs.items", "concurrency": 100, "nodes": {"sub": node}}
    return {
        "inputs": {"items": {"type": "array", "default": list(range(items))}},
        "nodes": {"each": loop},
        "outputs": {"count": "each.count"},
    }


async def test_a_pipeline_that_is_a_node_of_others_runs_no_more_often_at_a_time_than_its_limits_say(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path, runs=1) as site, running(client):
        await site.save("inner", waiting("50ms", runs=2))
        await site.save("outer", each(12))
        done = await run_pipeline(client, "outer")
        await listener.until(lambda: sum(t.startswith("run/main/inner/") for t in listener.heard) == 12)
        await listener.until(
            lambda: all(listener.last(t)["state"] == "done" for t in listener.heard if t.startswith("run/main/inner/"))
        )

    assert done.result is not None, done.error
    assert done.result.outputs == {"count": 12}
    happened = sorted(
        (event["t"], event["type"])
        for topic in listener.heard
        if topic.startswith("event/main/run/") and topic.rpartition("/")[2] != done.result.run
        for message in listener.heard[topic]
        for event in message["events"]
        if event["type"] in {"run.started", "run.completed", "run.queued"}
    )
    at_a_time, most = 0, 0
    for _, type_ in sorted(happened, key=lambda one: (one[0], one[1] != "run.completed")):
        at_a_time += {"run.started": 1, "run.completed": -1}.get(type_, 0)
        most = max(most, at_a_time)
    assert most == 2
    assert sum(type_ == "run.queued" for _, type_ in happened) == 10


async def test_more_runs_below_one_than_may_be_fail_their_node(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_nodes, "MOST_BELOW", 5)
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("inner", ONE)
        await site.save("five", each(5))
        await site.save("six", each(6))
        five, six = await run_pipeline(client, "five"), await run_pipeline(client, "six")

    assert five.result is not None, five.error
    assert six.error is not None
    assert six.error.code == "too_many_pipelines"


async def test_no_more_nodes_of_other_runs_wait_than_there_is_room_for_in_the_line(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path, queue=3) as site, running(client):
        await site.save("inner", waiting("50ms", runs=1))
        await site.save("four", each(4))
        await site.save("five", each(5))
        four, five = await run_pipeline(client, "four"), await run_pipeline(client, "five")

    assert four.result is not None, four.error
    assert five.error is not None
    assert five.error.code == "too_many_pipelines"


async def test_shadows_hold_up_and_refuse_no_live_run_even_if_they_take_all_the_places_of_shadows(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path, runs=1, queue=0) as site, running(client):
        await site.save("one", ONE)
        await site.save("one", waiting("30s", queue=0), shadow=True)
        outcomes = [await run_pipeline(client, "one") for _ in range(3)]
        await eventually(lambda: site.running_runs == 1)
        for execution in tuple(site.orchestrator.engine._active.values()):
            site.orchestrator.engine.cancel(WORKSPACE, execution.identifier, reason="the test is over")

    assert [outcome.error for outcome in outcomes] == [None] * 3


async def test_a_shadow_that_cannot_run_is_nothing_to_the_live_run_and_told_by_the_diff(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("one", ONE)
        foreign = Draft(
            scope=WORKSPACE, pipeline="one", text='{"pipeline": "one", "of": "another release"}', rev="0" * 16
        )
        await site.orchestrator.repository.save(foreign, by="anna", at_ms=1, shadow=True)
        done = await run_pipeline(client, "one")
        diff = await client.request(DIFF_PIPELINE, DiffPipeline(), user="anna", scope=WORKSPACE, id="one")

    assert done.result is not None, done.error
    assert diff.error is not None
    assert "cannot run" in diff.error.message


@pytest.mark.parametrize("nodes", [ONE["nodes"], waiting("1ms")["nodes"]], ids=["at-once", "lasting"])
async def test_a_live_run_and_its_shadow_are_compared_once(
    broker: Broker, tmp_path: Path, eventually: Eventually, nodes: dict[str, Any]
) -> None:
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("one", {"nodes": nodes})
        await site.save("one", {"nodes": nodes, "title": "new"}, shadow=True)
        done = await run_pipeline(client, "one")
        await eventually(lambda: site.running_runs == 0)
        diff = await client.request(DIFF_PIPELINE, DiffPipeline(), user="anna", scope=WORKSPACE, id="one")

    assert done.result is not None, done.error
    assert diff.result is not None, diff.error
    assert (diff.result.runs, diff.result.differences) == (1, [])
