"""Runs whose nodes a real compute service computes, and functions called by name."""

import asyncio
from functools import partial
from pathlib import Path

from contracts.v1.pipeline import WORKSPACE
from contracts.v1.policy import Rights, Role
from contracts.v1.task import CALL_FUNCTION, CallFunction, FunctionResult
from services.orchestrator.desks.functions import MOST_CALLS, MOST_OF_A_USER
from services.runtime.bus.bus import Outcome
from tests.conftest import Eventually
from tests.integration.compute_site import serving
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_limits import cancel
from tests.policies import OPEN
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

ECHO = {
    "nodes": {
        "echo": {"type": "compute", "function": "echo", "constants": {"x": 2.5}},
        "sum": {"type": "expression", "expression": "x + 1", "inputs": {"x": "echo.x"}},
    },
    "outputs": {"sum": "sum.value"},
}
BROKEN = {"nodes": {"bad": {"type": "compute", "function": "broken", "retry": {"tries": 1}}}}
STUCK = {"nodes": {"wait": {"type": "compute", "function": "wait", "inputs": {"folder": "inputs.folder"},
                            "constants": {"name": "one"}}},
         "inputs": {"folder": {"type": "string"}}}  # fmt: skip


def begun(folder: Path) -> list[str]:
    """The processes that have begun to wait."""
    return [path.name.split(".")[1] for path in folder.glob("one.*.begun")]


async def test_a_compute_node_gives_what_its_function_gives(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")
    async with serving(broker, tmp_path), running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("echo", ECHO)
        await site.save("broken", BROKEN)
        done, failed = await run_pipeline(client, "echo"), await run_pipeline(client, "broken")
        called = await client.request(
            CALL_FUNCTION, CallFunction(inputs={"x": 4.0}), user="anna", scope=WORKSPACE, id="echo"
        )
        refused = await client.request(CALL_FUNCTION, CallFunction(), user="anna", scope=WORKSPACE, id="echo")

    assert done.result is not None, done.error
    assert done.result.outputs == {"sum": 3.5}
    assert failed.error is not None
    assert failed.error.code == "compute_failed"
    assert called.result is not None, called.error
    assert called.result.outputs == {"x": 4.0}
    assert refused.error is not None
    assert refused.error.code == "invalid"


async def test_a_cancelled_run_stops_the_worker_that_computes_for_it(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    client = make_bus(broker, "anna-console")
    async with serving(broker, tmp_path), running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("stuck", STUCK)
        await site.save("echo", ECHO)
        accepted = await run_pipeline(client, "stuck", {"folder": str(tmp_path)}, wait=False)
        assert accepted.result is not None, accepted.error
        await eventually(lambda: begun(tmp_path))
        worker = Path("/proc") / begun(tmp_path)[0]
        await cancel(client, accepted.result.run)
        await eventually(lambda: not worker.exists())
        done = await run_pipeline(client, "echo")

    assert done.result is not None, done.error


async def test_long_calls_of_one_user_hold_up_nobody_else_and_are_bounded(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    client = make_bus(broker, "clients")
    wait = CallFunction(inputs={"folder": str(tmp_path), "name": "one"})
    users = [f"user-{number}" for number in range(MOST_CALLS // MOST_OF_A_USER - 1)]
    broker.publish_policy({**OPEN, **dict.fromkeys(users, Rights(role=Role.ENGINEER))})

    def call(user: str) -> "asyncio.Task[Outcome[FunctionResult]]":
        asked = client.request(CALL_FUNCTION, wait, user=user, scope=WORKSPACE, id="wait", timeout_s=20)
        return asyncio.create_task(asked)

    async def echo(user: str) -> Outcome[FunctionResult]:
        asked = CallFunction(inputs={"x": 4.0})
        return await client.request(CALL_FUNCTION, asked, user=user, scope=WORKSPACE, id="echo", timeout_s=20)

    async with serving(broker, tmp_path, workers=2) as service, running_orchestrator(broker, tmp_path), running(client):
        tasks = partial(service.metric, "databus_messages_total", direction="received", **{"class": "TASK"})
        long = [call("anna") for _ in range(MOST_OF_A_USER)]
        await eventually(lambda: tasks() >= MOST_OF_A_USER)
        again, other = await echo("anna"), await echo("bert")
        long += [call(user) for user in users for _ in range(MOST_OF_A_USER)]
        await eventually(lambda: tasks() > MOST_CALLS)
        late = await echo("bert")
        (tmp_path / "one.end").touch()
        done = await asyncio.gather(*long)
        free = await echo("anna")

    assert again.error is not None
    assert again.error.code == "rate_limited"
    assert other.result is not None, other.error
    assert late.error is not None
    assert late.error.code == "unavailable"
    assert [outcome.error for outcome in done] == [None] * MOST_CALLS
    assert free.result is not None, free.error
