"""Groups and tags of a Modbus device edited while it is polled: the socket stays, and so does what is not edited."""

import asyncio
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest
import yaml

from contracts.v1.command import ENABLE, PUT, READ, Enable, ErrorCode, Put, Read
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.gateway_site import listening, replace_device, running_gateway
from tests.integration.ledger import online, write
from tests.ports import free_port

STATE = "device/pump/state"
INFO = "device/pump/info"
KEPT = "frame/pump/kept"
EDITED = "frame/pump/edited"


def pump(port, **kept):
    return {
        "driver": "modbus",
        "writes": "enabled",
        "connection": {"host": "127.0.0.1", "port": port, "unit_id": 1, "timeout": "2s", "retries": 0},
        "groups": {
            "kept": {"interval": "1s", "tags": {"level": {"address": "holding:10", "type": "int16"}}, **kept},
            "edited": {
                "interval": "250ms",
                "tags": {
                    "speed": {"address": "holding:11", "type": "int16"},
                    "target": {"address": "holding:12", "type": "int16", "writable": True, "range": [0, 99]},
                },
            },
        },
    }


def edited(device, **changes):
    """The device with another group `edited`. changes: of its fields; a tag without fields is removed."""
    new = deepcopy(device)
    group = new["groups"]["edited"]
    for tag, fields in changes.pop("tags", {}).items():
        if fields is None:
            del group["tags"][tag]
        else:
            group["tags"][tag] = {**group["tags"].get(tag, {"type": "int16"}), **fields}
    group |= changes
    return new


def plain(units=(1,)):
    made = {number: Unit() for number in units}
    for unit in made.values():
        for place in range(20):
            unit.holding[place] = place
    return made


@pytest.fixture
async def plc():
    async with ModbusSimulator(units=plain((1, 2)), port=free_port()) as simulator:
        yield simulator


def value(listener, tag):
    return listener.last(f"tag/pump/{tag}").get("value")


async def test_edits_of_one_group_keep_the_socket_and_every_poll_and_value_of_the_other(broker, plc, tmp_path):
    device = pump(plc.port)
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}):
        await listener.until(lambda: value(listener, "target") == 12 and value(listener, "level") == 10)
        epochs = listener.last(INFO)["groups"]

        async def edit(new, shown):
            replace_device(tmp_path, "pump", new)
            await listener.until(shown)

        await edit(edited(device, tags={"added": {"address": "holding:13"}}), lambda: value(listener, "added") == 13)
        await edit(
            edited(device, tags={"speed": {"type": "float64", "raw": "int16", "scale": 0.5}}),
            lambda: value(listener, "speed") == 5.5,
        )
        await edit(edited(device, tags={"speed": None}), lambda: "tag/pump/speed" in listener.cleared)
        await edit(
            edited(device, interval="300ms"),
            lambda: listener.last(INFO)["groups"]["edited"]["interval_s"] == 0.3 and value(listener, "speed") == 11,
        )
        more = deepcopy(device)
        more["groups"]["more"] = {"interval": "250ms", "tags": {"more": {"address": "holding:14", "type": "int16"}}}
        await edit(more, lambda: value(listener, "more") == 14)
        plc.units[2].holding[11] = 211
        await edit(edited(more, unit_id=2), lambda: value(listener, "speed") == 211)
        less = deepcopy(device)
        del less["groups"]["edited"]
        await edit(less, lambda: listener.cleared >= {"tag/pump/speed", "tag/pump/target", "tag/pump/more"})
        polls = len(listener.heard[KEPT])
        await listener.until(lambda: len(listener.heard[KEPT]) > polls)

        assert plc.accepted == 1
        info, state = listener.last(INFO), listener.last(STATE)["state"]
        frames, levels = list(listener.heard[KEPT]), list(listener.heard["tag/pump/level"])

    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {frame["epoch"] for frame in frames} == {epochs["kept"]["epoch"]}
    times_s = [sample["t"] / 1e6 for frame in frames for sample in frame["samples"]]
    missed = sum(round(later - earlier) - 1 for earlier, later in pairwise(times_s))
    # A busy machine may cost a poll here and there; seven edits that each cost one would be told apart from it.
    assert missed < 4
    assert not any("q" in sample for frame in frames for sample in frame["samples"])
    assert [told["value"] for told in levels] == [None, 10], "nothing is told anew of what is not edited"
    assert list(info["tags"]) == ["level"]
    assert list(info["groups"]) == ["kept"]
    assert frames[-1]["rev"] == info["rev"]
    assert [told["state"] for told in listener.heard[STATE]].count("starting") == 1
    assert state == "online"


