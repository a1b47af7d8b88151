"""Drivers edited while the gateway runs: the new version takes over, or the old one goes on and says what is wrong."""

import os
import sys

import pytest

import plugins.api.importing
from contracts.v1.command import DISABLE, RELOAD, Disable, ErrorCode, Reload
from tests.integration.gateway_site import listening, running_gateway
from tests.plain_driver import manifest

PLUGIN = "plugin/driver/steady/gateway"
VALUE = "tag/gauge/constant"
STATE = "device/gauge/state"
MANIFEST = manifest("steady")
DRIVER = """\
from tests.plain_driver import PlainDevice, PlainDriver

from .constant import CONSTANT


class Device(PlainDevice):
    constant = CONSTANT


class Driver(PlainDriver):
    device = Device


DRIVER = Driver()
"""
LOOSE = """\
from pydantic import BaseModel

Driver.tag = type("Fields", (BaseModel,), {})
"""
CANNOT_OPEN = """\
Driver.open = lambda self, device: None
"""
NEEDS_A_PORT = """\
class Connection(Driver.connection):
    port: int


Driver.connection = Connection
"""
STUMBLES = """\
async def stumble(self, group):
    raise KeyError(group)


Device.read = stumble
"""
SLOW_TO_CLOSE = """\
import asyncio
from contextlib import asynccontextmanager

MAY_CLOSE = asyncio.Event()


class SlowDriver(Driver):
    @asynccontextmanager
    async def open(self, device, *, clock):
        try:
            yield Device(device, clock)
        finally:
            await MAY_CLOSE.wait()


DRIVER = SlowDriver()
"""
ENDLESS = """\
import time
from pathlib import Path

while not Path(__file__).with_name("enough").exists():
    time.sleep(0.01)
CONSTANT = 9.0
"""
GAUGE = {
    "driver": "steady",
    "groups": {"all": {"interval": "20ms", "tags": {"constant": {"type": "float64"}}}},
}


@pytest.fixture
def plugin(tmp_path):
    folder = tmp_path / "plugins" / "steady"
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(MANIFEST)
    (folder / "driver.py").write_text(DRIVER)
    (folder / "constant.py").write_text("CONSTANT = 1.0\n")
    return folder


def fan(plc):
    return {
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1},
        "groups": {"fast": {"interval": "2s", "tags": {"level": {"address": "holding:10", "type": "float32"}}}},
    }


def gateway(broker, plugin, devices, **own):
    folder = plugin.parent.parent
    return running_gateway(broker, folder, devices, plugins=(plugin.parent,), reload_plugins=True, **own)


def modules():
    return sorted(name for name in sys.modules if name.startswith("dinrail_plugin_steady"))


def edit_within_a_second(path, text):
    """As quick as that the size and the second of the change say nothing."""
    stat = path.stat()
    path.write_text(text)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


async def reload(listener, plugin="steady"):
    return await listener.bus.request(RELOAD, Reload(plugin=plugin), user="anna", id="gateway", timeout_s=30)


async def test_an_edited_driver_takes_over_and_no_other_device_loses_a_poll(broker, plc, plugin):
    devices = {"gauge": GAUGE, "fan": fan(plc)}
    async with listening(broker) as listener, gateway(broker, plugin, devices) as running:
        await listener.until(lambda: listener.last(VALUE).get("value") == 1.0)
        await listener.until(lambda: listener.last(PLUGIN).get("version") == "1.0.0")
        since, loaded = listener.last(PLUGIN)["since"], modules()
        (plugin / "plugin.yaml").write_text(MANIFEST.replace("1.0.0", "1.1.0"))
        (plugin / "constant.py").write_text("CONSTANT = 2.0\n")
        await listener.until(lambda: listener.last(VALUE).get("value") == 2.0)
        await listener.until(lambda: listener.last(PLUGIN).get("version") == "1.1.0")
        swapped = len(listener.heard["frame/fan/fast"])
        await listener.until(lambda: len(listener.heard["frame/fan/fast"]) > swapped)
        assert plc.accepted == 1
        assert running.metric("overruns_total", device="fan") == 0
        assert len(modules()) == len(loaded)
        assert modules() != loaded
        frames = list(listener.heard["frame/fan/fast"])

    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert not any("q" in sample for frame in frames for sample in frame["samples"])
    assert listener.last(PLUGIN)["since"] > since
    assert "error" not in listener.last(PLUGIN)


@pytest.mark.parametrize(
    ("file", "text", "where", "what"),
    [
        ("constant.py", "CONSTANT = \n", "constant.py:1", "SyntaxError"),
        ("constant.py", "\nCONSTANT = 1 / 0\n", "constant.py:2", "ZeroDivisionError"),
        ("constant.py", "CONST = 1\n", "driver.py:3", "cannot import name 'CONSTANT'"),
        ("constant.py", "import re\nre.compile('(')\n", "constant.py:2", "missing )"),
        ("constant.py", "import sys\nsys.exit(1)\n", "constant.py:2", "SystemExit"),
        ("constant.py", "import no_such_module\n", "constant.py:1", "module 'no_such_module' is missing"),
        ("driver.py", DRIVER + LOOSE, "steady", "would ignore a misspelt key"),
        ("driver.py", DRIVER + CANNOT_OPEN, "steady", "open() cannot be called"),
        ("driver.py", DRIVER + NEEDS_A_PORT, "gauge.yaml:1", "connection.port"),
        ("driver.py", DRIVER + STUMBLES, "driver.py:16", "KeyError"),
        ("plugin.yaml", MANIFEST.replace("1.0.0", "one"), "plugin.yaml:2", "version"),
    ],
)
async def test_a_broken_edit_leaves_the_old_version_running_and_says_where(broker, plugin, file, text, where, what):
    async with listening(broker) as listener, gateway(broker, plugin, {"gauge": GAUGE}) as running:
        await listener.until(lambda: listener.last(VALUE).get("value") == 1.0)
        loaded = modules()
        (plugin / file).write_text(text)
        refused = await running.until_logged("plugin_refused")
        await listener.until(lambda: "error" in listener.last(PLUGIN))
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        frames = len(listener.heard["frame/gauge/all"])
        await listener.until(lambda: len(listener.heard["frame/gauge/all"]) > frames + 3)
        assert modules() == loaded
        (plugin / "plugin.yaml").write_text(MANIFEST)
        (plugin / "driver.py").write_text(DRIVER)
        (plugin / "constant.py").write_text("CONSTANT = 3.0\n")
        await listener.until(lambda: listener.last(VALUE).get("value") == 3.0)
        await listener.until(lambda: "error" not in listener.last(PLUGIN))

    told = next(told["error"] for told in listener.heard[PLUGIN] if "error" in told)
    assert told == refused["error"]
    assert where in told
    assert what in told


