"""Runs as they can be seen: by who subscribes late, within a cap, and after a restart."""

from pathlib import Path

from contracts.v1.pipeline import WORKSPACE
from contracts.v1.run import RUN, RUN_EXPIRY_S, RunTrigger
from services.orchestrator.use_cases import RunOrder
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import (
    orchestrator_process,
    run_pipeline,
    running_orchestrator,
)
from tests.integration.test_orchestrator_limits import cancel, get, types, waiting
from tests.real_broker import Broker
from tests.real_bus import Inbox, MovedClock, make_bus, running

ONE = {"nodes": {"one": {"type": "expression", "expression": "1"}}}


def shown(listener: Listener) -> set[str]:
    """The runs whose topics are there."""
    return {topic for topic in listener.heard if topic.startswith("run/") and topic not in listener.cleared}


async def test_who_subscribes_late_sees_what_runs_and_how_far_it_is(broker: Broker, tmp_path: Path) -> None:
    content = {"nodes": {**ONE["nodes"], **waiting()["nodes"]}}
    client, late, inbox = make_bus(broker, "anna-console"), make_bus(broker, "late"), Inbox()
    late.subscribe(RUN, inbox.handle)
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("slow", content)
        accepted = await run_pipeline(client, "slow", wait=False)
        assert accepted.result is not None
        await listener.until(lambda: shown(listener))
        async with running(late):
            await inbox.wait(1)
        await cancel(client, accepted.result.run)

    (state,) = inbox.payloads
    assert inbox[0].retained
    assert state.state == "running"
    assert {name: str(node.state) for name, node in state.nodes.items()} == {"one": "done", "wait": "running"}
    assert state.nodes["one"].output == {"value": 1}


async def test_the_broker_forgets_a_run_after_an_hour_and_none_that_is_under_way(
    broker: Broker, tmp_path: Path
) -> None:
    clock, late, inbox = MovedClock(), make_bus(broker, "late"), Inbox()
    late.subscribe(RUN, inbox.handle)
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path, clock=clock) as site:
        await site.save("slow", waiting())
        order = RunOrder(scope=WORKSPACE, pipeline="slow", trigger=RunTrigger(kind="event"))
        first = site.orchestrator.run_pipeline.start(order)
        topic = f"run/main/slow/{first.identifier}"
        await listener.until(lambda: listener.heard[topic])
        clock.advance(RUN_EXPIRY_S / 2)  # long before the broker would forget it
        other = site.orchestrator.run_pipeline.start(order)  # it looks at once since something has changed
        await listener.until(lambda: len(listener.heard[topic]) == 2)
        await listener.until(lambda: len(shown(listener)) == 2)
        async with running(late):
            await inbox.wait(2)
        for run in (first, other):
            site.orchestrator.engine.cancel(WORKSPACE, run.identifier, reason="enough")

    assert [state["state"] for state in listener.heard[topic][:2]] == ["running", "running"]
    for delivery in inbox:
        assert delivery.retained
        assert delivery.expiry_s is not None
        assert RUN_EXPIRY_S - 60 < delivery.expiry_s <= RUN_EXPIRY_S == 3600


async def test_beyond_the_cap_the_oldest_runs_are_cleared_and_one_under_way_never(
    broker: Broker, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        running_orchestrator(broker, tmp_path, shown_runs=3) as site,
        running(client),
    ):
        await site.save("slow", waiting())
        await site.save("one", ONE)
        accepted = await run_pipeline(client, "slow", wait=False)
        assert accepted.result is not None
        slow = f"run/main/slow/{accepted.result.run}"
        await listener.until(lambda: slow in shown(listener))
        ended = [await run_pipeline(client, "one") for _ in range(4)]
        runs = [f"run/main/one/{answer.result.run}" for answer in ended if answer.result]
        await listener.until(lambda: shown(listener) == {slow, *runs[2:]})
        await cancel(client, accepted.result.run)


async def test_runs_that_a_killed_process_has_left_are_ended_as_failed(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running(client):
        async with running_orchestrator(broker, tmp_path) as site:
            await site.save("slow", waiting())
            await site.save("one", ONE)
        with orchestrator_process(broker, tmp_path):
            await listener.until(lambda: listener.last("service/orchestrator/orchestrator").get("state") == "online")
            accepted, one = await run_pipeline(client, "slow", wait=False), await run_pipeline(client, "one")
            assert accepted.result is not None
            assert one.result is not None
            run, topic = accepted.result.run, f"run/main/slow/{accepted.result.run}"
            ended = f"run/main/one/{one.result.run}"
            await listener.until(lambda: {topic, ended} <= shown(listener))
        async with running_orchestrator(broker, tmp_path):
            await listener.until(lambda: listener.last(topic)["state"] == "failed")
            await listener.until(lambda: types(listener, run)[-1] == "run.failed")
            seen = await get(client, one.result.run)

    events = [event for message in listener.heard[f"event/main/run/{run}"] for event in message["events"]]
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert len(listener.heard[ended]) == 1, "what was over is left as it is"
    assert seen.result is not None
    assert seen.result.state == "done"
