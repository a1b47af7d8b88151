"""Runs that the orchestrator has forgotten, looked back at with what the recorder has of them."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.event_store import ReadEvents
from contracts.v1.pipeline import WORKSPACE
from contracts.v1.run import GET_RUN, REPLAY_RUN, GetRun, ReplayRun, RunState
from services.orchestrator.past import recorded
from services.recorder.events.archive import EventArchive
from services.recorder.events.reading import NothingStored
from services.runtime.bus.bus import Bus
from tests.conftest import Eventually
from tests.integration.compute_site import serving
from tests.integration.gateway_site import listening, running_gateway
from tests.integration.ledger import online
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_gateway_calls import servo
from tests.integration.test_orchestrator_limits import waiting
from tests.integration.test_recorder import READY_S, RecorderProcess
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

RECIPE = {
    "inputs": {"stations": {"type": "array", "default": [50, 20]}},
    "nodes": {
        "visit": {
            "type": "for_each", "items": "inputs.stations", "output": "move.position",
            "nodes": {"move": {"type": "call", "device": "servo", "function": "move_to",
                               "inputs": {"position": "item.value"}}},
        },
        "last": {"type": "expression", "expression": "xs[1]", "inputs": {"xs": "visit.values"}},
        "echo": {"type": "compute", "function": "echo", "inputs": {"x": "last.value"}},
        "far": {"type": "condition", "when": "x > 10", "inputs": {"x": "echo.x"}},
        "half": {"type": "pipeline", "pipeline": "half", "inputs": {"x": "echo.x"}, "after": ["far.then"]},
        "never": {"type": "expression", "expression": "1", "after": ["far.else"]},
    },
    "outputs": {"half": "half.result"},
}  # fmt: skip
HALF = {
    "inputs": {"x": {"type": "number"}},
    "nodes": {"half": {"type": "expression", "expression": "x / 2", "inputs": {"x": "inputs.x"}}},
    "outputs": {"result": "half.value"},
}


@pytest.fixture
def recorder(broker: Broker, tmp_path: Path) -> Iterator[RecorderProcess]:
    process = RecorderProcess(tmp_path / "recorder", broker)
    yield process
    process.end(signal.SIGKILL)


def stored_types(recorder: RecorderProcess, run: str) -> list[str]:
    """What the recorder has of a run."""
    asked = ReadEvents(scope=WORKSPACE, aggregate="run", aggregate_id=run, limit=1000)
    try:
        return [event.type for event in EventArchive(recorder.path).read(asked).events]
    except NothingStored:
        return []


async def replay(client: Bus, run: str) -> Any:
    return await client.request(REPLAY_RUN, ReplayRun(), timeout_s=30, user="anna", scope=WORKSPACE, id=run)


async def shown(client: Bus, run: str) -> RunState:
    outcome = await client.request(GET_RUN, GetRun(), timeout_s=30, user="anna", scope=WORKSPACE, id=run)
    assert outcome.result is not None, outcome.error
    return outcome.result


async def test_a_run_with_calls_compute_and_a_sub_pipeline_comes_out_the_same_after_a_restart_of_the_orchestrator(
    broker: Broker, recorder: RecorderProcess, tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.start()
    client = make_bus(broker, "anna-console")
    async with running(client):
        async with (
            listening(broker) as listener,
            running_gateway(broker, tmp_path / "gateway", {"servo": servo()}),
            serving(broker, tmp_path),
            running_orchestrator(broker, tmp_path, shown_runs=1) as site,
        ):
            await eventually(recorder.ready, READY_S)
            await online(listener, "servo")
            await site.save("half", HALF)
            await site.save("recipe", RECIPE)
            await site.save("slow", waiting(timeout="50ms"))
            done, failed = await run_pipeline(client, "recipe"), await run_pipeline(client, "slow")
            assert done.result is not None, done.error
            assert failed.error is not None
            runs = [done.result.run, str(failed.error.detail["run"])]
            here = await replay(client, runs[0])
            ends = ["run.completed", "run.failed"]
            await eventually(lambda: [(stored_types(recorder, run) or [""])[-1] for run in runs] == ends)

        async with running_orchestrator(broker, tmp_path, shown_runs=1):
            again = [await replay(client, run) for run in (*runs, "r0")]
            state = await shown(client, runs[0])

        recorder.end(signal.SIGTERM)
        monkeypatch.setattr(recorded, "PATIENCE_S", 0.3)
        async with running_orchestrator(broker, tmp_path):
            alone = await replay(client, runs[0])

    assert done.result.outputs == {"half": 10.0}
    for outcome in again[:2]:
        assert outcome.result is not None, outcome.error
        assert (outcome.result.same, outcome.result.differences) == (True, [])
    assert here.result is not None
    assert again[0].result == here.result, "as it came out before the restart"
    assert again[2].error is not None
    assert again[2].error.code == "not_found"
    assert (state.state, state.pipeline, state.version, state.outputs) == ("done", "recipe", 1, {"half": 10.0})
    assert {name: str(node.state) for name, node in state.nodes.items()} == {
        "visit": "done", "last": "done", "echo": "done", "far": "done", "half": "done", "never": "skipped",
    }  # fmt: skip
    assert state.nodes["last"].output == {"value": 20.0}
    assert alone.error is not None
    assert alone.error.code == "unavailable"
    assert "no recorder named 'recorder' answers" in alone.error.message


async def test_what_is_not_there_or_not_over_is_said_and_not_gone_through(
    broker: Broker, recorder: RecorderProcess, tmp_path: Path, eventually: Eventually
) -> None:
    recorder.start()
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await eventually(recorder.ready, READY_S)
        await site.save("slow", waiting(timeout="1h"))
        under_way = await run_pipeline(client, "slow", wait=False)
        assert under_way.result is not None
        run = under_way.result.run
        await eventually(lambda: stored_types(recorder, run))
        early = await replay(client, run)
        site.orchestrator.engine.cancel(WORKSPACE, run, reason="enough")

    assert early.error is not None
    assert (early.error.code, "is not over" in early.error.message) == ("unavailable", True)
