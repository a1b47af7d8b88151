"""A folder of device files: what can run runs, whatever is wrong with the others."""

from dataclasses import replace

import pytest

from contracts.v1.device import ValueType
from plugins.api.manifest import parse_manifest
from plugins.api.registry import Registry
from services.gateway.catalog import DeviceFolder, check_folder, load_devices
from services.gateway.claim import Claim, claim_of
from services.gateway.device_file import revision
from services.gateway.settings import SHIPPED_DRIVERS
from tests.plain_driver import manifest

DRIVERS = Registry([SHIPPED_DRIVERS], kind="driver")
PUMP = """\
device: pump
driver: modbus
connection: {host: 127.0.0.1, unit_id: 1}
groups:
  fast:
    interval: 100ms
    tags:
      level: {address: "holding:10", type: float32, range: [0, 100], deadband: 0.5, writable: true}
      running: {address: "coil:1", type: bool, min_interval: 1s}
  slow:
    interval: 5m
    tags:
      total: {address: "holding:20", type: uint64, title: Total, unit: l}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pump.yaml").write_text(PUMP)
    return tmp_path


def test_a_right_file_is_what_it_says(folder):
    catalog = load_devices(folder, DRIVERS)

    pump = catalog.devices["pump"]
    assert catalog.faults == ()
    assert [(group.name, group.interval_s, len(group.tags)) for group in pump.spec.groups] == [
        ("fast", 0.1, 2),
        ("slow", 300.0, 1),
    ]
    assert {tag.name: (tag.group, tag.type, tag.unit, tag.range) for tag in pump.tags.values()} == {
        "level": ("fast", "float32", None, (0.0, 100.0)),
        "running": ("fast", "bool", None, None),
        "total": ("slow", "uint64", "l", None),
    }
    assert (pump.tags["level"].deadband, pump.tags["running"].min_interval_s, pump.tags["total"].title) == (
        0.5,
        1.0,
        "Total",
    )
    assert (pump.gateway, pump.enabled, pump.writes, pump.plugin.manifest.id) == ("gateway", True, False, "modbus")


def test_what_the_drivers_say_of_themselves_is_parsed_once_for_all_files(folder):
    for number in range(3):
        (folder / f"pump-{number}.yaml").write_text(PUMP.replace("pump", f"pump-{number}"))
    parse_manifest.cache_clear()

    load_devices(folder, Registry([SHIPPED_DRIVERS], kind="driver"))

    assert parse_manifest.cache_info().misses == len(list(SHIPPED_DRIVERS.glob("*/plugin.yaml")))


def test_files_are_found_in_the_subfolder_devices_too(folder, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    folder.rename(site / "devices")

    assert list(load_devices(site, DRIVERS).devices) == ["pump"]


def test_a_broken_file_does_not_keep_the_others_from_running(folder):
    (folder / "fan.yaml").write_text(PUMP.replace("pump", "fan").replace("float32", "flaot32"))

    catalog = load_devices(folder, DRIVERS)

    assert list(catalog.devices) == ["pump"]
    assert catalog.broken["fan"].claim == Claim("fan", "gateway", 1)
    assert [fault.field for fault in catalog.broken["fan"].faults] == ["groups.fast.tags.level.type"]


def test_a_file_that_is_not_even_yaml_still_names_its_device(folder):
    (folder / "fan.yaml").write_text(PUMP.replace("pump", "fan  # the big one\ngateway: north").replace("fast:", "\t:"))

    assert load_devices(folder, DRIVERS).broken["fan"].claim == Claim("fan", "north", 1)


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("device: pump\n", Claim("pump", "gateway", 1)),
        ("# a\n\ndevice:   'pump' # b\r\ngateway: north\r\n", Claim("pump", "north", 3)),
        ("\ufeffdevice: pump\r\n", Claim("pump", "gateway", 1)),
        ("  device: pump\n", None),
        ("device: Pump\n", None),
        ("", None),
    ],
)
def test_what_a_file_claims_is_read_from_its_lines(text, claim):
    assert claim_of(text) == claim


def test_a_folder_that_is_not_there_is_a_fault(tmp_path):
    assert [str(fault) for fault in check_folder(tmp_path / "none", DRIVERS)] == [
        f"{tmp_path}/none:1: there is no such folder\n    mend: make it, or name another"
    ]


def test_a_folder_without_device_files_is_a_fault(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")

    assert [fault.message for fault in check_folder(tmp_path, DRIVERS)] == ["holds no device file"]


def test_a_subfolder_that_goes_away_is_not_taken_for_an_empty_one(folder):
    (folder / "devices").mkdir()
    devices = DeviceFolder(folder, DRIVERS)
    (folder / "pump.yaml").rename(folder / "devices" / "pump.yaml")
    assert devices.load().whole
    (folder / "devices").rename(folder / "away")

    assert not devices.load().whole


def test_a_file_that_is_no_text_is_a_fault(tmp_path):
    (tmp_path / "pump.yaml").write_bytes(b"\xff\xfe\x00")

    assert [fault.message for fault in check_folder(tmp_path, DRIVERS)] == ["cannot be read: not UTF-8"]


def test_a_file_that_would_take_minutes_to_read_is_refused_at_once(tmp_path):
    with (tmp_path / "pump.yaml").open("wb") as file:
        file.truncate(5 << 20)

    assert [fault.mend for fault in check_folder(tmp_path, DRIVERS)] == ["split it into several devices"]


def test_the_revision_follows_the_content_and_not_its_layout():
    content = {"device": "pump", "groups": {"fast": {"interval": "1s"}}}
    other_order = {"groups": {"fast": {"interval": "1s"}}, "device": "pump"}
    other_content = {"device": "pump", "groups": {"fast": {"interval": "2s"}}}

    assert revision(content) == revision(other_order) != revision(other_content)


def test_a_bug_in_a_drivers_check_is_told_and_does_not_keep_the_others_from_running(folder):
    class Stumbling:
        def available(self):
            return DRIVERS.available()

        def load(self, plugin_id):
            plugin = DRIVERS.load(plugin_id)
            return replace(plugin, entry=StumblingDriver(plugin.entry))

    class StumblingDriver:
        def __init__(self, entry):
            self.connection, self.group, self.tag, self.value_type = (
                entry.connection,
                entry.group,
                entry.tag,
                entry.value_type,
            )

        def check(self, device):
            if device.name == "fan":
                raise KeyError("oops")
            return ()

    (folder / "fan.yaml").write_text(PUMP.replace("pump", "fan"))

    catalog = load_devices(folder, Stumbling())

    assert list(catalog.devices) == ["pump"]
    assert [fault.message for fault in catalog.faults] == ["the driver stumbles over this file: KeyError: 'oops'"]


def test_a_type_that_the_driver_knows_better_is_a_fault(folder):
    class Knowing:
        def available(self):
            return DRIVERS.available()

        def load(self, plugin_id):
            plugin = DRIVERS.load(plugin_id)
            entry = plugin.entry
            kinds = {"connection": entry.connection, "group": entry.group, "tag": entry.tag}
            knows = {**kinds, "value_type": lambda self, tag: ValueType.FLOAT32, "check": lambda self, device: ()}
            return replace(plugin, entry=type("KnowingDriver", (), knows)())

    assert [str(fault).partition("pump.yaml:")[2] for fault in check_folder(folder, Knowing())] == [
        "9: groups.fast.tags.running.type: is bool, but the driver gives float32\n    mend: write float32",
        "13: groups.slow.tags.total.type: is uint64, but the driver gives float32\n    mend: write float32",
    ]


@pytest.mark.parametrize(("tags", "fits"), [(5600, False), (300, True)])
def test_a_group_whose_frame_could_not_even_say_that_no_tag_has_a_value_is_refused(tmp_path, tags, fits):
    names = [f"{at:05}-{'x' * 57}" for at in range(tags)]
    head = "device: press\ndriver: mock_servo\ngroups:\n  axis:\n    interval: 1s\n    tags:\n"
    lines = [f"      {name}: {{signal: position, type: float64}}\n" for name in names]
    (tmp_path / "press.yaml").write_text(head + "".join(lines))

    faults = [fault for fault in check_folder(tmp_path, DRIVERS) if "too many for one group" in fault.message]

    assert [(fault.line, fault.field) for fault in faults] == ([] if fits else [(6, "groups.axis.tags")])


BROKEN_MANIFEST = "id: gauge\nversion: one\n"
MANIFEST = manifest("gauge")
DRIVER = """\
from tests.plain_driver import Fields, PlainDriver


