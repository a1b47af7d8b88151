"""`dinrail browse` on real servers: what it shows, and the device file that it writes."""

import asyncio
import errno
import shutil
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from asyncua import Node, Server, ua
from typer.testing import CliRunner, Result

from plugins.api.bench import WallClock
from plugins.api.certificates import CLIENT_CERTIFICATE, TRUSTED
from plugins.api.registry import Registry
from plugins.drivers.opcua.simulator import OpcUaSimulator, Protection
from services.cli.main import app
from services.gateway.device_file import parse_device
from services.gateway.settings import SHIPPED_DRIVERS
from tests.plugins.opcua_bench import ServerThread, serving
from tests.plugins.opcua_certificates import made

CHARS = "Wörter: {[,]}#\t\"'"


async def build(server: Server, folder: Node, space: int) -> None:
    """Two tanks with equal names below, an analog value, an enumeration, a structure, a method, odd names."""
    for tank in ("Tank1", "Tank2"):
        owner = await folder.add_object(ua.NodeId(tank, space), f"{space}:{tank}")
        level = await owner.add_variable(ua.NodeId(f"{tank}.Level", space), f"{space}:Level", 0.5)
        await level.add_property(0, "EURange", ua.Range(Low=0.0, High=10.0))
        unit = ua.EUInformation(UnitId=1, DisplayName=ua.LocalizedText("m³"))
        await level.add_property(0, "EngineeringUnits", unit)
    await folder.add_variable(ua.NodeId(CHARS, space), f"{space}:{CHARS}", True)
    await folder.add_variable(ua.NodeId("State", space), f"{space}:State", ua.ServerState.Running)
    await folder.add_variable(ua.NodeId("Motor", space), f"{space}:Motor", ua.Range(Low=0.0, High=1.0))
    await folder.add_variable(ua.NodeId("Names", space), f"{space}:Names", ["a", "b"])
    await folder.add_variable(ua.NodeId("Ends in a blank ", space), f"{space}:Blank", 1.5)
    await owner.add_reference(folder, ua.ObjectIds.HasNotifier, True, False)  # and round it goes
    odd = await server.register_namespace("urn:odd;name=1%20")
    await folder.add_variable(ua.NodeId("Odd", odd), f"{odd}:Odd", 2.5)

    async def double(_parent: Any, value: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant(2 * value.Value, ua.VariantType.Double)]

    kinds = [ua.VariantType.Double]
    await folder.add_method(ua.NodeId("Double", space), f"{space}:Double", double, kinds, kinds)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    protection = Protection(*made().write(tmp_path_factory.mktemp("server"), "server"), clear=True)
    with serving(OpcUaSimulator(nodes={"Speed": 1.5}, protection=protection, build=build)) as server:
        yield server


