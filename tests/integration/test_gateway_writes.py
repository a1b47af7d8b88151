"""Writes to a Modbus device over a real broker: checked, done once and in order, read back, answered, in the ledger."""

import asyncio
from uuid import uuid4

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contracts.v1.command import READ, REPLY, WRITE, Read
from contracts.v1.device import ValueType
from plugins.drivers.modbus.rtu_simulator import RtuSimulator
from plugins.drivers.modbus.simulated_unit import Unit
from tests.integration.gateway_site import listening, modbus_device, running_gateway, write_devices
from tests.integration.ledger import events, online, told, write
from tests.real_broker import SITE

SPEED = "tag/pump/speed"


@pytest.fixture
def unit(unit):
    unit.coil[2] = True
    return unit


def pump(port, *, speed=None, **more):
    tags = {
        "speed": {
            "address": "holding:10", "type": "float32", "unit": "rpm", "range": [0, 100], "writable": True,
            **(speed or {}),
        },
        "count": {"address": "holding:20", "type": "uint64", "range": [0, 1.9e19], "writable": True},
        "level": {"address": "holding:30", "type": "float32"},
        "open": {"address": "coil:1", "type": "bool", "writable": True},
        "remote-mode": {"address": "coil:2", "type": "bool"},
    }  # fmt: skip
    return modbus_device(port, tags, **{"interval": "1h", "timeout": "500ms", "writes": "enabled", **more})


async def send(listener, tag, payload, **more):
    """A write as any client may send it."""
    message = {"kind": "WRITE", "retain": False, "response_topic": reply_topic(), "correlation": b"1", "expiry_s": 30}
    topic = WRITE.build(site=SITE, user="anna", id="pump", arg=tag)
    await listener.bus._link.send(topic, payload, **{**message, **more})


def reply_topic():
    return REPLY.build(site=SITE, user="anna", client="hmi")


def speed(unit):
    return unit.value("holding:10", ValueType.FLOAT32)


async def test_a_write_is_done_read_back_and_told_step_by_step(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)

        done = await write(listener, "speed", 75.3)
        await listener.until(lambda: "write.done" in told(listener))
        await listener.until(lambda: listener.last(SPEED).get("value") == done.result.read_back)

    assert done.ok
    assert (done.result.tag, done.result.value) == ("speed", 75.3)
    assert done.result.read_back == speed(unit) == pytest.approx(75.3)
    assert unit.writes == 1
    states = events(listener)
    assert [state["type"] for state in states] == ["write.accepted", "write.executing", "write.verified", "write.done"]
    assert {state["user"] for state in states} == {"anna"}
    assert [state["cause"] for state in states[1:]] == [state["id"] for state in states[:-1]]
    assert states[-1]["data"] == {"tag": "speed", "value": 75.3, "read_back": done.result.read_back}


async def test_a_big_integer_and_a_coil_are_written_in_their_own_type(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)

        count = await write(listener, "count", "18446744073709551000")
        opened = await write(listener, "open", True)

    assert count.result.read_back == "18446744073709551000"
    assert unit.value("holding:20", ValueType.UINT64) == 18446744073709551000
    assert opened.result.read_back is True
    assert unit.coil[1]


async def test_a_write_that_may_not_be_is_refused_with_its_reason(broker, plc, unit, tmp_path):
    cases = [
        ("speed", 100.5, "out_of_range", "100.5 is outside the range of speed: 0.0 to 100.0 rpm"),
        ("speed", "fast", "invalid", "speed: 'fast' is no float32; write a number"),
        ("open", 1, "invalid", "open: 1 is no bool; write true or false"),
        ("level", 1.0, "not_writable", "level is not writable; its device file does not say writable: true"),
        ("sped", 1.0, "not_found", "pump has no tag 'sped'; did you mean 'speed'?"),
    ]
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)

        refused = [(await write(listener, tag, value)).error for tag, value, _, _ in cases]
        await listener.until(lambda: told(listener) == ["write.failed"] * len(cases))

    assert [(error.code, error.message) for error in refused] == [case[2:] for case in cases]
    assert [event["data"]["code"] for event in events(listener)] == [code for _, _, code, _ in cases]
    assert unit.writes == 0


