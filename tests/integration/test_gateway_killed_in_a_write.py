"""A gateway that is killed in the middle of a write says what is known and never writes again; one that was stopped
writes nothing late."""

import asyncio
import signal
from contextlib import suppress

import pytest

from contracts.v1.command import REPLY, WRITE
from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.gateway_site import listening
from tests.integration.ledger import events, online, told
from tests.integration.service_process import gateway_config, service_process

REPLIES = "reply/operator/hmi"


@pytest.fixture
async def config(broker_with_accounts, unit, tmp_path):
    """A site's settings file with one device."""
    speed = {"address": "holding:10", "type": "float32", "range": [0, 100], "writable": True}
    valve = {**speed, "address": "holding:20", "fail_safe": {"value": 5, "after": "200ms"}}
    async with ModbusSimulator(units={1: unit}) as simulator:
        pump = {
            "driver": "modbus",
            "writes": "enabled",
            "connection": {"host": "127.0.0.1", "port": simulator.port, "unit_id": 1, "timeout": "30s"},
            "groups": {"fast": {"interval": "50ms", "tags": {"speed": speed, "valve": valve}}},
        }
        yield gateway_config(broker_with_accounts, tmp_path, {"pump": pump})


async def send(listener, *, expiry_s=30, tag="speed"):
    await listener.bus._link.send(
        WRITE.build(site="test", user="operator", id="pump", arg=tag),
        b"75.0",
        kind="WRITE",
        retain=False,
        expiry_s=expiry_s,
        response_topic=REPLY.build(site="test", user="operator", client="hmi"),
        correlation=b"7",
    )


async def test_a_write_cut_off_by_sigkill_is_answered_with_what_was_read_back_and_never_done_again(
    broker_with_accounts, config, unit
):
    written = asyncio.Event()

    def hold_the_answer(access):
        written.set()
        unit.delay_s = 60

    unit.on_write = hold_the_answer
    async with listening(broker_with_accounts, account="operator") as listener:
        async with service_process("gateway", config) as gateway:
            await online(listener)
            await send(listener)
            async with asyncio.timeout(30):
                await written.wait()
            await listener.until(lambda: "write.executing" in told(listener))
            gateway.kill()
            await gateway.wait()
        unit.delay_s = 0
        async with service_process("gateway", config):
            await listener.until(lambda: listener.heard[REPLIES])
            await send(listener)
            await listener.until(lambda: len(listener.heard[REPLIES]) == 2)
            await listener.until(lambda: "write.failed" in told(listener))

    first, again = listener.heard[REPLIES]
    assert first["error"]["code"] == "internal"
    assert first["error"]["detail"] == {"read_back": 75.0}
    assert "outcome unknown" in first["error"]["message"]
    assert "read back = 75.0" in first["error"]["message"]
    assert again == first
    assert unit.writes == 1
    assert told(listener) == ["write.accepted", "write.executing", "write.failed"]


async def test_a_fail_safe_value_cut_off_by_sigkill_is_told_with_what_was_read_back_and_written_again(
    broker_with_accounts, config, unit
):
    written = asyncio.Event()

    def hold_the_answer(access):
        if unit.writes == 2:
            written.set()
            unit.delay_s = 60

    unit.on_write = hold_the_answer
    async with listening(broker_with_accounts, account="operator") as listener:
        async with service_process("gateway", config) as gateway:
            await online(listener)
            await send(listener, tag="valve")
            async with asyncio.timeout(30):
                await written.wait()
            await listener.until(lambda: told(listener).count("write.executing") == 2)
            gateway.kill()
            await gateway.wait()
        unit.delay_s = 0
        before = len(events(listener))
        async with service_process("gateway", config):
            await listener.until(lambda: told(listener)[before:].count("write.done") == 1)

    failed, accepted, *_, done = events(listener)[before:]
    assert [failed["type"], accepted["type"], done["type"]] == ["write.failed", "write.accepted", "write.done"]
    assert failed["data"]["fail_safe"] == "silence of operator"
    assert (failed["data"]["value"], failed["data"]["read_back"]) == (5, 5.0)
    assert "outcome unknown" in failed["data"]["message"]
    assert (done["data"]["fail_safe"], unit.writes) == ("silence of operator", 3)


async def test_a_gateway_killed_right_after_its_answer_gives_the_same_answer_again(broker_with_accounts, config, unit):
    async with listening(broker_with_accounts, account="operator") as listener:
        async with service_process("gateway", config) as gateway:
            await online(listener)
            await send(listener)
            await listener.until(lambda: listener.heard[REPLIES])
            gateway.kill()
            await gateway.wait()
        unit.set_value("holding:10", ValueType.FLOAT32, 20.0)
        async with service_process("gateway", config):
            async with asyncio.timeout(30):
                while len(listener.heard[REPLIES]) < 2:  # until the gateway listens
                    await send(listener)
                    with suppress(TimeoutError):
                        await listener.until(lambda: len(listener.heard[REPLIES]) >= 2, 1)

    first, *again = listener.heard[REPLIES]
    assert first["ok"]
    assert again
    assert all(answer == first for answer in again)
    assert unit.writes == 1
    assert "write.failed" not in told(listener)


async def test_a_gateway_that_was_stopped_for_a_while_does_not_do_then_what_was_asked_before(
    broker_with_accounts, config, unit
):
    async with (
        listening(broker_with_accounts, account="operator") as listener,
        service_process("gateway", config) as gateway,
    ):
        await online(listener)
        gateway.send_signal(signal.SIGSTOP)
        await send(listener, expiry_s=1)
        await asyncio.sleep(2.5)  # how long it is stopped is what is tried: longer than the command may wait
        gateway.send_signal(signal.SIGCONT)
        await listener.until(lambda: listener.heard[REPLIES])

    assert listener.last(REPLIES)["error"]["code"] == "timeout"
    assert unit.writes == 0
