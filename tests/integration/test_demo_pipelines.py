"""The demo plant's pipelines, each branch of them, with stand-ins for what the plant does by itself too seldom.

They run by command. Their waits and alarms' delays are a tenth of what the files say.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from pydantic import JsonValue

from contracts.v1.alarm import ACK_ALARM, AckAlarm
from contracts.v1.command import READ, WRITE, Read, ReadResult, Write, WriteResult
from contracts.v1.message import Value
from contracts.v1.tag import TAG, TagValue
from examples.plant.accelerometer import block
from services.cli.site import EXAMPLES
from services.compute.settings import ComputeSettings
from services.orchestrator.settings import OrchestratorLimits
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.settings import Rate
from tests.integration.compute_site import serving
from tests.integration.gateway_site import Listener, listening, running_gateway
from tests.integration.orchestrator_site import Running, run_pipeline, running_orchestrator
from tests.polling import until
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

PLANT = EXAMPLES / "plant"
OFTEN = OrchestratorLimits(acts=Rate(rate=10_000, burst=10_000))  # a test asks again at once, however fast the machine


def definition(name: str, triggers: list[dict[str, str]] | None = None, **defaults: JsonValue) -> dict[str, Any]:
    """The file's content with other triggers and other defaults of its inputs."""
    text = (PLANT / "pipelines" / f"{name}.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(re.sub(r"\b(delay|duration): (\d)s", r"\1: \g<2>00ms", text))
    del content["pipeline"]
    content["triggers"] = triggers or []
    for field, value in defaults.items():
        content["inputs"][field]["default"] = value
    return content


class Plant:
    """Somebody at the plant, who also tells what its machines would tell."""

    def __init__(self, bus: Bus, listener: Listener, orchestrator: Running) -> None:
        self.bus = bus
        self.listener = listener
        self.orchestrator = orchestrator

    async def tell(self, tag: str, value: Value, q: int = 192) -> None:
        """The tag has this value from now on, as the orchestrator knows too; bad without one."""
        device, name = tag.split("/")
        known = self.orchestrator.orchestrator.tags
        told = TagValue(value=value, ts=1, q=q if value is not None else 0, seen=1)
        self.bus.retain(TAG, told, device=device, tag=name)
        await until(lambda: (now := known.last(device, name)) is not None and now.value == value, 30)

    async def run(self, name: str, **inputs: JsonValue) -> dict[str, JsonValue]:
        """What a run of the pipeline gives."""
        outcome = await run_pipeline(self.bus, name, inputs)
        assert outcome.result is not None, outcome.error
        assert outcome.result.outputs is not None
        return outcome.result.outputs

    def alarm(self, pipeline: str, name: str) -> str:
        """The alarm's state; normal while nothing was told of it."""
        state: str = self.listener.last(f"alarm/main/{pipeline}/{name}").get("state", "normal")
        return state

    async def until_alarm(self, pipeline: str, name: str, state: str) -> None:
        await self.listener.until(lambda: self.alarm(pipeline, name) == state)


@asynccontextmanager
async def plant(broker: Broker, folder: Path) -> AsyncIterator[Plant]:
    bus = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, folder, limits=OFTEN) as site, running(bus):
        yield Plant(bus, listener, site)


async def test_the_set_point_of_the_tank_follows_the_speed_of_the_line(broker: Broker, tmp_path: Path) -> None:
    written: list[Value] = [60.0]

    async def read(_: Delivery[Read]) -> ReadResult:
        return ReadResult(t=1, values={"level-set-point": written[-1]})

    async def write(command: Delivery[Write]) -> WriteResult:
        written.append(command.payload.value)
        return WriteResult(tag="level-set-point", value=written[-1], read_back=written[-1], t=1)

    async with plant(broker, tmp_path) as at:
        at.bus.serve(READ, read, id="filler-plc")
        at.bus.serve(WRITE, write, id="filler-plc")
        await at.bus.settled()
        await at.orchestrator.save("tank-level", definition("tank-level"))
        for bottles_per_minute in (250, 255, 0, 100, 400, None, 40):
            await at.tell("filler-plc/bottles-per-minute", bottles_per_minute)
            await at.run("tank-level")

    # 250 wants the 60 % that are there, 255 only half a percent more, of an unknown speed nothing follows.
    assert written == [60.0, 35.0, 45.0, 65.0, 39.0]


