"""Devices put, deleted, enabled and disabled by command: stored, run, answered, and undone where that was asked for."""

from contextlib import asynccontextmanager

import pytest
import yaml

from contracts.v1.command import DELETE, DISABLE, ENABLE, PUT, Delete, Disable, Enable, ErrorCode, Put
from services.gateway import keeper
from tests.integration.gateway_site import listening, running_gateway
from tests.ports import free_port

STATE = "device/pump/state"
LEVEL = "tag/pump/level"
TEXT = """\
# The pump in the cellar.
device: pump        # as on its plate
driver: modbus
connection: {{host: 127.0.0.1, port: {port}, unit_id: 1, timeout: 1s, retries: 0}}
groups:
  fast:
    interval: 20ms
    tags:
      level: {{address: "holding:10", type: float32, unit: "{unit}"}}
"""


def pump(port, unit="%"):
    return TEXT.format(port=port, unit=unit)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "devices").mkdir()
    return tmp_path / "devices"


@asynccontextmanager
async def serving(broker, folder):
    """A gateway without devices that takes commands, and a listener."""
    async with listening(broker) as listener, running_gateway(broker, folder.parent, {}):
        await listener.until(lambda: listener.last("service/gateway/gateway").get("state") == "online")
        yield listener


async def put(listener, text, **fields):
    return await listener.bus.request(PUT, Put(file=text, **fields), user="anna", id="gateway", timeout_s=30)


async def delete(listener, device="pump", **fields):
    return await listener.bus.request(DELETE, Delete(device=device, **fields), user="anna", id="gateway")


def events(listener, device="pump"):
    told = [one for message in listener.heard[f"event/plant/device/{device}"] for one in message["events"]]
    return [(one["type"], one.get("user")) for one in told if one["type"].startswith("config.")]


async def test_a_device_that_was_put_runs_and_its_file_is_stored_as_it_was_sent(broker, plc, folder):
    async with serving(broker, folder) as listener:
        answer = await put(listener, pump(plc.port))
        await listener.until(lambda: listener.last(LEVEL).get("value") == 50.0)
        await listener.until(lambda: listener.last("device/pump/info").get("rev") == answer.result.rev)
        again = await put(listener, pump(plc.port, unit="m"), expect_rev=answer.result.rev)
        await listener.until(lambda: listener.last(LEVEL).get("unit") == "m")
        await listener.until(lambda: len(events(listener)) == 2)

    assert (answer.result.device, answer.result.enabled) == ("pump", True)
    assert again.result.rev != answer.result.rev
    assert (folder / "pump.yaml").read_text() == pump(plc.port, unit="m")
    assert [path.name for path in folder.iterdir()] == ["pump.yaml"]
    assert events(listener) == [("config.added", "anna"), ("config.revised", "anna")]
    assert plc.accepted == 1


async def test_a_device_that_was_put_while_the_gateway_still_looks_around_is_told_as_added(
    broker, plc, folder, monkeypatch
):
    monkeypatch.setattr(keeper, "QUIET_S", 30)
    monkeypatch.setattr(keeper, "MEET_S", 30)
    async with serving(broker, folder) as listener:
        await put(listener, pump(plc.port))
        await listener.until(lambda: events(listener) == [("config.added", "anna")])


async def test_a_file_with_faults_is_refused_with_each_of_them_by_its_place(broker, plc, folder):
    text = pump(plc.port).replace("20ms", "20").replace("float32", "float23")
    async with serving(broker, folder) as listener:
        answer = await put(listener, text)

    assert answer.error.code is ErrorCode.INVALID
    assert list(answer.error.detail) == ["7:groups.fast.interval", "9:groups.fast.tags.level.type"]
    assert "did you mean 'float32'?" in answer.error.detail["9:groups.fast.tags.level.type"]
    assert "file:7: groups.fast.interval" in answer.error.message
    assert not list(folder.iterdir())


async def test_a_revision_that_is_not_the_present_one_is_a_conflict(broker, plc, folder):
    async with serving(broker, folder) as listener:
        first = await put(listener, pump(plc.port))
        for answer in (
            await put(listener, pump(plc.port, unit="m"), expect_rev="0123456789ab"),
            await delete(listener, expect_rev="0123456789ab"),
            await put(listener, pump(plc.port).replace("pump", "fan"), expect_rev="0123456789ab"),
        ):
            assert answer.error.code is ErrorCode.CONFLICT
            assert answer.error.detail == {"rev": first.result.rev if "fan" not in answer.error.message else None}

    assert (folder / "pump.yaml").read_text() == pump(plc.port)


