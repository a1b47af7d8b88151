"""Commands to devices, marks of the recorder, and bugs of drivers, over a real broker."""

from pathlib import Path
from uuid import uuid4

import pytest

from contracts.v1.command import READ, Read
from contracts.v1.device import ValueType
from contracts.v1.stored import STORED, Stored, StoredEpoch
from tests.integration.gateway_site import listening, running_gateway

DRIVERS = Path(__file__).parent / "drivers"
STATE = "device/pump/state"


@pytest.fixture
def unit(unit):
    unit.set_value("holding:20", ValueType.UINT64, 2**64 - 1)
    return unit


def pump(port, interval="1h"):
    return {
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": port, "unit_id": 1, "timeout": "2s", "retries": 0},
        "groups": {
            "fast": {"interval": interval, "tags": {"level": {"address": "holding:10", "type": "float32"}}},
            "slow": {"interval": "1h", "tags": {"total": {"address": "holding:20", "type": "uint64"}}},
        },
    }


def buggy(bug):
    tags = {"constant": {"type": "float64"}}
    return {
        "driver": "faulty",
        "connection": {"bug": str(bug)},
        "groups": {"all": {"interval": "10ms", "tags": tags}},
    }


async def ask(listener, device="pump", group=None):
    return await listener.bus.request(READ, Read(group=group), user="anna", id=device)


async def test_a_read_gives_what_the_device_holds_now_and_not_what_was_polled(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last("tag/pump/total").get("q") == 192)
        unit.set_value("holding:10", ValueType.FLOAT32, 75.0)

        reply = await ask(listener)
        one_group = await ask(listener, group="slow")

    assert reply.ok
    assert reply.result.values == {"level": 75.0, "total": "18446744073709551615"}
    assert one_group.result.values == {"total": "18446744073709551615"}


async def test_a_read_of_an_unknown_group_names_the_known_ones(broker, plc, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last(STATE).get("state") == "online")

        reply = await ask(listener, group="fats")

    assert reply.error.code == "not_found"
    assert reply.error.message == "pump has no group 'fats'; there are: fast, slow"


async def test_a_read_of_a_device_that_is_away_says_since_when(broker, plc, unit, tmp_path):
    unit.silent = True
    device = pump(plc.port)
    device["connection"]["timeout"] = "200ms"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}):
        await listener.until(lambda: listener.last(STATE).get("state") == "offline")

        reply = await ask(listener)
        since = listener.last(STATE)["since"]

    assert (reply.ok, reply.error.code) == (False, "device_unavailable")
    assert reply.error.detail == {"since": since, "cause": "comm"}


async def test_a_read_of_a_device_whose_file_is_broken_says_so(broker, plc, tmp_path):
    broken = pump(plc.port, interval=5)
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": broken}):
        await listener.until(lambda: listener.last(STATE).get("cause") == "config")

        reply = await ask(listener)

    assert reply.error.code == "device_unavailable"
    assert "groups.fast.interval" in reply.error.message


async def test_a_bug_in_a_driver_costs_its_own_device_only_and_its_tags_go_bad(broker, plc, tmp_path, eventually):
    bug = tmp_path / "bug"
    devices = {"pump": pump(plc.port, interval="10ms"), "press": buggy(bug)}
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, devices, plugins=[DRIVERS]) as gateway,
    ):
        await listener.until(lambda: listener.last("tag/press/constant").get("value") == 1.0)
        bug.touch()
        await listener.until(lambda: listener.last("tag/press/constant").get("cause") == "comm")
        await listener.until(lambda: listener.last("device/press/state").get("cause") == "internal")
        state = listener.last("device/press/state")
        seqs = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > seqs + 5)
        bug.unlink()
        await listener.until(lambda: listener.last("tag/press/constant").get("value") == 1.0)

        assert gateway.metric("crashes_total", task="device.press") >= 1

    assert state["state"] == "offline"
    assert "no such key" in state["error"]
    assert {told.get("cause") for told in listener.heard[STATE]} <= {None, "stopped"}, "the other device"
    frames = listener.heard["frame/press/all"]
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1)), "one epoch, no gap"


async def test_what_a_recorder_has_stored_leaves_the_journal(broker, plc, unit, tmp_path, eventually):
    device = pump(plc.port, interval="5ms")
    for place in range(100, 1700, 200):
        text = {"address": f"holding:{place}", "type": "string", "length": 125}
        device["groups"]["fast"]["tags"][f"text-{place}"] = text
        unit.set_value(f"holding:{place}", ValueType.STRING, "x" * 250, length=125)
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": device}, journal_cap_bytes=1 << 20) as gateway,
    ):
        # 2 kB each: two segments. The first holds events too, of which nobody says that they are stored.
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > 150)
        frame = listener.last("frame/pump/fast")
        stored = Stored(store=str(uuid4()), epochs=[StoredEpoch(epoch=frame["epoch"], have=[(1, frame["seq"])])])
        stream = ("frame", "pump", "fast")
        held = gateway.journal.held(*stream, frame["epoch"])
        assert held.covers(1, frame["seq"])
        await listener.bus.publish(STORED, stored, kind="frame", owner="pump", stream="fast", recorder="recorder")

        await eventually(lambda: not gateway.journal.held(*stream, frame["epoch"]).covers(1, frame["seq"]))

        assert not gateway.journal.lost, "its cap takes segments as well"