async def test_nothing_is_written_while_the_device_file_does_not_enable_it(broker, plc, unit, tmp_path):
    off = pump(plc.port, writes="disabled")
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": off}):
        await online(listener)
        refused = await write(listener, "speed", 60.0)

    assert refused.error.code == "not_writable"
    assert refused.error.message == "pump: writes are off; its device file does not say writes: enabled"
    assert unit.writes == 0


async def test_a_device_that_clamps_the_value_is_told_with_what_it_holds(broker, plc, unit, tmp_path):
    unit.on_write = lambda access: unit.set_value("holding:10", ValueType.FLOAT32, 80.0)
    tolerant = pump(plc.port, speed={"tolerance": 5})
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": tolerant}):
        await online(listener)

        clamped = await write(listener, "speed", 90.0)
        near = await write(listener, "speed", 84.0)
        await listener.until(lambda: "write.done" in told(listener))

    assert clamped.error.code == "verify_failed"
    assert clamped.error.detail == {"value": 90.0, "read_back": 80.0}
    assert clamped.error.message == "speed: 90.0 was written, the device holds another value; read back = 80.0"
    assert near.result.read_back == 80.0
    assert unit.writes == 2


@pytest.mark.parametrize(("device_code", "code"), [(4, "not_writable"), (6, "device_unavailable")])
async def test_a_device_that_refuses_the_write_is_told_with_its_code(broker, plc, unit, tmp_path, device_code, code):
    unit.on_write = lambda access: unit.set_value("holding:10", ValueType.FLOAT32, 50.0)
    unit.tamper = lambda answer: bytes([0x90, device_code]) if answer[0] == 16 else answer
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)

        refused = await write(listener, "speed", 90.0)

    assert refused.error.code == code
    assert refused.error.detail == {"value": 90.0, "device_code": device_code, "read_back": 50.0}


async def test_conditions_are_held_against_what_the_device_says_at_that_moment(broker, plc, unit, tmp_path):
    condition = {"tag": "remote-mode", "equals": True}
    guarded = pump(plc.port, remote=condition, speed={"precondition": {"tag": "open", "equals": True}})
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": guarded}):
        await online(listener)
        unit.coil[2] = False
        local = await write(listener, "open", True)
        unit.coil[2] = True
        shut = await write(listener, "speed", 60.0)
        await write(listener, "open", True)
        opened = await write(listener, "speed", 60.0, expect={"speed": 50.0})
        unexpected = await write(listener, "speed", 70.0, expect={"speed": 50.0})

    assert local.error.code == shut.error.code == unexpected.error.code == "precondition_failed"
    assert "local control" in local.error.message
    assert shut.error.detail == {"tag": "open", "found": False}
    assert unexpected.error.detail == {"tag": "speed", "found": 60.0}
    assert opened.ok
    assert speed(unit) == 60.0
    assert unit.writes == 2


async def test_writes_to_one_tag_are_done_in_the_order_they_came_in(broker, plc, unit, tmp_path):
    written = []
    unit.on_write = lambda access: written.append(speed(unit))
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)
        replies = await asyncio.gather(*(write(listener, "speed", float(value)) for value in range(60)))

    assert [reply.result.read_back for reply in replies] == written == [float(value) for value in range(60)]


async def test_a_write_that_comes_again_is_done_once_and_answered_the_same(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)
        for _ in range(3):
            await send(listener, "speed", b'{"value": 60.0}')
        await listener.until(lambda: listener.heard["reply/anna/hmi"])
        await send(listener, "speed", b'{"value": 60.0}')
        await listener.until(lambda: len(listener.heard["reply/anna/hmi"]) >= 2)
        await send(listener, "speed", b'{"value": 61.0}', correlation=b"2")
        await listener.until(lambda: listener.last("reply/anna/hmi")["result"]["value"] == 61.0)

    assert unit.writes == 2
    *repeated, _ = listener.heard["reply/anna/hmi"]
    assert all(reply == repeated[0] for reply in repeated)