class Driver(PlainDriver):
    pass


DRIVER = Driver()
"""
STUMBLES_OVER_FIELDS = """\
from pydantic import model_validator


class Stumbling(Fields):
    @model_validator(mode="before")
    @classmethod
    def look(cls, data):
        return data["oops"]


Driver.connection = Driver.group = Driver.tag = Stumbling
"""
STUMBLES_OVER_TYPES = """\
Driver.value_type = lambda self, tag: 1 / 0
"""
GAUGE = """\
device: gauge
driver: gauge
groups: {all: {interval: 1s, tags: {a: {type: float64}, b: {type: float64}}}}
"""


@pytest.mark.parametrize(
    ("manifest", "code", "told"),
    [
        (BROKEN_MANIFEST, DRIVER, "version"),
        (MANIFEST, "import re\nre.compile('(')\n", "driver.py:2"),
        (MANIFEST, "class Odd(Exception):\n    pass\nraise Odd\n", "driver.py:3"),
        (MANIFEST, "import sys\nsys.exit()\n", "driver.py:2"),
        (MANIFEST, DRIVER + STUMBLES_OVER_FIELDS, "stumbles over this file: KeyError"),
        (MANIFEST, DRIVER + STUMBLES_OVER_TYPES, "the driver stumbles over this file: ZeroDivision"),
        (manifest("modbus"), DRIVER, "no driver 'gauge'"),
    ],
)
def test_a_driver_that_fails_costs_its_own_devices_alone(folder, tmp_path_factory, manifest, code, told):
    plugin = tmp_path_factory.mktemp("plugins") / "gauge"
    plugin.mkdir()
    (plugin / "plugin.yaml").write_text(manifest)
    (plugin / "driver.py").write_text(code)
    (folder / "gauge.yaml").write_text(GAUGE)

    catalog = load_devices(folder, Registry([SHIPPED_DRIVERS, plugin.parent], kind="driver"))
    of_gauge = [str(fault) for fault in catalog.faults if fault.source.endswith("gauge.yaml")]

    assert told in of_gauge[0]
    assert ("pump" in catalog.devices) is ("modbus" not in manifest), "two folders that claim one id: neither is taken"


def test_hidden_files_are_no_device_files(folder):
    (folder / "._pump.yaml").write_bytes(b"\x00\x05\x16\x07")

    assert check_folder(folder, DRIVERS) == []
