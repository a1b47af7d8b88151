"""Runs that read, write and call real devices, through a real broker and a real gateway."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.command import WRITE, Write
from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.runtime.bus.bus import Bus
from tests.integration.gateway_site import Listener, listening, modbus_device, running_gateway
from tests.integration.orchestrator_site import Running, orchestrator_process, run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_limits import types
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

TAGS = {
    "speed": {"address": "holding:10", "type": "float32", "unit": "rpm", "range": [0, 100], "writable": True},
    "level": {"address": "holding:30", "type": "float32"},
}
SERVO = {"driver": "mock_servo", "writes": "enabled", "groups": {"fast": {"interval": "50ms", "tags": {}}}}
CONTROL = {
    "nodes": {
        "level": {"type": "read", "tag": "pump/level", "source": "device"},
        "last": {"type": "read", "tag": "pump/level"},
        "wanted": {"type": "expression", "expression": "x * 2", "inputs": {"x": "level.value"}},
        "set": {"type": "write", "tag": "pump/speed", "inputs": {"value": "wanted.value"}},
        "line": {"type": "derive", "tag": "pump-line/wanted", "unit": "rpm", "inputs": {"value": "wanted.value"}},
    },
    "outputs": {"level": "level.value", "last": "last.value", "read-back": "set.read_back"},
}


def pump(port: int) -> dict[str, Any]:
    return modbus_device(port, TAGS, timeout="500ms", writes="enabled")


@asynccontextmanager
async def pump_plant(
    broker: Broker, folder: Path, plc: ModbusSimulator, client: Bus
) -> AsyncIterator[tuple[Listener, Running]]:
    """A gateway whose pump is known, an orchestrator and this client at work; who listens, and the orchestrator."""
    async with (
        listening(broker) as listener,
        running_gateway(broker, folder, {"pump": pump(plc.port)}),
        running_orchestrator(broker, folder) as site,
        running(client),
    ):
        await known(listener)
        yield listener, site


@asynccontextmanager
async def pump_gateway(broker: Broker, folder: Path, plc: ModbusSimulator, client: Bus) -> AsyncIterator[Listener]:
    """A gateway whose pump is known, and this client at work; who listens."""
    async with (
        listening(broker) as listener,
        running_gateway(broker, folder, {"pump": pump(plc.port)}),
        running(client),
    ):
        await known(listener)
        yield listener


async def known(listener: Listener) -> None:
    """Returns once the device's tags are there."""
    await listener.until(lambda: listener.last("tag/pump/level").get("value") is not None)