def dinrail(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_tree_shows_types_units_ranges_and_access(server: ServerThread, tmp_path: Path) -> None:
    result = dinrail("browse", server.simulator.url, "--dir", tmp_path)

    assert result.exit_code == 0, result.output
    assert "Simulator/" in result.output
    assert "  Tank1/" in result.output
    assert "    Level  float64 m³  [0, 10]  r  nsu=urn:dinrail:simulator;s=Tank1.Level" in result.output
    assert "  Speed  float64  rw  nsu=urn:dinrail:simulator;s=Speed" in result.output
    assert "  Motor  (a structure" in result.output
    assert "  Double  (" in result.output
    assert "Server/" not in result.output


async def test_the_file_is_accepted_and_every_tag_of_it_has_a_good_value(server: ServerThread, tmp_path: Path) -> None:
    path = tmp_path / "devices" / "plc.yaml"
    result = await asyncio.to_thread(dinrail, "browse", server.simulator.url, "--out", path, "--dir", tmp_path)

    assert result.exit_code == 0, result.output
    device = parse_device(path.read_text(), source=str(path), drivers=Registry([SHIPPED_DRIVERS], kind="driver"))
    async with device.plugin.entry.open(device.spec, clock=WallClock()) as opened:
        async with aclosing(opened.subscribe("live")) as readings:
            reading = await anext(readings)
        (function,) = device.functions
        (port,) = device.functions[function].inputs
        outputs = await opened.call(function, {port: 4.5})

    assert set(reading.values) == set(device.tags) >= {"speed", "tank1-level", "tank2-level", "state", "odd", "blank"}
    assert reading.quality == {}
    assert list(outputs.values()) == [9.0]
    assert device.tags["tank1-level"].range == (0, 10)
    assert device.tags["tank1-level"].unit == "m³"
    assert "#   Simulator/Motor: a structure" in path.read_text()
    assert "#   Simulator/Names: an array of String" in path.read_text()


def test_browsing_begins_at_a_node_and_stops_at_a_depth(server: ServerThread, tmp_path: Path) -> None:
    node = "nsu=urn:dinrail:simulator;s=Tank2"

    deep = dinrail("browse", server.simulator.url, "--dir", tmp_path, "--node", node)
    flat = dinrail("browse", server.simulator.url, "--dir", tmp_path, "--depth", "1")

    assert "Level" in [line.split()[0] for line in deep.stdout.splitlines()]
    assert [line.split()[0] for line in flat.stdout.splitlines()] == ["Simulator/"]
    assert "raise --depth" not in deep.stderr
    assert "; 1 at level 1 may hold more: raise --depth" in flat.stderr


def test_too_much_is_cut_and_said(server: ServerThread, tmp_path: Path) -> None:
    result = dinrail("browse", server.simulator.url, "--dir", tmp_path, "--most", "3")

    assert len(result.stdout.splitlines()) == 3
    assert "there is more than 3" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--node", "nsu=urn:nobody;s=x"], "no namespace 'urn:nobody'"),
        (["--node", "nsu=urn:dinrail:simulator;s=Nothing"], "BadNodeId"),
        (["--node", "ns=2;s=x"], "names a namespace by its index"),
        (["--policy", "Basic512"], "Basic256Sha256"),
        (["--user", "anna"], "--user: has no password; add --password-file PATH"),
        (["--password-file", "secret"], "--password-file: is nobody's; add --user NAME"),
        (["--user-certificate", "anna.der"], "add --user-key PATH"),
        (["--ignore", "everything"], "--ignore: "),
        (["--ignore", "everything"], "'dates', 'host' or 'usage'"),
    ],
)
def test_what_cannot_be_is_told(server: ServerThread, tmp_path: Path, arguments: list[str], told: str) -> None:
    result = dinrail("browse", server.simulator.url, "--dir", tmp_path, *arguments)

    assert result.exit_code == 2
    assert told in result.output


def test_a_file_that_is_there_stays(server: ServerThread, tmp_path: Path) -> None:
    (tmp_path / "plc.yaml").write_text("mine")

    result = dinrail("browse", server.simulator.url, "--dir", tmp_path, "--out", tmp_path / "plc.yaml")

    assert result.exit_code == 2
    assert (tmp_path / "plc.yaml").read_text() == "mine"


def test_a_full_disk_leaves_the_file_that_was_to_be_replaced(
    server: ServerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "plc.yaml").write_text("mine")
    monkeypatch.setattr("services.gateway.whole_file.os.fsync", full)
    out = ("--out", tmp_path / "plc.yaml", "--force")

    result = dinrail("browse", server.simulator.url, "--dir", tmp_path, *out)

    assert result.exit_code == 2
    assert "No space left on device" in result.output
    assert (tmp_path / "plc.yaml").read_text() == "mine"


def test_from_nothing_to_a_secured_device_file_by_the_commands_alone(server: ServerThread, tmp_path: Path) -> None:
    secured = ("browse", server.simulator.url, "--dir", tmp_path, "--policy", "Basic256Sha256")
    out = ("--out", tmp_path / "devices/plc.yaml")

    assert "dinrail certs" in dinrail(*secured).output
    assert dinrail("certs", "create", "--dir", tmp_path).exit_code == 0
    refused = dinrail(*secured)
    assert refused.exit_code == 2
    assert "dinrail certs trust " in refused.output
    assert dinrail("certs", "trust", server.simulator.url, "--dir", tmp_path, "--yes").exit_code == 0
    done = dinrail(*secured, *out)
    assert done.exit_code == 0, done.output
    assert dinrail("check", tmp_path / "devices").exit_code == 0
    assert "policy: " in (tmp_path / "devices/plc.yaml").read_text()
    shutil.rmtree(tmp_path / TRUSTED)
    assert (tmp_path / CLIENT_CERTIFICATE).exists()
    assert dinrail(*secured).exit_code == 2
