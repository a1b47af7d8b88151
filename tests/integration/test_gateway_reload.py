"""Device files edited while the gateway runs: what changes, what does not, and what the broker then holds."""

import asyncio
import os

import pytest
import yaml

from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.integration.gateway_site import listening, modbus_device, running_gateway
from tests.integration.gateway_site import replace_device as replace

STATE = "device/pump/state"
INFO = "device/pump/info"
LEVEL = "tag/pump/level"


def pump(port, **level):
    tags = {
        "level": {"address": "holding:10", "type": "float32", **level},
        "speed": {"address": "holding:14", "type": "float32"},
    }
    return modbus_device(port, tags)


@pytest.fixture
def unit(unit):
    unit.set_value("holding:14", ValueType.FLOAT32, 7.0)
    return unit


@pytest.fixture
async def other():
    unit = Unit()
    unit.set_value("holding:10", ValueType.FLOAT32, 1.0)
    unit.set_value("holding:14", ValueType.FLOAT32, 2.0)
    async with ModbusSimulator(units={1: unit}) as simulator:
        yield simulator


async def both_online(listener):
    for name in ("pump", "fan"):
        await listener.until(lambda name=name: listener.last(f"device/{name}/state").get("state") == "online")
        await listener.until(lambda name=name: listener.last(f"tag/{name}/level").get("q") == 192)


async def retained(broker, name="late"):
    """What a late subscriber gets, by topic; but for what is not retained, and may come just then."""
    async with listening(broker, name) as late:
        await late.until(lambda: late.last("service/gateway/gateway"))
        await late.until(lambda: late.last("device/fan/info"))
        return {topic: some[0] for topic, some in late.heard.items() if not topic.startswith(("event/", "frame/"))}


async def test_a_changed_file_begins_its_own_device_alone_anew(broker, plc, other, tmp_path):
    devices = {"pump": pump(plc.port), "fan": pump(other.port)}
    async with listening(broker) as listener, running_gateway(broker, tmp_path, devices):
        await both_online(listener)
        changed = pump(plc.port)
        changed["connection"]["retries"] = 1
        changed["groups"]["fast"]["tags"]["speed"]["address"] = "holding:10"
        replace(tmp_path, "pump", changed)
        await listener.until(lambda: listener.last("tag/pump/speed").get("value") == 50.0)

        fan = listener.heard["frame/fan/fast"]
        pumped = listener.heard["frame/pump/fast"]
        assert (plc.accepted, other.accepted) == (2, 1)

    assert len({frame["epoch"] for frame in fan}) == 1
    assert [frame["seq"] for frame in fan] == list(range(1, len(fan) + 1))
    assert len({frame["epoch"] for frame in pumped}) == 2
    assert [told["state"] for told in listener.heard["device/fan/state"]].count("starting") == 1


async def test_a_subscription_lives_on_through_its_own_new_unit_and_a_neighbours_new_address(broker, plc, tmp_path):
    def oven(**temperature):
        node = {"node": f"nsu={NAMESPACE};s=Temperature", "type": "float64", **temperature}
        groups = {"live": {"interval": "50ms", "tags": {"temperature": node}}}
        return {"driver": "opcua", "connection": {"url": server.url}, "groups": groups}

    async with (
        OpcUaSimulator(nodes={"Temperature": 72.5}) as server,
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port), "oven": oven()}),
    ):
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        await listener.until(lambda: listener.last("tag/oven/temperature").get("value") == 72.5)
        replace(tmp_path, "oven", oven(unit="°C"))
        changed = pump(plc.port)
        changed["groups"]["fast"]["tags"]["speed"]["address"] = "holding:10"
        replace(tmp_path, "pump", changed)
        await listener.until(lambda: listener.last("tag/oven/temperature").get("unit") == "°C")
        await listener.until(lambda: listener.last("tag/pump/speed").get("value") == 50.0)
        await server.set("Temperature", 80.25)
        await listener.until(lambda: listener.last("tag/oven/temperature").get("value") == 80.25)

        states = [told["state"] for told in listener.heard["device/oven/state"]]
        assert states.count("starting") == 1
        assert "offline" not in states
        assert plc.accepted == 1

    assert len({frame["epoch"] for frame in listener.heard["frame/oven/live"]}) == 1


async def test_what_is_told_of_a_tag_changes_without_a_new_connection(broker, plc, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        rev = listener.last(INFO)["rev"]
        replace(tmp_path, "pump", pump(plc.port, unit="%", title="Level of the tank", deadband=20))
        await listener.until(lambda: listener.last(LEVEL).get("unit") == "%")
        await listener.until(lambda: listener.last(INFO)["rev"] != rev)
        plc.units[1].set_value("holding:10", ValueType.FLOAT32, 65.0)
        plc.units[1].set_value("holding:14", ValueType.FLOAT32, 8.0)
        await listener.until(lambda: listener.last("tag/pump/speed").get("value") == 8.0)
        assert plc.accepted == 1

    info, frames = listener.last(INFO), listener.heard["frame/pump/fast"]
    assert info["tags"]["level"]["title"] == "Level of the tank"
    assert 65.0 not in [told["value"] for told in listener.heard[LEVEL]], "within its new deadband"
    assert len({frame["epoch"] for frame in frames}) == 1
    assert frames[-1]["rev"] == info["rev"] != frames[0]["rev"]


async def test_a_comment_changes_nothing(broker, plc, tmp_path, eventually):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}) as running:
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        path = tmp_path / "devices" / "pump.yaml"
        replace(tmp_path, "pump", "# the old pump\n" + path.read_text())
        fleet = running.gateway.fleet
        await eventually(lambda: fleet.running["pump"].line == 2)
        frames = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)

        assert plc.accepted == 1
        assert len(listener.heard[LEVEL]) == 2, "startup and the first value"
        assert "config_revised" not in [line["event"] for line in running.log.lines]