async def test_without_compressed_air_the_batch_waits_and_then_goes_on(broker: Broker, tmp_path: Path) -> None:
    servo = yaml.safe_load((PLANT / "devices" / "servo.yaml").read_text(encoding="utf-8"))
    del servo["device"]
    async with plant(broker, tmp_path) as at, running_gateway(broker, tmp_path, {"servo": servo}):
        await at.listener.until(lambda: at.listener.last("tag/servo/homed").get("value") is False)
        await at.tell("energy-meter/air-pressure", 4.0)
        await at.orchestrator.save("cap-batch", definition("cap-batch"))
        batch = asyncio.create_task(at.run("cap-batch", caps=2, stroke=5))
        await at.listener.until(lambda: executed(at.listener, "batch[1].wait"))
        assert not executed(at.listener, "batch[0].press")
        assert executed(at.listener, "home")
        await at.tell("energy-meter/air-pressure", None)
        before = number_of_rounds(at.listener)
        await at.listener.until(lambda: executed(at.listener, f"batch[{before + 1}].wait"))
        await at.tell("energy-meter/air-pressure", 6.5)
        given = await batch
        again = await at.run("cap-batch", caps=1, stroke=5)

    assert given["pressed"] == 2
    assert isinstance(given["rounds"], int)
    assert given["rounds"] >= 5
    assert again == {"pressed": 1, "rounds": 1}
    assert len([node for node in executions(at.listener) if node == "home"]) == 1  # it has kept its reference


def executions(listener: Listener) -> list[str]:
    """The nodes that were executed, in their order, of all runs."""
    messages = [
        one for topic, heard in tuple(listener.heard.items()) if topic.startswith("event/main/run/") for one in heard
    ]
    events = [event for message in messages for event in message["events"]]
    return [event["data"]["node"] for event in events if event["type"] == "node.executing"]


def executed(listener: Listener, node: str) -> bool:
    return node in executions(listener)


def number_of_rounds(listener: Listener) -> int:
    return max(int(found[1]) for node in executions(listener) if (found := re.match(r"batch\[(\d+)\]", node)))


async def test_alarms_of_the_pasteuriser_are_raised_clear_and_stay_until_they_are_acknowledged(
    broker: Broker, tmp_path: Path
) -> None:
    async with plant(broker, tmp_path) as at:
        await at.orchestrator.save("watch", definition("pasteuriser-watch"))
        await at.tell("pasteuriser/set-point", 72.0)
        for celsius, alarm in ((68.5, "product-too-cold"), (75.5, "product-too-hot"), (None, "pasteuriser-sensor")):
            await at.tell("pasteuriser/temperature", celsius)
            await at.run("watch")
            await at.until_alarm("watch", alarm, "active_unacked")
        assert at.alarm("watch", "product-too-cold") == "cleared_unacked"
        assert at.alarm("watch", "product-too-hot") == "active_unacked"  # as it was before nothing was known any more

        await at.tell("pasteuriser/temperature", 72.0)
        await at.run("watch")
        await at.until_alarm("watch", "pasteuriser-sensor", "cleared_unacked")
        await at.until_alarm("watch", "product-too-hot", "cleared_unacked")
        for alarm in ("product-too-cold", "product-too-hot", "pasteuriser-sensor"):
            await at.bus.request(ACK_ALARM, AckAlarm(), user="anna", scope="main", id=alarm)
            await at.until_alarm("watch", alarm, "normal")