async def test_a_pipeline_reads_a_device_and_writes_in_the_name_of_who_saved_it(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    unit.set_value("holding:30", ValueType.FLOAT32, 21.0)
    client = make_bus(broker, "anna-console")
    async with pump_plant(broker, tmp_path, plc, client) as (listener, site):
        await site.save("control", CONTROL, by="bert")
        outcome = await run_pipeline(client, "control")
        await listener.until(lambda: listener.last("tag/pump-line/wanted"))
        written = "event/plant/device/pump"
        await listener.until(
            lambda: any(e["type"] == "write.done" for m in listener.heard[written] for e in m["events"])
        )

    assert outcome.result is not None, outcome.error
    assert outcome.result.outputs == {"level": 21.0, "last": 21.0, "read-back": 42.0}
    assert unit.value("holding:10", ValueType.FLOAT32) == 42.0
    assert listener.last("tag/pump-line/wanted")["value"] == 42.0
    events = [event for message in listener.heard[written] for event in message["events"]]
    (done,) = [event for event in events if event["type"] == "write.done"]
    assert (done["user"], done["data"]["by"]) == ("bert", "orchestrator")


@pytest.mark.parametrize(
    ("value", "device", "timeout", "code"),
    [(500.0, "pump", "20s", "out_of_range"), (5.0, "pomp", "500ms", "timeout")],
)
async def test_what_a_gateway_refuses_fails_the_run_with_its_reason_and_is_not_tried_again(
    broker: Broker, plc: ModbusSimulator, tmp_path: Path, value: float, device: str, timeout: str, code: str
) -> None:
    set_speed = {"type": "write", "tag": f"{device}/speed", "constants": {"value": value}, "timeout": timeout}
    client = make_bus(broker, "anna-console")
    async with pump_plant(broker, tmp_path, plc, client) as (_, site):
        await site.save("control", {"nodes": {"set": set_speed}})
        outcome = await run_pipeline(client, "control")

    assert outcome.error is not None
    assert outcome.error.code == code
    assert outcome.error.detail["node"] == "set"


def events(listener: Listener, aggregate: str, type_: str) -> list[dict[str, Any]]:
    """The data of all events of this type, of a pipeline, run or device."""
    topics = [topic for topic in listener.heard if f"/{aggregate}/" in topic and topic.startswith("event/")]
    heard = (event for topic in topics for message in listener.heard[topic] for event in message["events"])
    return [event["data"] for event in heard if event["type"] == type_]


async def test_a_kill_in_the_midst_of_a_run_that_writes_is_told_and_no_write_is_repeated(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    follow = {
        "pipeline": "follow",
        "triggers": [{"tag": "pump/level", "deliver": "every"}],
        "nodes": {
            "set": {"type": "write", "tag": "pump/speed", "inputs": {"value": "trigger.value"}},
            "rest": {"type": "delay", "duration": "30s", "after": ["set"]},
            "back": {"type": "write", "tag": "pump/speed", "constants": {"value": 1.0}, "after": ["rest"]},
        },
    }
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/follow.json").write_text(json.dumps(follow))
    unit.set_value("holding:30", ValueType.FLOAT32, 21.0)

    def accepted() -> list[float]:
        return [data["value"] for data in events(listener, "device", "write.accepted")]

    def runs() -> list[str]:
        return [topic for topic in listener.heard if topic.startswith("event/main/run/")]

    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await known(listener)
        with orchestrator_process(broker, tmp_path):
            await listener.until(lambda: events(listener, "device", "write.done") and runs())
        (topic,) = runs()
        async with running_orchestrator(broker, tmp_path, drain_runs="100ms"):
            await listener.until(lambda: types(listener, topic.rpartition("/")[2])[-1] == "run.failed")
            await listener.until(lambda: events(listener, "pipeline", "trigger.not_repeated"))
            unit.set_value("holding:30", ValueType.FLOAT32, 33.0)
            await listener.until(lambda: len(events(listener, "device", "write.done")) == 2)

    assert accepted() == [21.0, 33.0]
    (failed,) = events(listener, "run", "run.failed")
    assert failed["error"]["message"] == "the orchestrator was stopped while it ran"


async def test_frames_that_a_killed_broker_has_lost_are_asked_for_at_the_gateway_and_run(
    broker: Broker, plc: ModbusSimulator, tmp_path: Path
) -> None:
    each = {
        "triggers": [{"frame": "pump/fast", "deliver": "every"}],
        "nodes": {"one": {"type": "expression", "expression": "1"}},
    }
    device = {"pump": modbus_device(plc.port, TAGS, interval="50ms")}

    def latest() -> int:
        return int(listener.last("frame/pump/fast")["seq"])

    def run() -> list[int]:
        return sorted(data["trigger"]["seq"] for data in events(listener, "run", "run.started"))

    async with listening(broker) as listener, running_gateway(broker, tmp_path, device):
        async with running_orchestrator(broker, tmp_path) as first:
            await first.save("each", each)
            await first.orchestrator.triggers.settled()
            await listener.until(run)
        away = latest()
        await listener.until(lambda: latest() > away + 3)  # they wait at the broker for the orchestrator
        broker.kill()
        lost = latest()
        broker.start()
        await listener.until(lambda: latest() > lost, 30)
        async with running_orchestrator(broker, tmp_path):
            await listener.until(lambda: run()[-1:] > [lost] and run() == list(range(run()[0], run()[-1] + 1)), 30)

    assert events(listener, "pipeline", "trigger.gap")
    assert not events(listener, "pipeline", "trigger.lost")


async def test_only_a_service_may_act_on_behalf_of_somebody(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with pump_gateway(broker, tmp_path, plc, client):
        write = Write(value=7.0, on_behalf_of="bert")
        outcome = await client.request(WRITE, write, user="anna", id="pump", arg="speed")

    assert outcome.error is not None
    assert outcome.error.code == "forbidden"
    assert unit.value("holding:10", ValueType.FLOAT32) == 50.0