@pytest.mark.parametrize("text", ["", "device: pump\ndriver: modbus\n", "\t", "device: pump\ngroups: [", "pump\n"])
async def test_a_faulty_edit_leaves_the_device_running_and_says_where(broker, plc, tmp_path, text):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        (tmp_path / "devices" / "pump.yaml").write_text(text)
        await listener.until(lambda: "pump.yaml:" in listener.last(STATE).get("error", ""))
        frames = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)
        told = listener.last(STATE)
        replace(tmp_path, "pump", pump(plc.port))
        await listener.until(lambda: "error" not in listener.last(STATE))
        assert plc.accepted == 1

    assert (told["state"], told["cause"]) == ("online", "config")


async def test_a_new_file_is_a_new_device_and_a_removed_one_leaves_nothing_behind(broker, plc, other, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"fan": pump(other.port)}) as running:
        await listener.until(lambda: listener.last("tag/fan/level").get("q") == 192)
        replace(tmp_path, "pump", pump(plc.port))
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        assert running.metric("device_state", device="pump") == 3
        (tmp_path / "devices" / "pump.yaml").unlink()
        await listener.until(lambda: listener.cleared >= {STATE, INFO, LEVEL, "tag/pump/speed"})
        left = await retained(broker)

        assert plc.connected == 0
        assert running.metrics.registry.get_sample_value("dinrail_device_state", {"device": "pump"}) is None
        assert running.journal.epochs("frame", "pump", "fast"), "kept until a recorder has stored it"

    assert listener.heard["frame/pump/fast"][-1]["closed"] is True
    assert not [topic for topic in left if "pump" in topic]
    assert len({frame["epoch"] for frame in listener.heard["frame/fan/fast"]}) == 1


async def test_a_driver_is_told_as_loaded_with_its_first_device_and_not_with_the_next(broker, plc, other, tmp_path):
    loaded = asyncio.Semaphore(0)
    servo = {
        "driver": "mock_servo",
        "groups": {"fast": {"interval": "50ms", "tags": {"at": {"type": "float64", "signal": "position"}}}},
    }

    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port)}, loaded=loaded.release),
        asyncio.timeout(60),
    ):
        await loaded.acquire()
        replace(tmp_path, "fan", pump(other.port))
        await both_online(listener)
        replace(tmp_path, "servo", servo)
        await listener.until(lambda: listener.last("device/servo/state").get("state") == "online")
        await loaded.acquire()

    assert loaded.locked()  # it has been told no more than it was waited for


async def test_the_topic_of_a_renamed_tag_is_cleared(broker, plc, other, tmp_path):
    devices = {"pump": pump(plc.port), "fan": pump(other.port)}
    async with listening(broker) as listener, running_gateway(broker, tmp_path, devices):
        await both_online(listener)
        renamed = pump(plc.port)
        tags = renamed["groups"]["fast"]["tags"]
        tags["height"] = tags.pop("level")
        replace(tmp_path, "pump", renamed)
        await listener.until(lambda: listener.last("tag/pump/height").get("q") == 192)
        await listener.until(lambda: LEVEL in listener.cleared)
        left = await retained(broker)

    assert {topic for topic in left if topic.startswith("tag/pump/")} == {"tag/pump/height", "tag/pump/speed"}


async def test_what_was_removed_while_the_gateway_was_down_is_cleared_at_its_start(broker, plc, other, tmp_path):
    devices = {"pump": pump(plc.port), "fan": pump(other.port)}
    async with listening(broker) as listener:
        async with running_gateway(broker, tmp_path, devices):
            await both_online(listener)
        (tmp_path / "devices" / "pump.yaml").unlink()
        fan = pump(other.port)
        fan["groups"]["fast"]["tags"]["rpm"] = fan["groups"]["fast"]["tags"].pop("speed")
        async with running_gateway(broker, tmp_path, {"fan": fan}):
            gone = {STATE, INFO, LEVEL, "tag/pump/speed", "tag/fan/speed"}
            await listener.until(lambda: listener.cleared >= gone)
            await listener.until(lambda: listener.last("tag/fan/rpm").get("q") == 192)
            left = await retained(broker)

    assert not [topic for topic in left if "pump" in topic]
    assert {topic for topic in left if topic.startswith("tag/")} == {"tag/fan/level", "tag/fan/rpm"}


async def test_a_folder_that_cannot_be_listed_removes_nothing(broker, plc, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}) as running:
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        (tmp_path / "devices").rename(tmp_path / "away")
        await running.until_logged("device_file_refused")
        frames = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)
        (tmp_path / "away").rename(tmp_path / "devices")
        assert plc.accepted == 1

    assert not listener.cleared


async def test_a_copy_does_not_take_a_running_devices_place(broker, plc, other, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}) as running:
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        copy = yaml.safe_dump({"device": "pump", **pump(other.port)})
        (tmp_path / "devices" / "a-copy-of-pump.yaml").write_text(copy)
        await running.until_logged("device_file_refused")
        frames = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)

        assert (plc.accepted, other.accepted) == (1, 0)


async def test_a_file_written_in_pieces_counts_once_it_rests(broker, plc, tmp_path):
    text = yaml.safe_dump({"device": "pump", **pump(plc.port, unit="%")}, sort_keys=False)
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        with (tmp_path / "devices" / "pump.yaml").open("w") as file:
            for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                await asyncio.sleep(0)
        await listener.until(lambda: listener.last(LEVEL).get("unit") == "%")
        assert plc.accepted == 1
