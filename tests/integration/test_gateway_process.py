"""The gateway as a process with its own account: what others see when it stops and when it is killed."""

import asyncio
import signal

import pytest

from tests.integration.gateway_site import listening
from tests.integration.service_process import gateway_config, service_process

PRESENCE = "service/gateway/gateway"
LEVEL = "tag/pump/level"


@pytest.fixture
def config(broker_with_accounts, plc, tmp_path):
    """A site's settings file with one device."""
    pump = {
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1},
        "groups": {"fast": {"interval": "20ms", "tags": {"level": {"address": "holding:10", "type": "float32"}}}},
    }
    return gateway_config(broker_with_accounts, tmp_path, {"pump": pump})


async def test_sigterm_stops_it_cleanly_and_tells_everybody(broker_with_accounts, config):
    async with (
        listening(broker_with_accounts, account="viewer") as listener,
        service_process("gateway", config) as process,
    ):
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        await listener.until(lambda: listener.last(PRESENCE).get("state") == "offline")

    assert [told["state"] for told in listener.heard[PRESENCE]][-3:] == ["online", "draining", "offline"]
    assert listener.last(LEVEL)["q"] == 0
    assert listener.last("device/pump/state")["cause"] == "stopped"
    assert listener.last("frame/pump/fast")["closed"] is True


async def test_sigkill_is_told_by_the_broker_at_once_and_the_next_epoch_follows_on(broker_with_accounts, config):
    async with listening(broker_with_accounts, account="viewer") as listener:
        async with service_process("gateway", config) as process:
            await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
            await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > 3)
            sid = listener.last(PRESENCE)["sid"]
            process.kill()
            # sooner than by its keep-alive, which is 7 s: the broker waits one and a half of them
            await listener.until(lambda: listener.last(PRESENCE).get("state") == "offline", 10)
        async with service_process("gateway", config):
            before = listener.last("frame/pump/fast")
            await listener.until(lambda: listener.last("frame/pump/fast")["epoch"] != before["epoch"])
            await listener.until(lambda: listener.last(LEVEL).get("cause") == "startup" or listener.last(LEVEL)["q"])

    assert sid in {told["sid"] for told in listener.heard[PRESENCE] if told["state"] == "offline"}
    first = next(frame for frame in listener.heard["frame/pump/fast"] if "prev" in frame)
    assert first["prev"]["epoch"] == before["epoch"]
    assert first["prev"]["last_seq"] >= before["seq"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("tag_topics: perhaps", "dinrail.yaml:5: gateway.tag_topics:"),
        ("devcies: here", "dinrail.yaml:5: gateway.devcies: unknown key"),
    ],
)
async def test_settings_with_a_fault_are_refused_with_the_place(config, change, told):
    text = config.read_text().replace("gateway:\n", f"gateway:\n  {change}\n")
    config.write_text(text)

    async with service_process("gateway", config) as process:
        async with asyncio.timeout(30):
            _, stderr = await process.communicate()

    assert process.returncode == 1
    assert told in stderr.decode()


async def test_a_data_folder_that_cannot_be_is_told_in_one_line(config):
    (config.parent / "data").write_text("a file")

    async with service_process("gateway", config) as process:
        _, said = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == 1
    assert said.decode() == f"[Errno 20] Not a directory: '{config.parent}/data/gateway'\n"
