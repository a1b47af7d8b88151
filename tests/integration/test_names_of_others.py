"""What narrowed users are not shown: names of devices and workspaces that are none of theirs."""

import json
from pathlib import Path
from typing import Any

from contracts.v1.command import PUT, ErrorCode, Put
from contracts.v1.pipeline import (
    GET_PIPELINE,
    SAVE_PIPELINE,
    VALIDATE_PIPELINE,
    GetPipeline,
    SavePipeline,
    ValidatePipeline,
)
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.orchestrator_site import running_orchestrator
from tests.integration.test_rights import NARROW, codes, plant, refused
from tests.polling import until
from tests.real_broker import Broker
from tests.real_bus import make_bus, running


def reading(*tags: str) -> str:
    nodes = {f"n{number}": {"type": "read", "tag": tag} for number, tag in enumerate(tags)}
    return json.dumps({"pipeline": "look", "nodes": nodes})


async def test_a_check_of_a_definition_knows_no_device_that_is_not_the_users(
    broker_with_accounts: Broker, plc: ModbusSimulator, tmp_path: Path
) -> None:
    broker = broker_with_accounts
    levels: dict[str, Any] = {"user": "engineer", "scope": "north", "id": "look", "timeout_s": 30}
    async with plant(broker, plc, tmp_path) as (_, _, hostile), running_orchestrator(broker, tmp_path):
        client = hostile["engineer"]
        check = ValidatePipeline(definition=reading("pump/level", "fan/level"))

        async def is_right() -> bool:
            whole = await client.request(VALIDATE_PIPELINE, check, **levels)
            return whole.result is not None and whole.result.ok

        await until(is_right, 30, what="the orchestrator knows both devices")
        broker.publish_policy(NARROW, t=2)
        own = await client.request(VALIDATE_PIPELINE, ValidatePipeline(definition=reading("pump/level")), **levels)
        other = await client.request(VALIDATE_PIPELINE, ValidatePipeline(definition=reading("fan/leval")), **levels)
        unknown = await client.request(VALIDATE_PIPELINE, ValidatePipeline(definition=reading("fun/level")), **levels)
        saved = await client.request(SAVE_PIPELINE, SavePipeline(definition=reading("fan/level")), **levels)

    assert own.result is not None
    assert own.result.ok
    for one, tag in ((other, "fan/leval"), (unknown, "fun/level")):
        assert one.result is not None
        (fault,) = one.result.faults
        assert fault.message == f"there is no tag {tag!r}", "one that is not his is as if there were none"
        assert "fan" not in fault.mend
    assert codes(saved) == [ErrorCode.INVALID]


async def test_refused_commands_are_told_where_those_are_who_may_know(
    broker_with_accounts: Broker, plc: ModbusSimulator, tmp_path: Path
) -> None:
    broker = broker_with_accounts
    viewer = make_bus(broker, "viewer-1", account="viewer")
    async with (
        plant(broker, plc, tmp_path) as (listener, _, hostile),
        running_orchestrator(broker, tmp_path),
        running(viewer),
    ):
        broker.publish_policy(NARROW, t=2)
        client = hostile["engineer"]
        fan = (tmp_path / "devices" / "fan.yaml").read_text()
        elsewhere = await client.request(GET_PIPELINE, GetPipeline(), user="engineer", scope="main", id="oee")
        put = await client.request(PUT, Put(file=fan), user="engineer", id="gateway")
        await listener.until(lambda: len(refused(listener)) >= 2)
        topics = {
            topic: event
            for topic, some in listener.heard.items()
            for one in some
            if topic.startswith("event/")
            for event in one["events"]
            if event["type"] == "command.refused"
        }

    assert codes(elsewhere, put) == [ErrorCode.FORBIDDEN] * 2
    of_workspace, of_plant = topics["event/main/service/orchestrator"], topics["event/plant/service/gateway"]
    assert "oee" in of_workspace["data"]["topic"]
    assert of_workspace["data"]["message"] == "engineer has no right to the workspace 'main'"
    assert "fan" not in json.dumps(of_plant["data"]), "a topic without the device's name, and nothing else"
    assert of_plant["data"]["why"] == "forbidden"
