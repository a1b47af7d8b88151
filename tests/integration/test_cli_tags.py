"""`dinrail tags` against a real broker that holds what a gateway has published."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
import pytest
from rich.console import Console

from contracts.codec import encode
from contracts.v1.device import DEVICE, DEVICE_STATE, DeviceStatus
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.tag import TAG
from services.cli import tags as tags_module
from services.cli.connection import Access, ConnectionFailed
from services.cli.tags import show_tags
from tests.real_broker import SITE, Broker
from tests.unit.cli.conftest import info, presence, state, value

MANY = [f"tag-{number:04}" for number in range(3000)]


@pytest.fixture
def access(broker_with_accounts: Broker) -> Access:
    assert broker_with_accounts.accounts
    return Access(SITE, broker_with_accounts.settings(), broker_with_accounts.accounts["viewer"])


@pytest.fixture
async def gateway(broker_with_accounts: Broker) -> AsyncIterator[aiomqtt.Client]:
    """A client that publishes with the gateway's account."""
    assert broker_with_accounts.accounts
    async with aiomqtt.Client(
        "127.0.0.1",
        broker_with_accounts.port,
        username="gateway",
        password=broker_with_accounts.accounts["gateway"],
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:
        yield client


async def announce(gateway: aiomqtt.Client, *names: str) -> None:
    """A device with these tags, online, and its gateway."""
    for topic, payload in (
        (DEVICE.build(site=SITE, device="plc"), info(*names)),
        (DEVICE_STATE.build(site=SITE, device="plc"), state(DeviceStatus.ONLINE)),
        (SERVICE.build(site=SITE, service="gateway", instance="gateway"), presence(ServiceStatus.ONLINE)),
    ):
        await gateway.publish(topic, encode(payload, topic=topic), qos=1, retain=True)


async def publish(gateway: aiomqtt.Client, *names: str) -> None:
    for name in names:
        topic = TAG.build(site=SITE, device="plc", tag=name)
        await gateway.publish(topic, encode(value(1.5), topic=topic), qos=1, retain=True)


async def show(access: Access, pattern: str = "*", *, as_json: bool = False) -> tuple[int, str]:
    output = io.StringIO()
    console = Console(file=output, width=160)
    code = await show_tags(access=access, pattern=pattern, as_json=as_json, console=console)
    return code, output.getvalue()


async def test_every_retained_value_is_shown_also_when_there_are_thousands(
    access: Access, gateway: aiomqtt.Client
) -> None:
    await announce(gateway, *MANY)
    await publish(gateway, *MANY)

    code, output = await show(access, as_json=True)

    listed: dict[str, Any] = json.loads(output)
    assert code == 0
    assert listed["missing"] == []
    assert [row["tag"] for row in listed["tags"]] == MANY
    assert {(row["value"], row["quality"], row["unit"]) for row in listed["tags"]} == {(1.5, "good", "bar")}


async def test_a_table_has_states_on_top_and_the_tags_asked_for(access: Access, gateway: aiomqtt.Client) -> None:
    await announce(gateway, "level", "speed")
    await publish(gateway, "level", "speed")

    code, output = await show(access, "plc/le*")

    assert code == 0
    lines = output.splitlines()
    assert "gateway gateway" in lines[0]
    assert "device plc" in lines[1]
    assert "online" in lines[1]
    assert [line.split()[:5] for line in lines if " level " in line] == [["plc", "level", "1.5", "bar", "good"]]
    assert "speed" not in output


async def test_what_is_missing_is_said_and_is_the_exit_code(
    access: Access, gateway: aiomqtt.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "WHOLE_S", 1.0)
    await announce(gateway, "level", "speed")
    await publish(gateway, "level")

    code, output = await show(access)

    assert code == 1
    assert "missing: plc: 1 of 2 tags have no value (speed)" in output


async def test_a_broker_without_devices_is_told_apart_from_one_that_is_away(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "WHOLE_S", 1.0)

    code, output = await show(access)

    assert code == 1
    assert "no device has announced itself" in output


async def test_a_wrong_password_is_named_as_such(access: Access) -> None:
    with pytest.raises(ConnectionFailed, match="password"):
        await show(Access(access.site, access.broker, "wrong"))


async def test_a_broker_that_is_away_is_named_with_its_address(access: Access, broker_with_accounts: Broker) -> None:
    broker_with_accounts.stop()

    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{broker_with_accounts.port} does not answer"):
        await show(access)
