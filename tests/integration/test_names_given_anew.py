"""A user's name that is given to somebody else: what the one before has left behind is not the new one's."""

import asyncio
import json
from pathlib import Path
from typing import Any

from contracts.v1.command import ErrorCode
from contracts.v1.pipeline import SAVE_PIPELINE, SavePipeline
from contracts.v1.policy import Rights, Role
from contracts.v1.user import ADD_USER, REMOVE_USER, SET_ROLE
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.identity.roster import User
from services.identity.user_file import parse_users, users_text
from services.runtime.bus.bus import Bus, Outcome
from tests.integration.identity_site import hashed, identity_at_work, identity_site
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_devices import pump_gateway
from tests.policies import OPEN
from tests.polling import until
from tests.real_broker import Broker
from tests.real_bus import make_bus

CONTROL = {
    "pipeline": "control",
    "nodes": {"set": {"type": "write", "tag": "pump/speed", "constants": {"value": 3.0}}},
}


async def save(client: Bus, by: str) -> Outcome[Any]:
    asked = SavePipeline(definition=json.dumps(CONTROL))
    return await client.request(SAVE_PIPELINE, asked, user=by, scope="main", id="control", timeout_s=30)


async def test_a_pipeline_writes_for_who_saved_it_and_not_for_the_next_one_of_that_name(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    client = make_bus(broker, "anna-console")
    async with pump_gateway(broker, tmp_path, plc, client) as listener:
        async with running_orchestrator(broker, tmp_path) as site:
            await site.save("control", CONTROL, by="bert")
            may = await run_pipeline(client, "control")
            broker.publish_policy(OPEN, t=2, since={"bert": 2})
            other = await run_pipeline(client, "control")
            counted = unit.writes
            saved = await save(listener.bus, "bert")
            his = await run_pipeline(client, "control")
        async with running_orchestrator(broker, tmp_path):
            later = await run_pipeline(client, "control")
            broker.publish_policy(OPEN, t=3, since={"bert": 3})
            third = await run_pipeline(client, "control")

    assert [one.error and one.error.code for one in (may, other, saved, his, later, third)] == [
        None, ErrorCode.FORBIDDEN, None, None, None, ErrorCode.FORBIDDEN,
    ]  # fmt: skip
    assert other.error is not None
    assert "version 1 of 'control' was saved by another 'bert'" in other.error.message
    assert "somebody who may must save it again" in other.error.message
    assert counted == 1
    assert saved.result.version == 2, "the same text, and another one who saves it"
    assert unit.writes == 3


async def test_the_policy_tells_since_when_a_name_is_its_owners(tmp_path: Path) -> None:
    async with identity_site(tmp_path / "site") as site:
        file = site.site.users_file
        async with identity_at_work(site) as identity:
            await until(lambda: identity.register._users is not None, 30, what="the file is read")
            await site.add("anna", Role.ENGINEER)
            first = site.users["anna"].since
            await site.ask(SET_ROLE, "anna", role=Role.OPERATOR)
            lowered = site.users["anna"].since
            await site.ask(REMOVE_USER, "anna")
            await site.add("anna", Role.ENGINEER)
            second = site.users["anna"].since
            bob = User(Rights(role=Role.VIEWER), hashed("a password of bob"))
            await asyncio.to_thread(file.write_text, users_text({**site.users, "bob": bob}))
            await until(lambda: "bob" in identity.register._read_told(), 30, what="bob is taken up and noted")
            by_hand = identity.register.users["bob"].since
        async with identity_at_work(site) as identity:
            await until(lambda: identity.register._users is not None, 30, what="the file is read")
            again = identity.register.users["bob"].since
            added = await site.ask(ADD_USER, "carl", role=Role.VIEWER, password=hashed("a password of carl"))
        kept = parse_users(file.read_text(), source="users.yaml")

    assert first is not None
    assert second is not None
    assert lowered == first < second
    assert by_hand is not None
    assert by_hand > second
    assert again == by_hand, "also before the file says it"
    assert added.error is None
    assert {name: user.since for name, user in kept.items() if user.since is not None}.keys() == {"anna", "bob", "carl"}
    assert kept["bob"].since == by_hand