async def test_an_edited_group_follows_on_in_a_new_epoch_and_its_last_one_is_closed(broker, plc, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: value(listener, "speed") == 11)
        replace_device(tmp_path, "pump", edited(pump(plc.port), tags={"speed": {"address": "holding:15"}}))
        await listener.until(lambda: value(listener, "speed") == 15)

        assert plc.accepted == 1

    old, new = sorted({frame["epoch"] for frame in listener.heard[EDITED]})
    ended = [frame for frame in listener.heard[EDITED] if frame["epoch"] == old][-1]
    begun = next(frame for frame in listener.heard[EDITED] if frame["epoch"] == new)
    assert ended["closed"] is True
    assert begun["prev"] == {"epoch": old, "last_seq": ended["seq"]}
    assert listener.last(INFO)["groups"]["edited"]["epoch"] == new


async def test_another_address_is_another_socket(broker, plc, tmp_path):
    async with (
        ModbusSimulator(units=plain()) as other,
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port)}),
    ):
        other.units[1].holding[10] = 110
        await listener.until(lambda: value(listener, "level") == 10)
        replace_device(tmp_path, "pump", pump(other.port))
        await listener.until(lambda: value(listener, "level") == 110)

        assert (plc.accepted, plc.connected, other.accepted) == (1, 0, 1)


async def test_a_device_that_is_away_comes_back_as_it_has_been_edited_to_be(broker, plc, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: value(listener, "speed") == 11)
        epoch = listener.last(INFO)["groups"]["edited"]["epoch"]
        await plc.stop()
        await listener.until(lambda: listener.last(STATE)["state"] == "offline")
        replace_device(tmp_path, "pump", edited(pump(plc.port), tags={"speed": {"address": "holding:15"}}))
        await listener.until(lambda: listener.last(INFO)["groups"]["edited"]["epoch"] > epoch)
        await plc.start()
        await listener.until(lambda: value(listener, "speed") == 15)


async def test_an_edit_waits_for_the_write_that_is_being_done(broker, plc, tmp_path, eventually):
    unit = plc.units[1]
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}) as running:
        await listener.until(lambda: value(listener, "target") == 12)
        unit.delay_s = 0.1
        writing = asyncio.create_task(write(listener, "target", 50))
        await eventually(lambda: unit.writes)
        replace_device(tmp_path, "pump", edited(pump(plc.port), tags={"target": None}))
        done = await writing
        await listener.until(lambda: "tag/pump/target" in listener.cleared)
        await running.until_logged("config_changed")
        gone = await write(listener, "target", 51)

        assert plc.accepted == 1

    assert (done.ok, done.result.read_back) == (True, 50)
    assert gone.error.code is ErrorCode.NOT_FOUND
    assert (unit.writes, unit.holding[12]) == (1, 50)


async def test_an_edit_that_would_wait_for_too_long_begins_the_device_anew(broker, plc, tmp_path, monkeypatch):
    monkeypatch.setattr("services.gateway.actor.REWORK_S", 0.2)
    device = pump(plc.port)
    device["connection"]["timeout"] = "30s"
    unit = plc.units[1]
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}) as running:
        await listener.until(lambda: value(listener, "speed") == 11)
        unit.silent = True
        unit.asked.clear()
        await unit.asked.wait()
        replace_device(tmp_path, "pump", edited(device, tags={"speed": {"address": "holding:15"}, "target": None}))
        await running.until_logged("connection_not_kept")
        unit.silent = False
        await listener.until(lambda: value(listener, "speed") == 15)
        await listener.until(lambda: "tag/pump/target" in listener.cleared)


