"""The fail-safe value of a tag: written by the gateway when who wrote last is silent or dead, and not otherwise."""

import asyncio

from contracts.v1.device import ValueType
from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from plugins.drivers.modbus.simulator import ModbusSimulator, Unit
from tests.integration.gateway_site import listening, modbus_device, running_gateway
from tests.integration.ledger import events, online, told, write

SPEED = "tag/pump/speed"


def pump(port, *, after, **more):
    speed = {"address": "holding:10", "type": "float32", "range": [0, 100], "writable": True, "min_interval": "1ms"}
    tags = {
        "speed": {**speed, "fail_safe": {"value": 5, "after": after}},
        "remote-mode": {"address": "coil:2", "type": "bool"},
    }
    return modbus_device(port, tags, interval="50ms", timeout="1s", writes="enabled", **more)


def presence(state, instance="orchestrator"):
    return ServiceState(state=state, sid="s1", since=1, version="1", instance=instance)


async def test_silence_brings_the_tag_to_its_fail_safe_value_once(broker, plc, unit, tmp_path):
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port, after="300ms")}),
    ):
        await online(listener)
        assert unit.writes == 0, "nobody has written yet: there is nobody to be silent"
        await write(listener, "speed", 60.0)
        await listener.until(lambda: listener.last(SPEED).get("value") == 5.0)
        await listener.until(lambda: told(listener).count("write.done") == 2)
        await write(listener, "speed", 70.0)
        await listener.until(lambda: told(listener).count("write.done") == 4)

    assert unit.writes == 4
    safe = events(listener)[7]
    assert (safe["type"], safe["user"]) == ("write.done", "gateway")
    assert safe["data"] == {"tag": "speed", "value": 5, "fail_safe": "silence of anna", "read_back": 5.0}


async def test_who_goes_on_writing_keeps_the_fail_safe_value_away(broker, plc, unit, tmp_path):
    written = []
    unit.on_write = lambda access: written.append(unit.value("holding:10", ValueType.FLOAT32))
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port, after="2s")}):
        await online(listener)
        for value in range(20):
            await write(listener, "speed", float(value))
        values = list(written)
        await listener.until(lambda: listener.last(SPEED).get("value") == 5.0)

    assert values == [float(value) for value in range(20)]


async def test_the_death_of_the_writing_service_brings_it_at_once(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port, after="1h")}):
        await online(listener)
        for instance in ("orchestrator", "standby"):
            await publish(listener, ServiceStatus.ONLINE, instance)
        await write(listener, "speed", 60.0, user="orchestrator")
        await publish(listener, ServiceStatus.OFFLINE, "standby")
        await write(listener, "speed", 61.0, user="orchestrator")
        assert unit.writes == 2, "another instance of the service is alive"
        await publish(listener, ServiceStatus.OFFLINE, "orchestrator")
        await listener.until(lambda: listener.last(SPEED).get("value") == 5.0)

    assert events(listener)[-1]["data"]["fail_safe"] == "offline of orchestrator"


async def test_a_gateway_that_starts_again_goes_on_watching(broker, plc, unit, tmp_path):
    device = {"pump": pump(plc.port, after="300ms")}
    off = {"pump": pump(plc.port, after="1h")}
    async with listening(broker) as listener:
        async with running_gateway(broker, tmp_path, off):
            await online(listener)
            await write(listener, "speed", 60.0)
        async with running_gateway(broker, tmp_path, device):
            await listener.until(lambda: listener.last(SPEED).get("value") == 5.0)

    assert unit.writes == 2


async def test_a_device_in_local_control_or_away_gets_it_when_it_can_be_written(broker, plc, unit, tmp_path):
    device = pump(plc.port, after="200ms", remote={"tag": "remote-mode", "equals": True})
    unit.coil[2] = True
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": device}, retry_first="50ms", retry_longest="100ms"),
    ):
        await online(listener)
        await write(listener, "speed", 60.0)
        unit.silent = True
        await listener.until(lambda: listener.last("device/pump/state").get("state") == "offline")
        unit.silent = False
        await listener.until(lambda: listener.last(SPEED).get("value") == 5.0)
        unit.coil[2] = False
        refused = await write(listener, "speed", 70.0)

    assert refused.error.code == "precondition_failed"
    assert unit.value("holding:10", ValueType.FLOAT32) == 5.0


async def test_a_write_that_was_refused_leaves_nobody_in_charge(broker, plc, unit, tmp_path):
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port, after="100ms")}),
    ):
        await online(listener)
        refused = await write(listener, "speed", 60.0, expect={"speed": 1.0})
        frames = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)

    assert refused.error.code == "precondition_failed"
    assert unit.writes == 0
    assert told(listener) == ["write.accepted", "write.failed"]


async def test_who_comes_back_while_the_fail_safe_value_waits_is_not_overwritten(broker, plc, unit, tmp_path):
    device = pump(plc.port, after="1s")
    device["connection"]["timeout"] = "5s"
    device["groups"]["fast"]["interval"] = "1h"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}) as running:
        await online(listener)
        await write(listener, "speed", 60.0)
        unit.delay_s = 1.5
        unit.asked.clear()
        back = asyncio.create_task(write(listener, "speed", 61.0, expect={"speed": 60.0}))
        await unit.asked.wait()
        await running.until_logged("fail_safe")
        unit.delay_s = 0.0
        await back
        await listener.until(lambda: told(listener).count("write.done") == 3)

    values = [event["data"]["value"] for event in events(listener) if event["type"] == "write.done"]
    assert values == [60.0, 61.0, 5]
    assert len([line for line in running.log.lines if line["event"] == "fail_safe"]) == 2, "once in vain, once in time"


async def test_a_device_that_does_not_answer_holds_up_the_fail_safe_value_of_no_other(broker, plc, unit, tmp_path):
    held = asyncio.Event()

    def hold_the_answer(access):
        if unit.writes == 2:
            unit.delay_s = 60.0
            held.set()

    unit.on_write = hold_the_answer
    slow = pump(plc.port, after="100ms")
    slow["connection"]["timeout"] = "60s"
    async with ModbusSimulator(units={1: Unit()}) as other, listening(broker) as listener:
        devices = {"pump": slow, "valve": pump(other.port, after="100ms")}
        async with running_gateway(broker, tmp_path, devices):
            await online(listener)
            await online(listener, "valve")
            await write(listener, "speed", 60.0)
            async with asyncio.timeout(30):
                await held.wait()
            await write(listener, "speed", 50.0, device="valve")
            await listener.until(lambda: listener.last("tag/valve/speed").get("value") == 5.0)

    assert told(listener).count("write.done") == 1, "the other's is still without an answer"


async def publish(listener, state, instance):
    await listener.bus.publish(SERVICE, presence(state, instance), service="orchestrator", instance=instance)
