"""An executor with a bug costs its own run, which is answered, and nothing else."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import ContractError
from services.orchestrator.engine.executor import Work
from services.orchestrator.run.plan import Values
from tests.conftest import Eventually
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_limits import types
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

CALL: dict[str, Any] = {"nodes": {"home": {"type": "call", "device": "servo", "function": "home"}}}
ONE = {"nodes": {"one": {"type": "expression", "expression": "1"}}, "outputs": {"one": "one.value"}}


async def crashes(_work: Work) -> Values:
    raise ZeroDivisionError("a bug that takes its time")


def crashes_at_once(_work: Work) -> Values:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(("way", "bug"), [("lasting", crashes), ("instant", crashes_at_once)])
async def test_a_bug_in_an_executor_fails_its_run_alone(
    broker: Broker, tmp_path: Path, eventually: Eventually, way: str, bug: Any
) -> None:
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("home", CALL)
        await site.save("one", ONE)
        getattr(site.orchestrator.engine._use.executors, way)["call"] = bug
        crashed = await run_pipeline(client, "home")
        await eventually(lambda: site.running_runs == 0)
        await listener.until(lambda: [t for t in listener.heard if t.startswith("run/main/home/")])
        (topic,) = [topic for topic in listener.heard if topic.startswith("run/main/home/")]
        await listener.until(lambda: types(listener, topic.rpartition("/")[2])[-1:] == ["run.failed"])
        done = await run_pipeline(client, "one")

    assert crashed.error is not None
    assert crashed.error.code == "internal"
    assert {line["event"] for line in site.log.lines} & {"node_crashed", "child_crashed"}
    assert done.result is not None, done.error
    assert done.result.outputs == {"one": 1}


async def gives_nothing(_work: Work) -> Values:
    return {}


def refusing(tell_step: Callable[..., str], type_: str) -> Callable[..., str]:
    """Tells as this does, but for one type of event, which is found to be no message."""

    def tell(subject: object, happened: Sequence[tuple[str, Any]], **more: Any) -> str:
        if any(told == type_ for told, _ in happened):
            raise ContractError(f"{type_} is too long")
        return tell_step(subject, happened, **more)

    return tell


THEN = {"then": {"type": "delay", "duration": "1s", "after": ["home"]}}


@pytest.mark.parametrize("more", [{}, THEN], ids=["at-its-end", "on-its-way"])
async def test_a_run_of_which_something_cannot_be_told_fails_and_frees_its_place(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        running_orchestrator(broker, tmp_path, runs=1) as site,
        running(client),
    ):
        await site.save("home", {"nodes": {**CALL["nodes"], **more}})
        await site.save("one", ONE)
        events = site.orchestrator._use.events
        with monkeypatch.context() as patched:
            patched.setitem(site.orchestrator.engine._use.executors.lasting, "call", gives_nothing)
            patched.setattr(events, "tell_step", refusing(events.tell_step, "node.completed"))
            untold = await run_pipeline(client, "home")
        done = await run_pipeline(client, "one")
        assert untold.error is not None
        run = str(untold.error.detail["run"])
        await listener.until(lambda: listener.last(f"run/main/home/{run}").get("state") == "failed")
        await listener.until(lambda: types(listener, run)[-1:] == ["run.failed"])
        assert done.result is not None, done.error
        one = done.result.run
        await listener.until(lambda: types(listener, one)[-1:] == ["run.completed"])
        versions = [e["version"] for m in listener.heard[f"event/main/run/{run}"] for e in m["events"]]

    assert (untold.error.code, "cannot be told" in untold.error.message) == ("internal", True)
    assert versions == list(range(1, len(versions) + 1))
    numbers = stream_of(listener)
    assert numbers == list(range(1, len(numbers) + 1)), "no gap"


async def test_a_run_ends_and_frees_its_place_even_if_nothing_of_it_can_be_told(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise ContractError("no")

    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path, runs=1) as site, running(client):
        await site.save("slow", {"nodes": {"wait": {"type": "delay", "duration": "1s"}}, "limits": {"timeout": "30s"}})
        await site.save("one", ONE)
        accepted = await run_pipeline(client, "slow", wait=False)
        assert accepted.result is not None
        run = accepted.result.run
        with monkeypatch.context() as patched:
            patched.setattr(site.orchestrator.engine._use.chronicle, "tell", refuse)
            await eventually(lambda: site.running_runs == 0)
        await listener.until(lambda: listener.last(f"run/main/slow/{run}").get("state") == "failed")
        done = await run_pipeline(client, "one")

    assert done.result is not None, done.error


def stream_of(listener: Listener) -> list[int]:
    """The sequence numbers of all event messages of the orchestrator."""
    heard = [
        message for topic, messages in listener.heard.items() if topic.startswith("event/") for message in messages
    ]
    return sorted(message["seq"] for message in heard)