async def test_a_silent_unit_does_not_hold_up_an_edit_of_another_and_keeps_its_open_circuit(broker, plc, tmp_path):
    device = pump(plc.port, unit_id=2)
    device["connection"]["timeout"] = "1s"
    plc.units[2].silent = True
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": device}, retry_first="1m", retry_silent="1m"),
    ):
        await listener.until(lambda: listener.last(STATE).get("state") == "degraded" and value(listener, "speed") == 11)
        reads = plc.units[2].reads
        replace_device(tmp_path, "pump", edited(device, tags={"speed": {"address": "holding:15"}}))
        await listener.until(lambda: value(listener, "speed") == 15)

        assert (plc.accepted, plc.units[2].reads) == (1, reads)
        assert listener.last(STATE)["state"] == "degraded"


@pytest.mark.parametrize(("unit", "probe_s", "ok"), [(2, 20, True), (3, 0.5, False)])
async def test_an_edit_on_the_same_socket_is_proved_by_what_is_edited(broker, plc, tmp_path, unit, probe_s, ok):
    device = edited(pump(plc.port))
    del device["groups"]["kept"]
    path = tmp_path / "devices" / "pump.yaml"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}):
        await online(listener)
        before = path.read_text()
        plc.units[2].delay_s = 0.1
        text = before.replace("interval: 250ms", f"unit_id: {unit}\n    interval: 20ms")
        answer = await listener.bus.request(
            PUT, Put(file=text, probe_s=probe_s), user="anna", id="gateway", timeout_s=30
        )
        await online(listener)
        await listener.until(lambda: value(listener, "speed") == 11)

        assert plc.accepted == 1 or not ok

    assert answer.ok is ok
    assert path.read_text() == (text if ok else before)


async def test_an_edit_of_which_nothing_comes_is_undone_though_the_rest_of_the_device_answers(broker, plc, tmp_path):
    path = tmp_path / "devices" / "pump.yaml"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await online(listener)
        before = path.read_text()
        text = yaml.safe_dump({"device": "pump", **edited(pump(plc.port), unit_id=3)})
        answer = await listener.bus.request(PUT, Put(file=text, probe_s=1), user="anna", id="gateway", timeout_s=30)
        await listener.until(lambda: value(listener, "speed") == 11 and listener.last(STATE)["state"] == "online")

        assert plc.accepted == 1

    assert "nothing has come of edited" in answer.error.message
    assert path.read_text() == before


def with_another_tag(device):
    """The device with one more tag, in the group `edited`, as the gateway works with it."""
    kept, group = device.spec.groups
    added = replace(group.tags[0], name="added")
    spec = replace(device.spec, groups=(kept, replace(group, tags=(*group.tags, added))))
    tags = {**device.tags, "added": replace(device.tags["speed"], name="added")}
    return replace(device, spec=spec, tags=tags, rev="another")


async def test_a_change_that_is_given_up_midway_leaves_the_device_as_its_file_says(broker, plc, tmp_path):
    device = pump(plc.port)
    device["connection"]["timeout"] = "30s"
    unit = plc.units[1]
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": device}, reload_every="1h") as running,
    ):
        await listener.until(lambda: value(listener, "speed") == 11)
        info, fleet = listener.last(INFO), running.gateway.fleet
        unit.delay_s = 1.0
        unit.asked.clear()
        await unit.asked.wait()
        change = asyncio.create_task(fleet.rework(with_another_tag(fleet.running["pump"])))
        begun = await listener.bus.request(READ, Read(group="edited"), user="anna", id="pump")
        change.cancel()
        unit.delay_s = 0.0
        answer = await listener.bus.request(ENABLE, Enable(), user="anna", id="pump", timeout_s=30)
        polls = len(listener.heard[KEPT])
        await listener.until(lambda: len(listener.heard[KEPT]) > polls + 1)
        await listener.until(lambda: value(listener, "speed") == 11)
        await listener.until(lambda: "added" not in listener.last(INFO)["tags"])
        await listener.until(lambda: not value(listener, "added") or "tag/pump/added" in listener.cleared)

        assert listener.last(INFO)["rev"] == listener.last(EDITED)["rev"] == info["rev"]
        assert plc.accepted == 1

    assert "has just been changed" in begun.error.message
    assert answer.ok
