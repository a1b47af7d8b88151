"""What holds runs back: places, the line, rates, deadlines, cancellation, and the end of the service."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from contracts.v1.command import Failure
from contracts.v1.pipeline import (
    GET_PIPELINE,
    RUN_PIPELINE,
    SAVE_PIPELINE,
    WORKSPACE,
    GetPipeline,
    RunPipeline,
    SavePipeline,
)
from contracts.v1.run import CANCEL_RUN, GET_RUN, CancelRun, GetRun, RunState
from services.orchestrator.settings import OrchestratorLimits
from services.runtime.bus.bus import Bus, Outcome
from services.runtime.settings import Rate
from tests.conftest import Eventually
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import orchestrator_process, run_pipeline, running_orchestrator
from tests.polling import until
from tests.real_broker import Broker
from tests.real_bus import make_bus, running


def waiting(seconds: str = "30s", **limits: Any) -> dict[str, Any]:
    return {"nodes": {"wait": {"type": "delay", "duration": seconds}}, "limits": {"runs": 100, "queue": 100, **limits}}


async def cancel(bus: Bus, run: str) -> Outcome[RunState]:
    return await bus.request(CANCEL_RUN, CancelRun(reason="enough"), user="anna", scope=WORKSPACE, id=run)


async def get(bus: Bus, run: str) -> Outcome[RunState]:
    return await bus.request(GET_RUN, GetRun(), user="anna", scope=WORKSPACE, id=run)


def types(listener: Listener, run: str) -> list[str]:
    return [event["type"] for message in listener.heard[f"event/main/run/{run}"] for event in message["events"]]


async def test_a_run_in_line_is_told_its_position_and_begins_when_it_is_its_turn(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        running_orchestrator(broker, tmp_path, runs=1) as site,
        running(client),
    ):
        await site.save("slow", waiting())
        answers = [await run_pipeline(client, "slow", wait=False) for _ in range(3)]
        runs = [answer.result.run for answer in answers if answer.result]
        third = f"run/main/slow/{runs[2]}"
        await listener.until(lambda: listener.last(third).get("position") == 2)

        await cancel(client, runs[0])
        await listener.until(lambda: listener.last(third).get("position") == 1)
        await cancel(client, runs[1])
        await listener.until(lambda: listener.last(third).get("state") == "running")
        await cancel(client, runs[2])

    assert [(a.result.state, a.result.position) for a in answers if a.result] == [
        ("running", None), ("queued", 1), ("queued", 2),
    ]  # fmt: skip
    assert listener.heard[third][0]["state"] == "queued"
    assert types(listener, runs[2])[:2] == ["run.queued", "run.started"]


async def test_a_run_in_line_is_told_how_long_it_will_wait_once_runs_have_told_how_long_they_take(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        running_orchestrator(broker, tmp_path, runs=1) as site,
        running(client),
    ):
        await site.save("short", waiting("50ms"))
        await site.save("slow", waiting())
        await run_pipeline(client, "short")
        first = await run_pipeline(client, "slow", wait=False)
        second = await run_pipeline(client, "short", wait=False)
        third = await run_pipeline(client, "short", wait=False)
        assert first.result is not None
        assert second.result is not None
        assert third.result is not None
        topic = f"run/main/short/{third.result.run}"
        await listener.until(lambda: listener.last(topic).get("position") == 2)
        await cancel(client, first.result.run)
        await listener.until(lambda: listener.last(topic).get("state") == "done")

    assert first.result.expected_wait_s is None
    assert second.result.expected_wait_s is not None
    assert second.result.expected_wait_s >= 0.05
    assert third.result.expected_wait_s == 2 * second.result.expected_wait_s
    assert listener.heard[topic][0]["expected_wait_s"] == third.result.expected_wait_s
    assert "expected_wait_s" not in listener.last(topic)


FOUR = OrchestratorLimits(acts=Rate(rate=0.001, burst=4))


async def test_a_full_line_and_a_user_in_haste_are_refused_with_their_own_codes(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path, runs=1, queue=1, limits=FOUR) as site, running(client):
        await site.save("slow", waiting())
        answers = [await run_pipeline(client, "slow", wait=False) for _ in range(5)]
        other = await client.request(RUN_PIPELINE, RunPipeline(), user="bert", scope=WORKSPACE, id="slow")
        for answer in answers[:2]:
            assert answer.result is not None
            await cancel(client, answer.result.run)

    assert [answer.error and answer.error.code for answer in answers] == [
        None, None, "too_many_pipelines", "too_many_pipelines", "rate_limited",
    ]  # fmt: skip
    assert other.error is not None
    assert other.error.code == "too_many_pipelines", "another user is not in haste"


async def test_a_cancelled_run_ends_at_once_and_can_still_be_looked_at(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("slow", waiting())
        accepted = await run_pipeline(client, "slow", wait=False)
        assert accepted.result is not None
        run = accepted.result.run
        cancelled = await cancel(client, run)
        again = await cancel(client, run)
        seen = await get(client, run)
        unknown = await get(client, "r0")
        await listener.until(lambda: "run.cancelled" in types(listener, run))

    assert cancelled.result is not None
    assert cancelled.result.state == "cancelled"
    assert cancelled.result.error is not None
    assert cancelled.result.error.message == "cancelled by anna: enough"
    assert again.error is not None
    assert again.error.code == "not_found"
    assert seen.result == cancelled.result.model_copy(update={"rev": seen.result.rev if seen.result else 0})
    assert unknown.error is not None
    assert unknown.error.code == "unavailable", "the recorder would know of it, and there is none"


async def test_a_run_that_takes_too_long_fails(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("slow", waiting(timeout="100ms"))
        outcome = await run_pipeline(client, "slow")

    assert outcome.error is not None
    assert outcome.error.code == "timeout"
    assert "run" in outcome.error.detail


async def test_inputs_that_do_not_fit_and_pipelines_that_are_not_there_are_refused(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("slow", {**waiting(), "inputs": {"speed": {"type": "number"}}})
        outcomes = [
            await run_pipeline(client, "slow", {"spead": 1}),
            await run_pipeline(client, "sloe"),
        ]

    assert [outcome.error and outcome.error.code for outcome in outcomes] == ["invalid", "not_found"]


async def test_a_stop_lets_runs_end_cancels_the_rest_and_tells_of_all(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running(client):
        async with running_orchestrator(broker, tmp_path, drain_runs="1s", runs=2) as site:
            await site.save("short", waiting("300ms"))
            await site.save("long", waiting("60s"))
            answers = [await run_pipeline(client, name, wait=False) for name in ("short", "long", "long")]
            short, long, queued = (answer.result.run for answer in answers if answer.result)
            begun = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - begun
        ends = {"short": short, "long": long}
        await listener.until(lambda: "run.cancelled" in types(listener, long))

    assert took < 30, "not the minute of the long run"
    assert {name: types(listener, run)[-1] for name, run in ends.items()} == {
        "short": "run.completed", "long": "run.cancelled",
    }  # fmt: skip
    assert types(listener, queued)[-1] == "run.cancelled"
    assert listener.last(f"run/main/long/{long}")["state"] == "cancelled"


async def test_while_no_command_can_be_written_down_none_is_begun_and_a_run_can_still_be_cancelled(
    broker: Broker, tmp_path: Path
) -> None:
    client, folder = make_bus(broker, "anna-console"), tmp_path / "orchestrator" / "commands"
    folder.parent.mkdir()
    folder.write_text("no folder")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("slow", {**waiting("30s"), "triggers": [{"every": "100ms"}]})
        await listener.until(lambda: any(topic.startswith("event/main/run/") for topic in listener.heard))
        run = next(topic for topic in listener.heard if topic.startswith("event/main/run/")).rpartition("/")[2]
        refused = await run_pipeline(client, "slow")
        cancelled = await cancel(client, run)

    assert refused.error is not None
    assert refused.error.code == "unavailable"
    assert "it cannot be kept" in refused.error.message
    assert cancelled.result is not None, cancelled.error
    assert cancelled.result.state == "cancelled"


async def refusal(client: Bus, name: str) -> Failure:
    """Why no more runs are begun, as soon as none is; not that the line is full, or that this asks too often."""
    refusals: list[Failure] = []

    async def is_refused() -> bool:
        outcome = await run_pipeline(client, name, wait=False)
        if outcome.error is not None and outcome.error.code not in ("too_many_pipelines", "rate_limited"):
            refusals.append(outcome.error)
        return bool(refusals)

    await until(is_refused, 30, what="a refusal")
    return refusals[0]


async def test_a_process_that_is_told_to_end_changes_nothing_more_and_answers_for_what_there_is(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    service = "service/orchestrator/orchestrator"
    async with listening(broker) as listener, running(client):
        async with running_orchestrator(broker, tmp_path) as site:
            await site.save("short", waiting("1s"))
            await site.save("long", waiting())
        with orchestrator_process(broker, tmp_path) as process:
            await listener.until(lambda: listener.last(service).get("state") == "online")
            awaited = asyncio.create_task(run_pipeline(client, "short"))
            accepted = await run_pipeline(client, "long", wait=False)
            assert accepted.result is not None, accepted.error
            process.send_signal(signal.SIGTERM)
            refused = await refusal(client, "short")
            shown = await client.request(GET_PIPELINE, GetPipeline(), user="anna", scope=WORKSPACE, id="short")
            saving = SavePipeline(definition=json.dumps({"pipeline": "new", **waiting()}))
            unsaved = await client.request(SAVE_PIPELINE, saving, user="anna", scope=WORKSPACE, id="new")
            cancelled = await cancel(client, accepted.result.run)
            done = await awaited
            code = await asyncio.to_thread(process.wait, 30)

    assert (refused.code, refused.message) == (
        "unavailable", "the orchestrator is being stopped; ask again in a minute",
    )  # fmt: skip
    assert unsaved.error == refused
    assert shown.result is not None, shown.error
    assert shown.result.pipeline == "short"
    assert cancelled.result is not None, cancelled.error
    assert cancelled.result.state == "cancelled"
    assert done.result is not None, done.error
    assert done.result.state == "done"
    assert code == 0


async def test_another_pipeline_runs_as_a_node_in_the_same_place_and_ends_with_it(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    inner = {
        "inputs": {"x": {"type": "number"}},
        "nodes": {"twice": {"type": "expression", "expression": "x * 2", "inputs": {"x": "inputs.x"}}},
        "outputs": {"y": "twice.value"},
    }
    outer = {
        "nodes": {
            "sub": {"type": "pipeline", "pipeline": "inner", "constants": {"x": 4}},
            "sum": {"type": "expression", "expression": "x + 1", "inputs": {"x": "sub.y"}},
        },
        "outputs": {"z": "sum.value", "run": "sub.run"},
    }
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path, runs=1) as site, running(client):
        await site.save("inner", inner)
        await site.save("outer", outer)
        await site.save("slow", waiting())
        await site.save("over-slow", {"nodes": {"sub": {"type": "pipeline", "pipeline": "slow"}}})
        await site.save("itself", {"nodes": {"sub": {"type": "pipeline", "pipeline": "itself"}}})
        done = await run_pipeline(client, "outer")
        endless = await run_pipeline(client, "itself")
        accepted = await run_pipeline(client, "over-slow", wait=False)
        assert accepted.result is not None
        await eventually(lambda: site.running_runs == 2)
        await cancel(client, accepted.result.run)
        await eventually(lambda: site.running_runs == 0)
        await listener.until(lambda: [t for t in listener.heard if t.startswith("run/main/slow/")])
        (slow,) = [topic for topic in listener.heard if topic.startswith("run/main/slow/")]
        await listener.until(lambda: listener.last(slow)["state"] == "cancelled")

    assert done.result is not None, done.error
    assert done.result.outputs is not None
    assert done.result.outputs["z"] == 9
    inner_run = listener.last(f"run/main/inner/{done.result.outputs['run']}")
    assert inner_run["trigger"] == {"kind": "pipeline", "by": done.result.run}
    assert endless.error is not None
    assert endless.error.code == "invalid"
