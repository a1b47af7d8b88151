"""From the devices that run to those that the files describe: nothing is touched that has not changed."""

from dataclasses import replace

import pytest

from plugins.api.registry import Registry
from services.gateway.catalog import DeviceFolder
from services.gateway.difference import steps
from services.gateway.settings import SHIPPED_DRIVERS

DRIVERS = Registry([SHIPPED_DRIVERS], kind="driver")
TEXT = """\
device: {name}
driver: modbus
connection: {{host: 127.0.0.1, unit_id: 1}}
groups:
  fast:
    interval: 100ms
    tags:
      level: {{address: "holding:10", type: float32}}
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("pump", "fan"):
        (tmp_path / f"{name}.yaml").write_text(TEXT.format(name=name))
    return tmp_path


@pytest.fixture
def devices(folder):
    return DeviceFolder(folder, DRIVERS)


@pytest.fixture
def running(devices):
    return dict(devices.load().devices)


def done(running, devices, refused=()):
    found = steps(running, refused, devices.load(), instance="gateway")
    named = {
        "start": [device.name for device in found.start],
        "revise": [device.name for device in found.revise],
        "rework": [device.name for device in found.rework],
        "restart": [device.name for device in found.restart],
        "remove": list(found.remove),
        "refuse": list(found.refuse),
        "keep": list(found.keep),
    }
    return {what: names for what, names in named.items() if names}


def edit(folder, old, new):
    path = folder / "pump.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_without_a_change_nothing_is_done(running, devices):
    assert done(running, devices) == {}


def test_what_is_not_there_is_started(running, devices):
    del running["pump"]

    assert done(running, devices) == {"start": ["pump"]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("float32}", "float32, unit: bar}"),
        ("float32}", "float32, title: Level, deadband: 2, max_silence: 10s, min_interval: 1s, range: [0, 1]}"),
        ("driver:", "title: The pump\ndriver:"),
        ("driver:", "writes: enabled\ndriver:"),
        ("device:", "# a comment\ndevice:"),
    ],
)
def test_what_only_the_host_tells_needs_no_new_connection(running, devices, folder, old, new):
    edit(folder, old, new)

    assert done(running, devices) == {"revise": ["pump"]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("holding:10", "holding:11"),
        ("100ms", "200ms"),
        ("level:", "other: {address: holding:2, type: int16}\n      level:"),
    ],
)
def test_what_the_driver_is_asked_for_changes_on_the_same_connection(running, devices, folder, old, new):
    edit(folder, old, new)

    assert done(running, devices) == {"rework": ["pump"]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unit_id: 1", "unit_id: 2"),
        ("127.0.0.1", "127.0.0.2"),
        ("driver:", "enabled: false\ndriver:"),
    ],
)
def test_another_connection_begins_the_device_anew(running, devices, folder, old, new):
    edit(folder, old, new)

    assert done(running, devices) == {"restart": ["pump"]}


@pytest.mark.parametrize(("old", "new"), [("100ms", "100"), ("device: pump", "device: p p"), ("driver:", "driver")])
def test_a_device_whose_file_is_faulty_is_kept(running, devices, folder, old, new):
    edit(folder, old, new)

    assert done(running, devices) == {"keep": ["pump"]}


def test_a_device_that_does_not_run_is_refused_while_its_file_is_faulty(running, devices, folder):
    edit(folder, "100ms", "100")
    del running["pump"]

    assert done(running, devices) == {"refuse": ["pump"]}


def test_a_device_without_a_file_or_with_another_gateway_is_removed(running, devices, folder):
    edit(folder, "driver:", "gateway: north\ndriver:")
    (folder / "fan.yaml").unlink()

    assert done(running, devices, refused=["press"]) == {"remove": ["fan", "press", "pump"]}


def test_a_folder_that_is_away_removes_nothing(running, devices, folder):
    folder.rename(folder.with_name("away"))

    assert done(running, devices) == {}


def test_a_file_is_parsed_again_only_when_its_text_changes(devices, folder):
    before = devices.load().devices
    edit(folder, "100ms", "200ms")
    after = devices.load().devices

    assert after["fan"] is before["fan"]
    assert after["pump"] is not before["pump"]


def test_a_running_devices_file_comes_before_a_copy_that_sorts_before_it(running, devices, folder):
    (folder / "a-copy.yaml").write_text(TEXT.format(name="pump"))
    standing = {device.source for device in running.values()}

    catalog = devices.load(standing=standing)

    assert catalog.devices["pump"].source == running["pump"].source
    assert [fault.field for fault in catalog.faults] == ["device"]


def test_a_new_version_of_a_driver_begins_its_devices_anew(running, devices):
    old = {name: replace(device, plugin=replace(device.plugin, package="older")) for name, device in running.items()}

    assert done(old, devices) == {"restart": ["fan", "pump"]}