async def test_a_write_waits_for_no_disk_and_is_brought_there_beside_it(broker, plc, unit, tmp_path, book_sync):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)
        done = await write(listener, "speed", 75.0)
        assert await asyncio.to_thread(book_sync.asked.wait, 30)
        book_sync.allowed.set()

    assert done.ok
    assert unit.writes == 1


async def test_a_write_whose_deadline_passes_while_it_waits_for_the_device_is_not_begun(broker, plc, unit, tmp_path):
    slow = pump(plc.port)
    slow["connection"]["timeout"] = "5s"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": slow}):
        await online(listener)
        unit.delay_s = 2.0
        unit.asked.clear()
        reading = asyncio.create_task(listener.bus.request(READ, Read(), user="anna", id="pump"))
        await unit.asked.wait()
        unit.delay_s = 0
        await send(listener, "speed", b"60.0", expiry_s=1)
        await reading
        await listener.until(lambda: listener.heard["reply/anna/hmi"])

    error = listener.last("reply/anna/hmi")["error"]
    assert error["code"] == "timeout"
    assert "its deadline passed while it waited" in error["message"]
    assert unit.writes == 0


async def test_a_write_whose_deadline_passes_while_it_waits_for_a_line_that_others_hold_is_never_sent(
    broker, unit, tmp_path
):
    slow = Unit()
    async with RtuSimulator(units={1: unit, 2: slow}) as line:
        files = {"pump": pump(line.port), "mixer": pump(line.port)}
        for number, file in enumerate(files.values(), start=1):
            file["connection"].update(transport="rtu-tcp", unit_id=number, timeout="5s")
        async with listening(broker) as listener, running_gateway(broker, tmp_path, files):
            await online(listener)
            await listener.until(lambda: listener.last("device/mixer/state").get("state") == "online")
            slow.delay_s = 2.5
            slow.asked.clear()
            reading = asyncio.create_task(listener.bus.request(READ, Read(), user="anna", id="mixer"))
            await slow.asked.wait()
            await send(listener, "speed", b"60.0", expiry_s=1)
            await listener.until(lambda: listener.heard["reply/anna/hmi"])
            assert not reading.done(), "the answer comes by the deadline"
            await reading
            await listener.bus.request(READ, Read(), user="anna", id="pump")

    error = listener.last("reply/anna/hmi")["error"]
    assert error["code"] == "timeout"
    assert "was not written: its deadline passed while it waited for its turn on the line" in error["message"]
    assert told(listener) == ["write.accepted", "write.executing", "write.failed"]
    assert unit.writes == 0


async def test_a_write_to_a_device_that_is_away_is_refused_at_once(broker, plc, unit, tmp_path):
    unit.silent = True
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last("device/pump/state").get("state") == "offline")
        refused = await write(listener, "speed", 60.0)

    assert refused.error.code == "device_unavailable"
    assert unit.writes == 0


async def test_a_write_whose_conditions_take_until_its_deadline_is_not_begun(broker, plc, unit, tmp_path):
    guarded = pump(plc.port, remote={"tag": "remote-mode", "equals": True})
    guarded["connection"]["timeout"] = "5s"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": guarded}):
        await online(listener)
        unit.delay_s = 1.5
        await send(listener, "speed", b"60.0", expiry_s=1)
        await listener.until(lambda: listener.heard["reply/anna/hmi"])

    assert listener.last("reply/anna/hmi")["error"]["code"] == "timeout"
    assert unit.writes == 0