async def test_the_effectiveness_is_that_of_time_bottles_and_rejects(broker: Broker, tmp_path: Path) -> None:
    async def looked() -> dict[str, Any]:
        """The state of a run by command, so that no value changes meanwhile; the next one knows what it counted."""
        outcome = await run_pipeline(at.bus, "line-oee")
        assert outcome.result is not None, outcome.error
        topic = f"run/main/line-oee/{outcome.result.run}"
        await at.listener.until(lambda: at.listener.last(topic).get("outputs"))
        state: dict[str, Any] = at.listener.last(topic)
        kept, known = state["nodes"]["keep"]["output"]["value"], at.orchestrator.orchestrator.tags
        await until(lambda: (count := known.last("line", "count")) is not None and count.value == kept, 30)
        return state

    async def told() -> dict[str, Any]:
        """The next run that tells an effectiveness."""
        while (state := await looked())["outputs"]["oee"] is None:
            continue
        return state

    async with plant(broker, tmp_path) as at, serving(broker, tmp_path, form=ComputeSettings):
        for tag, value in (("line-state", 2), ("bottles-total", 1000), ("bottles-rejected", 7)):
            await at.tell(f"filler-plc/{tag}", value)
        await at.orchestrator.save("line-oee", definition("line-oee", seconds=1))
        await looked()
        await at.tell("filler-plc/bottles-total", 1004)
        await at.tell("filler-plc/bottles-rejected", 8)
        first = await told()
        await at.tell("filler-plc/line-state", 0)
        stopped = await told()
        await at.tell("filler-plc/bottles-total", None)
        unknown = await at.run("line-oee")

    outputs, planned_s = first["outputs"], first["nodes"]["planned"]["output"]["value"]
    assert planned_s >= 1
    assert (outputs["availability"], outputs["bottles"]) == (100.0, 4)
    assert outputs["oee"] == pytest.approx(100 * 0.24 * 3 / planned_s)
    assert outputs["oee"] in [told["value"] for told in at.listener.heard["tag/line/oee"]]
    assert stopped["outputs"] == {"oee": 0.0, "availability": 0.0, "bottles": 0}
    assert unknown == {"oee": None, "availability": None, "bottles": None}


async def test_the_spectrum_of_the_pump_tells_a_bearing_from_an_impeller(broker: Broker, tmp_path: Path) -> None:
    random = Random(1)

    async def looked(*, wear: float = 0.02, clogged: bool = False, speed: float = 0.7) -> dict[str, Any]:
        await at.tell("filler-plc/pump-speed", 100 * speed)
        samples = block(random, speed=speed, wear=wear, clogged=clogged)
        await at.tell("pasteuriser/pump-acceleration", samples)
        return await at.run("pump-vibration")

    def alarms() -> tuple[str, str]:
        return at.alarm("pump-vibration", "pump-bearing"), at.alarm("pump-vibration", "pump-impeller")

    async def until_alarms(bearing: str, impeller: str) -> None:
        await at.listener.until(lambda: alarms() == (bearing, impeller))

    async with plant(broker, tmp_path) as at, serving(broker, tmp_path, form=ComputeSettings):
        await at.orchestrator.save("pump-vibration", definition("pump-vibration"))
        for speed in (0.45, 0.7, 1.0):
            new = await looked(speed=speed)
            assert abs(new["bearing"]) < 5
            assert abs(new["impeller"]) < 5
            assert (new["worn"], new["clogged"]) == (False, False)
        assert alarms() == ("normal", "normal")

        worn = await looked(wear=0.3)
        await until_alarms("active_unacked", "normal")
        clogged = await looked(clogged=True)
        await until_alarms("cleared_unacked", "active_unacked")
        stands = await looked(clogged=True, speed=0.0)
        assert alarms() == ("cleared_unacked", "active_unacked")
        both = await looked(wear=0.5, clogged=True)
        await until_alarms("active_unacked", "active_unacked")
        await looked()
        await until_alarms("cleared_unacked", "cleared_unacked")

    assert worn["bearing"] > 10 > worn["impeller"]
    assert clogged["impeller"] > 10 > clogged["bearing"]
    assert clogged["order"] == pytest.approx(1, abs=0.2)  # once a turn
    assert worn["order"] == pytest.approx(5, abs=0.2)  # its vanes, as ever
    assert (both["worn"], both["clogged"]) == (True, True)
    assert set(stands.values()) == {None}
    assert at.listener.last("tag/pump/bearing")["unit"] == "sd"
