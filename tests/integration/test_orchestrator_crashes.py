"""An executor with a bug costs its own run, which is answered, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.executor import Work
from services.orchestrator.plan import Values
from tests.conftest import Eventually
from tests.integration.gateway_site import listening
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_limits import types
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

CALL = {"nodes": {"home": {"type": "call", "device": "servo", "function": "home"}}}
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
