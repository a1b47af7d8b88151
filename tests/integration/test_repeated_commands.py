"""Commands that come again under the same correlation data, at a real gateway behind a real broker."""

from pathlib import Path

from contracts.codec import encode
from contracts.v1.command import REPLY, WRITE, ErrorCode, Reply, Write
from contracts.v1.device import ValueType
from contracts.v1.policy import Rights, Role
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.runtime.bus.bus import Bus
from services.runtime.settings import Limits, Rate
from tests.conftest import Eventually
from tests.integration.test_rights import plant, without_policy
from tests.policies import OPEN
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running

NONE_LEFT = {"admin": Rights(role=Role.ADMIN)}


async def write(bus: Bus, user: str, value: float, *, correlation: bytes, named: str | None = None) -> None:
    """Sends a write of pump/speed, as often as it is called the same."""
    topic = WRITE.build(site=SITE, user=user, id="pump", arg="speed")
    await bus._link.send(
        topic,
        encode(Write(value=value, on_behalf_of=named), topic=topic),
        kind="WRITE",
        retain=False,
        expiry_s=30,
        correlation=correlation,
        response_topic=REPLY.build(site=SITE, user=user, client="again"),
    )


def answers(bus: Bus, user: str) -> Inbox:
    inbox = Inbox()
    bus.subscribe(REPLY, inbox.handle, user=user, client="again")
    return inbox


async def test_a_write_that_was_done_is_answered_so_again_though_who_asked_has_lost_his_rights(
    broker_with_accounts: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    broker = broker_with_accounts
    orchestrator = make_bus(broker, "orchestrator-tool", account="orchestrator")
    async with plant(broker, plc, tmp_path) as (_, gateway, hostile), running(orchestrator):
        operator = hostile["operator"]
        own, acting = answers(operator, "operator"), answers(orchestrator, "orchestrator")
        await operator._subscriptions.settle()
        await orchestrator._subscriptions.settle()
        await write(operator, "operator", 7.0, correlation=b"1")
        await write(orchestrator, "orchestrator", 8.0, correlation=b"1", named="operator")
        await own.wait(1)
        await acting.wait(1)
        broker.publish_policy(NONE_LEFT, t=2)
        refused = await operator.request(WRITE, Write(value=9.0), user="operator", id="pump", arg="speed")
        await write(operator, "operator", 7.0, correlation=b"1")
        await write(orchestrator, "orchestrator", 8.0, correlation=b"1", named="operator")
        await own.wait(2)
        await acting.wait(2)
        await write(orchestrator, "orchestrator", 8.0, correlation=b"2", named="operator")
        await write(operator, "operator", 6.0, correlation=b"1")
        await own.wait(3)
        await acting.wait(3)
        told = gateway.metric("dropped_items_total", queue="bus.WRITE", reason="duplicate")

    assert refused.error is not None
    assert refused.error.code is ErrorCode.FORBIDDEN, "his rights are gone"
    assert [code(one) for one in own.payloads] == [None, None, ErrorCode.CONFLICT]
    assert [code(one) for one in acting.payloads] == [None, None, ErrorCode.FORBIDDEN]
    assert own.payloads[0] == own.payloads[1]
    assert acting.payloads[0] == acting.payloads[1]
    assert unit.writes == 2
    assert told == 2


def code(reply: Reply) -> ErrorCode | None:
    return reply.error and reply.error.code


async def test_a_flood_of_the_same_command_is_answered_no_more_often_than_one_of_new_ones(
    broker_with_accounts: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path, eventually: Eventually
) -> None:
    limits = Limits(acts=Rate(rate=0.001, burst=3))
    async with plant(broker_with_accounts, plc, tmp_path, limits=limits) as (_, gateway, hostile):
        operator = hostile["operator"]
        own = answers(operator, "operator")
        await operator._subscriptions.settle()
        await write(operator, "operator", 7.0, correlation=b"1")
        await own.wait(1)
        for _ in range(19):
            await write(operator, "operator", 7.0, correlation=b"1")

        def dropped() -> bool:
            return gateway.metric("dropped_items_total", queue="bus.WRITE", reason="repeated_too_often") == 17

        await eventually(dropped)
        await own.wait(3)

    assert [reply.ok for reply in own.payloads] == [True] * 3, "none is told that it was not done"
    assert unit.writes == 1


async def test_a_command_to_a_service_without_a_policy_hears_why_before_it_is_too_late(
    plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    async with without_policy(plc, tmp_path) as (broker, listener):
        levels = {"user": "anna", "id": "pump", "arg": "speed"}
        early = await listener.bus.request(WRITE, Write(value=5.0), timeout_s=3, **levels)
        broker.publish_policy(OPEN)
        later = await listener.bus.request(WRITE, Write(value=6.0), timeout_s=30, **levels)

    assert early.error is not None
    assert early.error.code is ErrorCode.UNAVAILABLE
    assert "has not reached this service yet; try again" in early.error.message
    assert later.ok, later.error
    assert unit.value("holding:10", ValueType.FLOAT32) == 6.0
    assert unit.writes == 1
