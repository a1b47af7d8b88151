"""`dinrail device` against a gateway that runs."""

import asyncio

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.main import app
from tests.integration.gateway_site import listening, running_gateway
from tests.real_broker import SITE


@pytest.fixture
def site(broker, plc, tmp_path):
    """A site's folder, as `dinrail init` makes it, beside a device file that the gateway does not have yet."""
    (tmp_path / "devices").mkdir()
    settings = {"site": SITE, "broker": {"host": "127.0.0.1", "port": broker.port}}
    (tmp_path / "dinrail.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "secrets").mkdir()
    for account in ("viewer", "engineer"):
        (tmp_path / "secrets" / f"{account}.password").write_text("any")
    pump = {
        "device": "pump",
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1},
        "groups": {"fast": {"interval": "20ms", "tags": {"level": {"address": "holding:10", "type": "float32"}}}},
    }
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(pump))
    return tmp_path


async def dinrail(site, *arguments):
    """Exit code and output of a command, run in a thread: it has an event loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--dir", str(site)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


async def test_a_device_is_put_listed_disabled_enabled_changed_by_table_and_deleted(broker, site):
    async with listening(broker) as listener, running_gateway(broker, site, {}):
        await listener.until(lambda: listener.last("service/gateway/gateway").get("state") == "online")
        assert await dinrail(site, "device", "put", str(site / "new.yaml"), "--probe", "5s") == (
            0,
            f"pump: stored as revision {listener.last('device/pump/info')['rev']}\n",
        )
        code, table = await dinrail(site, "device", "list")
        assert (code, table.split()[-6:-1]) == (0, ["pump", "online", "modbus", "gateway", "1"])

        assert await dinrail(site, "device", "disable", "pump") == (0, "pump: disabled\n")
        await listener.until(lambda: listener.last("device/pump/state").get("state") == "disabled")
        assert await dinrail(site, "device", "enable", "pump") == (0, "pump: enabled\n")
        await listener.until(lambda: listener.last("device/pump/state").get("state") == "online")

        code, exported = await dinrail(site, "tags", "export", "pump")
        (site / "plant.csv").write_text(exported.replace("level", "height"))
        before = (site / "devices" / "pump.yaml").read_text()
        code, told = await dinrail(site, "tags", "import", str(site / "plant.csv"), "--dry-run")
        assert (code, told) == (0, "pump: 1 added, 1 removed, 1 tag (not changed: dry run)\n")
        assert (site / "devices" / "pump.yaml").read_text() == before
        assert (await dinrail(site, "tags", "import", str(site / "plant.csv")))[0] == 0
        await listener.until(lambda: listener.last("tag/pump/height").get("q") == 192)
        await listener.until(lambda: "tag/pump/level" in listener.cleared)
        code, shown = await dinrail(site, "tags", "pump/*")
        assert (code, "height" in shown) == (0, True)

        code, told = await dinrail(site, "device", "reload-driver")
        assert (code, told.startswith("modbus: version ")) == (0, True)
        assert await dinrail(site, "device", "delete", "pump") == (0, "pump: removed\n")
        await listener.until(lambda: "device/pump/state" in listener.cleared)

    assert not (site / "devices" / "pump.yaml").exists()


async def test_what_the_gateway_refuses_is_told_and_is_the_exit_code(broker, site):
    (site / "new.yaml").write_text((site / "new.yaml").read_text().replace("20ms", "20"))
    async with listening(broker) as listener, running_gateway(broker, site, {}):
        await listener.until(lambda: listener.last("service/gateway/gateway").get("state") == "online")
        code, told = await dinrail(site, "device", "put", str(site / "new.yaml"))
        for wrong in (("delete", "../pump"), ("enable", "Pump"), ("put", str(site / "new.yaml"), "--probe", "2m")):
            assert (await dinrail(site, "device", *wrong))[0] == 2
        gone, missing = await dinrail(site, "device", "delete", "fan", "--gateway", "gateway")

    assert (code, gone) == (1, 1)
    assert told.startswith(f"invalid: {site / 'new.yaml'}:")
    assert "groups.fast.interval" in told
    assert missing == "not_found: there is no file of a device 'fan'; there are: none\n"