async def test_a_driver_is_reloaded_by_command_and_a_refusal_is_its_answer(broker, plugin, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    async with listening(broker) as listener, gateway(broker, plugin, {"gauge": GAUGE}, reload_every="1h"):
        await listener.until(lambda: listener.last(VALUE).get("value") == 1.0)
        edit_within_a_second(plugin / "constant.py", "CONSTANT = 2.0\n")
        done = await reload(listener)
        await listener.until(lambda: listener.last(VALUE).get("value") == 2.0)
        (plugin / "constant.py").write_text("CONSTANT =\n")
        refused = await reload(listener)
        unknown = await reload(listener, "modbus")
        await listener.until(lambda: len(listener.heard["event/plant/plugin/steady"]) == 2)

    assert done.result.plugins == {"steady": "1.0.0"}
    assert (refused.error.code, "constant.py:1" in refused.error.message) == (ErrorCode.INVALID, True)
    assert unknown.error.code is ErrorCode.NOT_FOUND
    events = [one for message in listener.heard["event/plant/plugin/steady"] for one in message["events"]]
    assert [(one["type"], one["user"]) for one in events] == [("reload.done", "anna"), ("reload.refused", "anna")]


async def test_a_driver_whose_import_never_ends_is_refused_and_keeps_no_other_from_being_loaded(
    broker, plugin, monkeypatch
):
    async with listening(broker) as listener, gateway(broker, plugin, {"gauge": GAUGE}, reload_every="1h"):
        await listener.until(lambda: listener.last(VALUE).get("value") == 1.0)
        (plugin / "constant.py").write_text(ENDLESS)
        with monkeypatch.context() as impatient:
            impatient.setattr(plugins.api.importing, "IMPORT_S", 0.2)
            refused = await reload(listener)
        frames = len(listener.heard["frame/gauge/all"])
        await listener.until(lambda: len(listener.heard["frame/gauge/all"]) > frames)
        edit_within_a_second(plugin / "constant.py", "CONSTANT = 2.0\n")
        await reload(listener)
        await listener.until(lambda: listener.last(VALUE).get("value") == 2.0)
        (plugin / "enough").touch()

    assert refused.error.code is ErrorCode.INVALID
    assert "its import has not ended within 0.2 s" in refused.error.message


async def test_every_reload_is_tried_on_the_devices_that_run(broker, plugin):
    async with listening(broker) as listener, gateway(broker, plugin, {"gauge": GAUGE}, reload_every="1h"):
        for value in (2.0, 3.0):
            await listener.until(lambda: listener.last(STATE).get("state") == "online")
            (plugin / "constant.py").write_text(f"CONSTANT = {value}\n")
            await reload(listener)
            await listener.until(lambda value=value: listener.last(VALUE).get("value") == value)
        (plugin / "constant.py").write_text("CONSTANT = object()\n")
        refused = await reload(listener)

    assert refused.error.code is ErrorCode.INVALID


async def test_a_copy_of_a_device_file_does_not_take_its_place_at_a_reload(broker, plugin):
    async with listening(broker) as listener, gateway(broker, plugin, {"gauge": GAUGE}, reload_every="1h") as running:
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        devices = plugin.parent.parent / "devices"
        (devices / "z-copy.yaml").write_text((devices / "gauge.yaml").read_text())
        await reload(listener)

        assert running.gateway.fleet.running["gauge"].source == str(devices / "gauge.yaml")


async def test_what_a_command_began_is_finished_after_its_deadline(broker, plugin):
    (plugin / "driver.py").write_text(DRIVER + SLOW_TO_CLOSE)
    async with listening(broker) as listener, gateway(broker, plugin, {"gauge": GAUGE}, reload_every="1h"):
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        late = await listener.bus.request(DISABLE, Disable(), user="anna", id="gauge", timeout_s=1)
        for name in modules():
            if (may_close := getattr(sys.modules[name], "MAY_CLOSE", None)) is not None:
                may_close.set()
        await listener.until(lambda: listener.last(STATE).get("state") == "disabled")

    assert late.error.code is ErrorCode.TIMEOUT


async def test_a_driver_that_could_not_be_loaded_at_the_start_is_taken_when_it_is_mended(broker, plugin):
    (plugin / "constant.py").write_text("CONSTANT =\n")
    async with listening(broker) as listener, gateway(broker, plugin, {"gauge": GAUGE}):
        await listener.until(lambda: "constant.py:1" in listener.last(STATE).get("error", ""))
        (plugin / "constant.py").write_text("CONSTANT = 2.0\n")
        await listener.until(lambda: listener.last(VALUE).get("value") == 2.0)
