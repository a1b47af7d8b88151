"""Tags that pipelines derive, and those whose they turn out to be later: a gateway's device, another workspace."""

import json
from pathlib import Path
from typing import Any

from contracts.v1.command import ErrorCode
from contracts.v1.definition import revision
from contracts.v1.pipeline import RUN_PIPELINE, SAVE_PIPELINE, RunPipeline, SavePipeline
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.orchestrator.pipelines.definitions import parse_definition
from services.orchestrator.pipelines.version import Draft
from services.runtime.bus.bus import Bus, Outcome
from tests.integration.gateway_site import Listener, listening, running_gateway
from tests.integration.orchestrator_site import Running, run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_devices import pump
from tests.real_broker import Broker
from tests.real_bus import make_bus, running


def deriving(tag: str, value: float) -> dict[str, Any]:
    return {"nodes": {"told": {"type": "derive", "tag": tag, "constants": {"value": value}}}}


def values(listener: Listener, tag: str) -> list[Any]:
    return [one["value"] for one in listener.heard[f"tag/{tag}"]]


def refusals(site: Running) -> float:
    return site.metric("dropped_items_total", queue="derived_tags", reason="foreign")


async def test_a_derived_tag_gives_way_to_a_device_that_comes_later(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        running_orchestrator(broker, tmp_path) as site,
        running(client),
    ):
        await site.save("spy", deriving("pump/level", 99.0))
        before = await run_pipeline(client, "spy")
        await listener.until(lambda: values(listener, "pump/level") == [99.0])
        async with running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
            await listener.until(lambda: listener.heard["device/pump/info"])
            await listener.until(lambda: values(listener, "pump/level")[-1] == 0.0)
            heard = len(values(listener, "pump/level"))
            site.orchestrator._use.bus.retain_again()
            after = await run_pipeline(client, "spy")
            await site.save("mark", deriving("line/mark", 1.0))
            await run_pipeline(client, "mark")
            await listener.until(lambda: values(listener, "line/mark"))
            later = values(listener, "pump/level")[heard:]
        counted = refusals(site)

    assert before.ok, before.error
    assert after.error is not None
    assert after.error.code is ErrorCode.CONFLICT
    assert "pump/level is not published: 'pump' is a device of a gateway by now" in after.error.message
    assert "such as line/oee" in after.error.message
    assert 99.0 not in later, "nor is the last one published again, over the device's"
    assert counted == 1


async def test_a_tag_that_one_workspace_derives_another_one_does_not(broker: Broker, tmp_path: Path) -> None:
    client = make_bus(broker, "anna-console")

    async def save(scope: str, name: str) -> Outcome[Any]:
        text = json.dumps({"pipeline": name, **deriving("line/fill", 1.0)})
        return await client.request(
            SAVE_PIPELINE, SavePipeline(definition=text), user="anna", scope=scope, id=name, timeout_s=30
        )

    async with listening(broker) as listener, running_orchestrator(broker, tmp_path) as site, running(client):
        first, second, same = await save("main", "fill"), await save("north", "spy"), await save("main", "spy")
        await _save_unchecked(site, "north", "spy", deriving("line/fill", 66.0))
        ran = [await _run(client, "main", "fill"), await _run(client, "north", "spy")]
        await listener.until(lambda: values(listener, "line/fill"))
        heard, counted = values(listener, "line/fill"), refusals(site)

    assert first.ok, first.error
    assert [one.error and one.error.code for one in (second, same)] == [ErrorCode.INVALID] * 2
    assert second.error is not None
    assert "line/fill is derived by a pipeline of another workspace" in second.error.message
    assert "fill'" not in second.error.message, "its name is the other workspace's"
    assert ran[0].ok, ran[0].error
    assert ran[1].error is not None
    assert ran[1].error.code is ErrorCode.CONFLICT
    assert "a pipeline of another workspace derives it; name another tag" in ran[1].error.message
    assert heard == [1.0]
    assert counted == 1


async def _save_unchecked(site: Running, scope: str, name: str, content: dict[str, Any]) -> None:
    """As one that was saved before this was checked."""
    text = json.dumps({"pipeline": name, **content})
    draft = Draft(scope=scope, pipeline=name, text=text, rev=revision(parse_definition(text)))
    await site.orchestrator.repository.save(draft, by="anna", at_ms=1 << 50)


async def _run(client: Bus, scope: str, name: str) -> Outcome[Any]:
    return await client.request(RUN_PIPELINE, RunPipeline(wait=True), user="anna", scope=scope, id=name, timeout_s=30)
