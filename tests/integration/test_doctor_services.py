"""`dinrail doctor` beside real services that something is wrong with."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import yaml

from contracts.v1.frame_codec import SampleStruct
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.cli.connection import viewer_access
from services.cli.doctor.machines import Devices
from services.cli.doctor.sight import look
from services.cli.site import Site
from tests.faults.site import Process
from tests.faults.stepped import step
from tests.histories import BUCKET, Influx
from tests.integration.test_doctor_bus import doctor, example, make_folder
from tests.polling import until
from tests.real_broker import SITE, Broker
from tests.recorder_rig import TOPIC, message

READY_S = 40.0
START = 1_800_000_000_000_000
EVENTS = example("events")


async def told(folder: Path) -> list[dict[str, Any]]:
    """What the doctor finds."""
    _, said = await asyncio.to_thread(doctor, folder, "--json")
    found: list[dict[str, Any]] = json.loads(said)["findings"]
    return found


def failures(found: list[dict[str, Any]], check: str) -> str:
    return "\n".join(one["text"] for one in found if one["check"] == check and one["state"] != "OK")


async def test_a_database_that_rejects_points_and_one_that_is_away_are_told_and_so_is_what_is_missing(
    broker: Broker, influx: Influx, tmp_path: Path
) -> None:
    influx.write(f'tag,tag=other f="text" {START}')  # floats collide with it in this shard
    (tmp_path / "token").write_text(influx.token)
    store = {"kind": "influxdb", "url": influx.api, "bucket": BUCKET, "token_file": str(tmp_path / "token")}
    recorder = Process("recorder", tmp_path / "recorder", broker, {"store": {**store, "flush": "50ms"}})
    folder = make_folder(tmp_path / "site", broker, recorder={"http_port": recorder.port})
    recorder.start()
    try:
        await until(lambda: recorder.get("health")[0] == 200, READY_S)
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            for seq in (1, 5):
                sample = SampleStruct(t=START + seq, v={"x": 1.5})
                await client.publish(TOPIC, message(seq, [sample]).payload, qos=1)
            event = {**EVENTS["events"][0], "version": 5}
            topic = f"dinrail/v1/{SITE}/event/{event['scope']}/{event['aggregate']}/{event['aggregate_id']}"
            await client.publish(topic, json.dumps({**EVENTS, "epoch": 1, "seq": 1, "events": [event]}), qos=1)
        await until(lambda: recorder.metric("dead_letters_total") >= 2, READY_S)
        await until(lambda: recorder.metric("event_versions_missing") == 4, READY_S)
        found = await told(folder)
        rejected, events = failures(found, "recorders"), failures(found, "health")

        recorder.kill()
        recorder.set(store={**store, "url": "http://127.0.0.1:9", "flush": "50ms"})
        recorder.start()
        await until(lambda: recorder.get("health")[0] == 200, READY_S)
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.publish(TOPIC, message(6, [SampleStruct(t=START + 6, v={"x": 1.5})]).payload, qos=1)
        await until(lambda: recorder.metric("store_errors_total") >= 1, READY_S)
        away = failures(await told(folder), "health")
    finally:
        recorder.kill()

    assert "the database rejects points: 2 refused set aside; `dinrail recorder deadletters`" in rejected
    assert "3 messages are missing: `dinrail recorder audit` names them" in rejected
    assert "recorder: 4 versions of events are missing: `dinrail events show` names them" in events
    assert "recorder: store is not well: " in away
    assert "messages wait on disk; the history takes nothing: is the database running" in away


async def test_a_device_that_answers_too_late_for_its_interval_and_a_gateway_with_another_time_are_told(
    broker: Broker, tmp_path: Path
) -> None:
    unit = Unit()
    unit.holding[0] = unit.holding[1] = 0
    unit.delay_s = 0.2
    offset = tmp_path / "offset"
    step(offset, 600)
    async with ModbusSimulator(units={1: unit}) as plc:
        tags = {"x": {"address": "holding:0", "type": "float32", "max_silence": "1s"}}
        device = {
            "device": "plc",
            "driver": "modbus",
            "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1},
            "groups": {"fast": {"interval": "50ms", "tags": tags}},
        }
        gateway = Process("gateway", tmp_path / "gateway", broker, {"devices": "devices"})
        gateway.module = ["tests.faults.stepped", "gateway", str(offset)]
        (tmp_path / "gateway" / "devices").mkdir()
        (tmp_path / "gateway" / "devices" / "plc.yaml").write_text(yaml.safe_dump(device))
        folder = make_folder(tmp_path / "site", broker)
        gateway.start()
        try:
            slow = await _slow(folder)
            clocks = failures(await told(folder), "clocks")
        finally:
            gateway.kill()

    assert slow.startswith("plc is polled ")
    assert "times a second instead of 20: ask less often" in slow
    assert "the clock of gateway gateway is 10 min ahead of this machine's" in clocks


async def _slow(folder: Path) -> str:
    """What is said of a device's rate as soon as it has one: it need not have been online for long."""
    access = viewer_access(Site(folder))
    async with asyncio.timeout(READY_S):
        while True:
            found = list(Devices(await look(access), settled_s=-1e6).findings())
            slow = [one.text for one in found if "times a second instead of" in one.text]
            if slow and "polled 0 times" not in slow[0]:
                return slow[0]


@pytest.mark.parametrize("settings", [{"recorder": {"http_port": "many"}}])
async def test_settings_of_a_service_that_cannot_be_read_are_told_beside_all_else(
    broker: Broker, tmp_path: Path, settings: dict[str, Any]
) -> None:
    found = await told(make_folder(tmp_path / "site", broker, **settings))

    assert "recorder.http_port" in failures(found, "settings")
    assert [one for one in found if one["check"] == "broker" and one["state"] == "OK"]