async def test_a_change_that_does_not_connect_is_undone_when_it_is_probed(broker, plc, folder):
    async with serving(broker, folder) as listener:
        await put(listener, pump(plc.port), probe_s=5)
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        answer = await put(listener, pump(free_port()), probe_s=0.3)
        new = await put(listener, pump(free_port()).replace("device: pump", "device: fan"), probe_s=0.3)
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        await listener.until(lambda: "device/fan/state" in listener.cleared)

    for one in (answer, new):
        assert one.error.code is ErrorCode.DEVICE_UNAVAILABLE
        assert "the change was undone" in one.error.message
        assert one.error.detail == {"cause": "comm"}
    assert (folder / "pump.yaml").read_text() == pump(plc.port)
    assert not (folder / "fan.yaml").exists()


async def test_a_deadline_in_the_middle_of_a_probe_undoes_the_change_too(broker, plc, folder, eventually):
    async with serving(broker, folder) as listener:
        await put(listener, pump(plc.port))
        answer = await listener.bus.request(
            PUT, Put(file=pump(free_port()), probe_s=50), user="anna", id="gateway", timeout_s=1
        )
        await eventually(lambda: (folder / "pump.yaml").read_text() == pump(plc.port))

    assert answer.error.code is ErrorCode.TIMEOUT


async def test_without_a_probe_a_device_that_is_away_is_accepted(broker, folder):
    async with serving(broker, folder) as listener:
        answer = await put(listener, pump(free_port()))
        await listener.until(lambda: listener.last(STATE).get("state") == "offline")

    assert answer.ok


async def test_a_device_of_another_gateway_is_not_taken(broker, plc, folder):
    async with serving(broker, folder) as listener:
        answer = await put(listener, pump(plc.port).replace("driver:", "gateway: north\ndriver:"))

    assert (answer.error.code, answer.error.detail) == (ErrorCode.INVALID, {"gateway": "north"})


async def test_a_deleted_device_is_gone_with_its_file(broker, plc, folder):
    async with serving(broker, folder) as listener:
        await put(listener, pump(plc.port))
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        answer = await delete(listener)
        await listener.until(lambda: listener.cleared >= {STATE, LEVEL, "device/pump/info"})
        unknown = await delete(listener)

    assert answer.ok
    assert not list(folder.iterdir())
    assert (unknown.error.code, "there are: none" in unknown.error.message) == (ErrorCode.NOT_FOUND, True)


async def test_a_deleted_device_does_not_come_back_out_of_a_copy_of_its_file(broker, plc, folder):
    async with serving(broker, folder) as listener:
        await put(listener, pump(plc.port))
        (folder / "copy.yaml").write_text(pump(plc.port))
        answer = await delete(listener)

    assert (answer.error.code, answer.error.detail) == (ErrorCode.CONFLICT, {"file": "copy.yaml"})
    assert (folder / "pump.yaml").exists()


async def test_a_file_that_another_gateway_owns_in_the_same_folder_is_not_deleted(broker, plc, folder):
    (folder / "pump.yaml").write_text("gateway: north\n" + pump(plc.port))
    async with serving(broker, folder) as listener:
        answer = await delete(listener)

    assert (answer.error.code, answer.error.detail) == (ErrorCode.CONFLICT, {"gateway": "north"})
    assert (folder / "pump.yaml").exists()


async def test_a_link_to_a_device_file_stays_a_link(broker, plc, folder):
    stored = folder.parent / "pump-1.yaml"
    (folder / "pump.yaml").symlink_to(stored)
    stored.write_text(pump(plc.port))
    async with serving(broker, folder) as listener:
        await put(listener, pump(plc.port, unit="m"))

    assert (folder / "pump.yaml").is_symlink()
    assert stored.read_text() == pump(plc.port, unit="m")


async def test_disable_and_enable_are_stored_without_harm_to_the_rest_of_the_file(broker, plc, folder):
    async with serving(broker, folder) as listener:
        await put(listener, pump(plc.port))
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        off = await listener.bus.request(DISABLE, Disable(), user="anna", id="pump")
        await listener.until(lambda: listener.last(STATE).get("state") == "disabled")
        disabled = (folder / "pump.yaml").read_text()
        on = await listener.bus.request(ENABLE, Enable(), user="anna", id="pump")
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)

    assert (off.result.enabled, on.result.enabled) == (False, True)
    plate = "device: pump        # as on its plate\n"
    assert disabled == pump(plc.port).replace(plate, plate + "enabled: false\n")
    assert yaml.safe_load((folder / "pump.yaml").read_text())["enabled"] is True


async def test_a_folder_that_cannot_be_written_is_said_so(broker, plc, folder):
    async with serving(broker, folder) as listener:
        (folder / ".pump.yaml.partial").mkdir()
        answer = await put(listener, pump(plc.port))

    assert answer.error.code is ErrorCode.UNAVAILABLE
    assert "the gateway must be able to write its devices folder" in answer.error.message