async def test_a_write_that_waits_is_held_against_the_device_file_of_its_turn(broker, plc, unit, tmp_path):
    slow = pump(plc.port)
    slow["connection"]["timeout"] = "5s"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": slow}) as running:
        await online(listener)
        unit.delay_s = 2.0
        unit.asked.clear()
        reading = asyncio.create_task(listener.bus.request(READ, Read(), user="anna", id="pump"))
        await unit.asked.wait()
        writing = asyncio.create_task(write(listener, "speed", 60.0))
        await listener.until(lambda: told(listener) == ["write.accepted"])
        write_devices(tmp_path / "devices", {"pump": {**slow, "writes": "disabled"}})
        await running.until_logged("config_revised")
        assert not reading.done()
        refused = await writing
        await reading

    assert refused.error.code == "not_writable"
    assert unit.writes == 0


@pytest.mark.parametrize(("takes_s", "holds"), [(0.2, 60.0), (30.0, 50.0)])
async def test_a_device_that_takes_its_time_is_read_again_and_not_written_again(
    broker, plc, unit, tmp_path, takes_s, holds
):
    def take_over_later(access):
        unit.set_value("holding:10", ValueType.FLOAT32, 50.0)
        asyncio.get_running_loop().call_later(takes_s, unit.set_value, "holding:10", ValueType.FLOAT32, 60.0)

    unit.on_write = take_over_later
    lazy = pump(plc.port, speed={"settle": "400ms"})
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": lazy}):
        await online(listener)
        reply = await write(listener, "speed", 60.0)
        await listener.until(lambda: listener.last(SPEED).get("value") == holds)

    assert unit.writes == 1
    assert (reply.result.read_back if reply.ok else reply.error.detail["read_back"]) == holds
    assert reply.ok == (holds == 60.0)


@pytest.mark.parametrize("reached", [True, False])
async def test_a_write_whose_answer_is_lost_is_read_back_and_never_repeated(broker, plc, unit, tmp_path, reached):
    def lose(access):
        if not reached:
            unit.set_value("holding:10", ValueType.FLOAT32, 50.0)
        plc.drop()

    unit.on_write = lose
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)
        reply = await write(listener, "speed", 60.0, timeout_s=15)

    assert unit.writes == 1
    if reached:
        assert reply.result.read_back == 60.0
    else:
        assert reply.error.code == "internal"
        assert "outcome unknown" in reply.error.message
        assert reply.error.detail["read_back"] == 50.0
        assert "read back = 50.0" in reply.error.message


async def test_a_tool_without_mqtt_5_writes_a_bare_number(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)
        await publish_as_mqtt_3(broker, "speed", b"62.5")
        await listener.until(lambda: listener.last(SPEED).get("value") == 62.5)
        await publish_as_mqtt_3(broker, "speed", b'{"value": 63.5}', retain=True)
        await listener.until(lambda: listener.last(SPEED).get("value") == 63.5)
        await listener.until(lambda: told(listener).count("write.done") == 2)

        async with listening(broker, "latecomer") as latecomer:
            await latecomer.until(lambda: latecomer.last(SPEED))

    assert unit.writes == 2
    assert not [topic for topic in latecomer.heard if topic.startswith("cmd/")], "the retained write was wiped"
    assert "command.refused" in told(listener)


async def test_a_retained_write_of_an_mqtt_5_client_is_refused_and_wiped(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)
        await send(listener, "speed", b"60.0", retain=True)
        # Twice, if the gateway goes through what was retained before it came just then.
        await listener.until(lambda: "command.refused" in told(listener))
        done = await write(listener, "speed", 55.0)  # after the wiping

        async with listening(broker, "latecomer") as latecomer:
            await latecomer.until(lambda: latecomer.last(SPEED))

    assert done.ok
    assert unit.writes == 1
    assert events(listener)[0]["data"]["why"] == "retained"
    assert not [topic for topic in latecomer.heard if topic.startswith("cmd/")]


async def publish_as_mqtt_3(broker, tag, payload, *, retain=False):
    topic = WRITE.build(site=SITE, user="anna", id="pump", arg=tag)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"old-{uuid4().hex[:8]}", protocol=paho.MQTTv311)

    def publish():
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)
        client.disconnect()
        client.loop_stop()

    await asyncio.to_thread(publish)
