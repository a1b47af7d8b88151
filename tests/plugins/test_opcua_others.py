"""The OPC UA driver against a server that is not built on the library that our driver uses: node-opcua."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from plugins.api.bench import WallClock, device_spec
from plugins.api.certificates import CLIENT_CERTIFICATE, CLIENT_KEY, TRUSTED, keep_certificate, parse_certificates
from plugins.api.driver import DeviceSpec, FunctionSpec
from plugins.api.manifest import FunctionManifest, Port
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.config import Function, parse_node
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice, OpcUaDriver
from tests.others.node_opcua import NodeServer, node_server
from tests.plugins.opcua_certificates import made
from tests.plugins.opcua_readings import exhaust, first_of, subscribed
from tests.ports import free_port

pytestmark = [pytest.mark.others, pytest.mark.asyncio(loop_scope="module")]
SPACE = "urn:dinrail:others"
EVERY_TYPE: Mapping[str, tuple[str, Any]] = {
    "Speed": ("float64", 1.5),
    "Ratio": ("float32", 0.5),
    "Count": ("uint16", 7),
    "Running": ("bool", True),
    "Recipe": ("string", "Cola"),
    "Title": ("string", "Filler"),
    "Since": ("string", "2026-01-02T03:04:05.123000Z"),
    "Batch": ("string", "72962b91-fa75-4ae6-8d28-b404dc7daf63"),
    "Blob": ("string", "YWJj"),
    "Profile": ("array", [1.0, 2.0, 3.0]),
    "State": ("int32", 1),
}
WRITTEN: Mapping[str, Any] = {
    "Speed": 99.5,
    "Ratio": 0.25,
    "Count": 65535,
    "Running": False,
    "Recipe": "Süßmost",
    "Title": "Füller",
    "Since": "2027-01-02T03:04:05.678000Z",
    "Batch": "00000000-fa75-4ae6-8d28-b404dc7daf63",
    "Blob": "eHl6",
    "Profile": [0.5],
    "State": 2,
}
MODES = pytest.mark.parametrize("mode", ["poll", "subscribe"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeServer]:
    async with node_server(tmp_path_factory.mktemp("node") / "pki", free_port()) as server:
        yield server


def tag(name: str, kind: str, **fields: object) -> dict[str, Any]:
    return {"node": f"nsu={SPACE};s={name}", "type": kind, **fields}


def spec(url: str, tags: Mapping[str, Any], *, connection: Mapping[str, Any] | None = None, **group: Any) -> DeviceSpec:
    return device_spec(
        DRIVER,
        connection={"url": url, "timeout": "3s", **(connection or {})},
        groups={"all": {"interval": "50ms", **group, "tags": tags}},
    )


@MODES
async def test_every_type_is_read(server: NodeServer, mode: str) -> None:
    tags = {name.lower(): tag(name, kind) for name, (kind, _) in EVERY_TYPE.items()}

    reading = await first_of(spec(server.url, tags, mode=mode))

    assert reading.values == {name.lower(): value for name, (_, value) in EVERY_TYPE.items()}


async def test_every_type_is_written_in_the_nodes_own_and_read_back(server: NodeServer) -> None:
    tags = {name.lower(): tag(name, kind, writable=True) for name, (kind, _) in EVERY_TYPE.items()}
    async with DRIVER.open(spec(server.url, tags, mode="poll"), clock=WallClock()) as device:
        for name, value in WRITTEN.items():
            await device.write(name.lower(), value)
        after = await device.read("all")
        for name, (_, value) in EVERY_TYPE.items():
            await device.write(name.lower(), value)

    assert after.values == {name.lower(): value for name, value in WRITTEN.items()}


@MODES
async def test_a_structure_is_bad_and_remarked_on_and_spoils_no_other(server: NodeServer, mode: str) -> None:
    tags = {"limits": tag("Limits", "float64"), "count": tag("Count", "uint16")}
    device_file = spec(server.url, tags, mode=mode)

    reading = await first_of(device_file)
    async with DRIVER.open(device_file, clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        remarks = device.remarks()

    assert reading.values == {"limits": None, "count": 7}
    assert reading.quality["limits"].cause == "config"
    assert any("tag limits" in line and "a structure" in line for line in remarks)


@MODES
async def test_requests_stay_within_the_servers_limits(server: NodeServer, mode: str) -> None:
    tags = {f"bulk{n}": tag(f"Bulk{n}", "int32") for n in range(60)}

    reading = await first_of(spec(server.url, tags, mode=mode))

    assert reading.values == {f"bulk{n}": n for n in range(60)}


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_it_takes_our_signatures_our_encryption_and_our_user(
    server: NodeServer, tmp_path: Path, policy: str, mode: str
) -> None:
    certificate, key = made("dinrail", uri="urn:dinrail:test:client").write(tmp_path, "client")
    for path, at in ((certificate, CLIENT_CERTIFICATE), (key, CLIENT_KEY)):
        (tmp_path / at).parent.mkdir(exist_ok=True)
        path.rename(tmp_path / at)
    (tmp_path / "password").write_text("geheim")
    for der in await DRIVER.certificates(server.url, timeout_s=5):
        keep_certificate(parse_certificates(der)[0], tmp_path / TRUSTED)
    secured = {
        "security": {"policy": policy, "mode": mode, "ignore": ["host"]},
        "user": "anna",
        "password_file": "password",
    }

    reading = await first_of(
        replace(spec(server.url, {"count": tag("Count", "uint16")}, connection=secured), folder=tmp_path)
    )

    assert reading.values == {"count": 7}


async def test_a_dead_band_in_percent_and_in_units_is_the_servers_own(server: NodeServer) -> None:
    tags = {
        "percent": tag("Speed", "float64", monitor={"deadband": "10%"}),
        "units": tag("Ratio", "float32", monitor={"deadband": 1}),
        "witness": tag("Count", "uint16"),
    }
    seen: dict[str, list[object]] = {name: [] for name in tags}
    async with (
        DRIVER.open(spec(server.url, tags), clock=WallClock()) as device,
        subscribed(device) as readings,
        asyncio.timeout(30),
    ):
        first = await anext(readings)
        small, large = {"Speed": 11.5, "Ratio": 1.4}, {"Speed": 50.5, "Ratio": 3.5}
        for count, change in ((8, small), (9, {}), (10, {}), (11, large), (12, {})):
            await server.do("set", {**change, "Count": count})
            while count not in seen["witness"]:  # it has been sampled, and so have the others
                for name, value in (await anext(readings)).values.items():
                    seen[name].append(value)
        await server.do("set", {"Speed": 1.5, "Ratio": 0.5, "Count": 7})
        assert isinstance(device, OpcUaDevice)
        remarks = device.remarks()

    assert first.values == {"percent": 1.5, "units": 0.5, "witness": 7}
    assert seen == {"percent": [50.5], "units": [3.5], "witness": [8, 9, 10, 11, 12]}
    assert not [line for line in remarks if "dead band" in line]


async def test_a_dead_band_that_the_server_refuses_is_left_out_and_remarked_on(server: NodeServer) -> None:
    tags = {"percent": tag("Ratio", "float32", monitor={"deadband": "10%"})}  # which has no EURange
    async with (
        DRIVER.open(spec(server.url, tags), clock=WallClock()) as device,
        subscribed(device) as readings,
    ):
        first = await anext(readings)
        assert isinstance(device, OpcUaDevice)
        remarks = device.remarks()

    assert first.values == {"percent": 0.5}
    assert any("refuses the dead band of percent" in line for line in remarks)


async def test_a_node_that_goes_and_comes_back_is_followed_again(server: NodeServer) -> None:
    await server.do("add", ["Comes", 1.0])
    tags = {"comes": tag("Comes", "float64"), "count": tag("Count", "uint16")}
    async with (
        OpcUaDriver(retry_s=0.2).open(
            spec(server.url, tags, connection={"timeout": "1s"}), clock=WallClock()
        ) as device,
        subscribed(device) as readings,
        asyncio.timeout(30),
    ):
        first = await anext(readings)
        await server.do("remove", "Comes")
        gone = await anext(reading async for reading in readings if "comes" in reading.values)
        await server.do("add", ["Comes", 2.0])
        back = await anext(reading async for reading in readings if reading.values.get("comes") == 2.0)
        await server.do("set", {"Comes": 3.0})
        after = await anext(reading async for reading in readings if reading.values.get("comes") == 3.0)

    assert first.values == {"comes": 1.0, "count": 7}
    assert gone.values["comes"] is None
    assert gone.quality["comes"].cause == "config"
    assert "comes" not in {**back.quality, **after.quality}
    await server.do("remove", "Comes")


async def test_a_session_that_the_server_ends_is_a_device_error(server: NodeServer) -> None:
    tags = {"count": tag("Count", "uint16")}
    async with DRIVER.open(spec(server.url, tags), clock=WallClock()) as device, subscribed(device) as readings:
        await anext(readings)
        await server.do("expire")
        async with asyncio.timeout(30):
            await expect_device_error(exhaust(readings))


async def test_a_server_without_a_free_session_says_so(server: NodeServer) -> None:
    device_file = spec(server.url, {"count": tag("Count", "uint16")})
    async with asyncio.timeout(30):
        error = await expect_device_error(sessions(device_file, 6))

    assert error.code == ua.StatusCodes.BadTooManySessions
    assert "no session left" in str(error)


async def sessions(device_file: DeviceSpec, left: int) -> None:
    """So many at once."""
    if left:
        async with DRIVER.open(device_file, clock=WallClock()):
            await sessions(device_file, left - 1)


def with_scale(device_file: DeviceSpec, *inputs: str) -> DeviceSpec:
    """With the method as a function; inputs: their names."""
    ports = FunctionManifest(
        title="Scale", inputs={name: Port(type="number") for name in inputs}, outputs={"result": Port(type="number")}
    )
    machine, method = (parse_node(f"nsu={SPACE};s={name}") for name in ("Machine", "Machine.Scale"))
    source = Function(object=machine, method=method)
    return replace(device_file, functions=(FunctionSpec(name="scale", ports=ports, source=source),))


async def test_a_method_is_called_once_with_its_arguments_own_types(server: NodeServer) -> None:
    device_file = with_scale(spec(server.url, {"count": tag("Count", "uint16")}), "value", "times")
    before = await server.do("calls")
    async with DRIVER.open(device_file, clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        assert await device.call("scale", {"value": 2.5, "times": 4}) == {"result": 10.0}
        refused = await expect_device_error(device.call("scale", {"value": 2.5, "times": -4}))
        out_of_range = await expect_device_error(device.call("scale", {"value": 2.5, "times": 1 << 20}))

    assert await server.do("calls") - before == 2
    assert (refused.cause, refused.code) == ("device", ua.StatusCodes.BadOutOfRange)
    assert out_of_range.cause == "range"
    assert "times" in str(out_of_range)


async def test_a_method_that_takes_other_arguments_than_the_file_says_is_told(server: NodeServer) -> None:
    device_file = with_scale(spec(server.url, {"count": tag("Count", "uint16")}), "value")
    async with DRIVER.open(device_file, clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        error = await expect_device_error(device.call("scale", {"value": 2.5}))

    assert error.cause == "config"
    assert "takes 2 inputs (Value, Times), the file names 1" in str(error)


async def test_browsing_offers_what_there_is_with_types_units_and_ranges(server: NodeServer) -> None:
    async with DRIVER.open(spec(server.url, {"count": tag("Count", "uint16")}), clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        offers = {offer.path: offer async for offer in device.browse(None, depth=4)}

    plant = {path[1]: offer for path, offer in offers.items() if len(path) == 2 and path[0] == "Plant"}
    assert {name: plant[name].type for name in EVERY_TYPE} == {name: kind for name, (kind, _) in EVERY_TYPE.items()}
    assert len([name for name in plant if name.startswith("Bulk")]) == 60
    assert (plant["Speed"].unit, plant["Speed"].range) == ("°C", (0.0, 200.0))
    assert plant["State"].note == "0 Idle, 1 Running, 2 Fault"
    assert "a structure" in plant["Limits"].obstacle
    scale = offers["Plant", "Machine", "Scale"]
    assert scale.ports is not None
    assert {name: port.type for name, port in scale.ports.inputs.items()} == {"value": "number", "times": "integer"}
    assert ("Server",) not in offers
