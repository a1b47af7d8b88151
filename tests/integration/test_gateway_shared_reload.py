"""A driver edited while several of its devices share what only one version can hold open: they move over together."""

import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import plugins
from contracts.v1.command import RELOAD, ErrorCode, Reload
from plugins.drivers.modbus.rtu_simulator import SerialSimulator
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.gateway_site import listening, running_gateway
from tests.integration.ledger import online

MODBUS = Path(plugins.__file__).parent / "drivers" / "modbus"
PLUGIN = "plugin/driver/fieldbus/gateway"
PAIR = ("left", "right")


class OneClient(ModbusSimulator):
    """A gateway that takes a single client: whoever comes beside it is thrown out."""

    def opened(self, connection):
        super().opened(connection)
        if self.connected > 1:
            connection.abort()


def units():
    made = {1: Unit(), 2: Unit()}
    for number, unit in made.items():
        unit.holding[0] = number
    return made


def device(driver, connection, unit):
    return {
        "driver": driver,
        "connection": {"timeout": "2s", "retries": 0, "unit_id": unit, **connection},
        "groups": {"all": {"interval": "250ms", "tags": {"value": {"address": "holding:0", "type": "uint16"}}}},
    }


@asynccontextmanager
async def serial(tmp_path):
    path = tmp_path / "line"
    async with SerialSimulator(units=units(), path=path):
        yield {"transport": "serial", "serial": {"port": str(path), "baudrate": 115200, "parity": "none"}}


@asynccontextmanager
async def one_client(tmp_path):
    async with OneClient(units=units()) as simulator:
        yield {"host": "127.0.0.1", "port": simulator.port}


@pytest.fixture
async def fan():
    async with ModbusSimulator(units=units()) as simulator:
        yield simulator


@pytest.fixture
def fieldbus(tmp_path):
    """The Modbus driver as a plugin of the site's own, which may be edited."""
    folder = tmp_path / "plugins" / "fieldbus"
    shutil.copytree(MODBUS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    edit(folder / "plugin.yaml", "id: modbus", "id: fieldbus")
    return folder


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@asynccontextmanager
async def at_work(broker, fieldbus, fan, shared, tmp_path):
    """Two devices of the plugin at one place, and one of the driver that comes with dinrail elsewhere."""
    async with shared(tmp_path) as connection:
        devices = {name: device("fieldbus", connection, unit) for unit, name in enumerate(PAIR, 1)}
        devices["fan"] = device("modbus", {"host": "127.0.0.1", "port": fan.port}, 1)
        own = {"plugins": (fieldbus.parent,), "reload_plugins": True, "reload_every": "1h"}
        async with listening(broker) as listener, running_gateway(broker, tmp_path, devices, **own):
            for name in devices:
                await online(listener, name)
            yield listener


def assert_untouched(frames):
    """One stream, without a gap and without a bad value."""
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert len({frame["epoch"] for frame in frames}) == 1
    assert not any("q" in sample for frame in frames for sample in frame["samples"])


async def reload(listener):
    return await listener.bus.request(RELOAD, Reload(plugin="fieldbus"), user="anna", id="gateway", timeout_s=30)


async def fresh_values(listener):
    """Both devices of the plugin are polled in their second epoch or a later one."""
    for number, name in enumerate(PAIR, 1):
        topic = f"frame/{name}/all"
        first = listener.heard[topic][0]["epoch"]
        await listener.until(
            lambda topic=topic, first=first, number=number: any(
                sample["v"]["value"] == number
                for frame in listener.heard[topic]
                for sample in frame["samples"]
                if frame["epoch"] > first
            )
        )


@pytest.mark.parametrize("shared", [serial, one_client])
async def test_a_new_version_takes_over_what_its_devices_share(broker, fieldbus, fan, shared, tmp_path):
    async with at_work(broker, fieldbus, fan, shared, tmp_path) as listener:
        edit(fieldbus / "plugin.yaml", "version: 1", "version: 7")
        answer = await reload(listener)
        await fresh_values(listener)
        polls = len(listener.heard["frame/fan/all"])
        await listener.until(lambda: len(listener.heard["frame/fan/all"]) > polls + 2)

        assert fan.accepted == 1
        assert_untouched(listener.heard["frame/fan/all"])

    assert answer.ok, answer.error
    assert answer.result.plugins["fieldbus"].startswith("7.")


@pytest.mark.parametrize("shared", [serial, one_client])
async def test_a_version_that_does_not_work_gives_back_what_its_devices_share(
    broker, fieldbus, fan, shared, tmp_path, monkeypatch
):
    monkeypatch.setattr("services.gateway.swap.TRIAL_S", 0.5)
    async with at_work(broker, fieldbus, fan, shared, tmp_path) as listener:
        edit(
            fieldbus / "device.py", "        reads = self._groups[group]\n", '        raise DeviceError("not today")\n'
        )
        answer = await reload(listener)
        for name in PAIR:
            await online(listener, name)
        await fresh_values(listener)

        assert fan.accepted == 1
        assert_untouched(listener.heard["frame/fan/all"])

    assert answer.error.code is ErrorCode.INVALID
    assert "not today" in answer.error.message
    assert "not today" in listener.last(PLUGIN)["error"]
