"""The OPC UA driver against real servers: what only OPC UA devices do."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, ua

from contracts.v1.frame import BAD, UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import WallClock
from plugins.api.soundness import assert_sound, expect_device_error, tags_of
from plugins.drivers.opcua.driver import DRIVER
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, Wire, device_of, node, serving, spec_of, wire_to
from tests.plugins.opcua_readings import exhaust, first_of, subscribed

MANY = 1200
"""More than two requests may ask for."""
MARGIN_S = 30.0
MODES = pytest.mark.parametrize("mode", ["poll", "subscribe"])
SPEED = {"speed": node("Speed", "float64")}
TYPES = {
    "Count16": ua.VariantType.Int16,
    "Count8": ua.VariantType.Byte,
    "Ratio32": ua.VariantType.Float,
    "Ratio64": ua.VariantType.Double,
    "On": ua.VariantType.Boolean,
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    nodes: dict[str, Any] = {"Speed": 1.5, "Load": 0.25, "ShortLived": 1.0}
    nodes |= {"Count16": 1, "Count8": 1, "Ratio32": 1.0, "Ratio64": 1.0, "On": False}
    nodes |= {f"Bulk{number}": number for number in range(MANY)}
    with serving(OpcUaSimulator(nodes=nodes, types=TYPES)) as server:
        yield server


@pytest_asyncio.fixture
async def wire(server: ServerThread) -> AsyncIterator[Wire]:
    await server.do(server.simulator.set_many({"Speed": 1.5, "Load": 0.25}))
    async with wire_to(server.simulator.url) as wire:
        yield wire


async def held(server: ServerThread, name: str) -> ua.Variant:
    """What the server holds, as a client other than ours sees it."""
    async with Client(server.simulator.url) as client:
        index = await client.get_namespace_index(NAMESPACE)
        variant = (await client.get_node(f"ns={index};s={name}").read_data_value()).Value
    assert variant is not None
    return variant


@MODES
async def test_a_missing_node_spoils_no_other(wire: Wire, mode: str) -> None:
    spec = device_of(wire, {**SPEED, "gone": node("NoSuchNode", "float64")}, mode=mode)

    reading = await first_of(spec)

    assert reading.values == {"speed": 1.5, "gone": None}
    assert reading.quality == {"gone": QualityStruct(BAD, "config", ua.StatusCodes.BadNodeIdUnknown)}


async def test_a_node_that_goes_is_bad_from_the_next_poll_on(server: ServerThread, wire: Wire) -> None:
    spec = device_of(wire, {**SPEED, "short-lived": node("ShortLived", "float64")}, mode="poll")
    async with DRIVER.open(spec, clock=WallClock()) as device:
        before = await device.read("all")
        await server.do(server.simulator.remove("ShortLived"))
        after = await device.read("all")

    assert before.values == {"speed": 1.5, "short-lived": 1.0}
    assert after.values == {"speed": 1.5, "short-lived": None}


@MODES
@pytest.mark.parametrize(
    ("code", "value", "quality"),
    [
        (ua.StatusCodes.BadDeviceFailure, None, BAD),
        (ua.StatusCodes.UncertainSensorNotAccurate, 7.5, UNCERTAIN),
    ],
)
async def test_the_status_comes_with_its_code(
    server: ServerThread, wire: Wire, mode: str, code: int, value: float | None, quality: int
) -> None:
    await server.do(server.simulator.set("Speed", 7.5, status=code))

    reading = await first_of(device_of(wire, {**SPEED, "load": node("Load", "float64")}, mode=mode))

    assert reading.values == {"speed": value, "load": 0.25}
    assert reading.quality == {"speed": QualityStruct(quality, "device", code)}


@MODES
async def test_each_source_time_is_kept_to_the_microsecond(server: ServerThread, wire: Wire, mode: str) -> None:
    early = datetime(2026, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC)
    await server.do(server.simulator.set("Speed", 3.5, source_time=early))
    await server.do(server.simulator.set("Load", 0.5, source_time=early + timedelta(microseconds=789)))

    reading = await first_of(device_of(wire, {**SPEED, "load": node("Load", "float64")}, mode=mode))

    assert reading.t == 1_767_323_045_123_456 + 789
    assert reading.dt == {"speed": -789}


@MODES
@pytest.mark.parametrize("number", [math.nan, math.inf])
async def test_what_is_no_number_is_out_of_range(server: ServerThread, wire: Wire, mode: str, number: float) -> None:
    await server.do(server.simulator.set("Speed", number))

    reading = await first_of(device_of(wire, SPEED, mode=mode))

    assert reading.values == {"speed": None}
    assert reading.quality == {"speed": QualityStruct(BAD, "range")}


async def test_two_values_between_two_publications_are_two_readings_in_order(server: ServerThread, wire: Wire) -> None:
    async def rise() -> None:
        for value in (10.0, 20.0, 30.0):
            await server.simulator.set("Speed", value)

    async with (
        DRIVER.open(device_of(wire, SPEED, interval="300ms"), clock=WallClock()) as device,
        subscribed(device) as readings,
    ):
        await anext(readings)
        await server.do(rise())
        async with asyncio.timeout(30):
            seen = [await anext(readings) for _ in range(3)]

    assert [reading.values for reading in seen] == [{"speed": 10.0}, {"speed": 20.0}, {"speed": 30.0}]
    assert seen[0].t < seen[1].t < seen[2].t


async def test_of_more_values_than_the_queue_holds_the_newest_are_kept(server: ServerThread, wire: Wire) -> None:
    async def rise() -> None:
        for value in range(10):
            await server.simulator.set("Speed", float(value))

    async with (
        DRIVER.open(device_of(wire, SPEED, interval="1s", queue=2), clock=WallClock()) as device,
        subscribed(device) as readings,
    ):
        await anext(readings)
        await server.do(rise())
        async with asyncio.timeout(30):
            seen = [await anext(readings) for _ in range(2)]

    assert [reading.values["speed"] for reading in seen] == [8.0, 9.0]


@MODES
async def test_more_nodes_than_one_request_may_name_are_all_read(wire: Wire, mode: str) -> None:
    spec = device_of(wire, {f"bulk-{n}": node(f"Bulk{n}", "int64") for n in range(MANY)}, mode=mode, timeout="10s")

    reading = await first_of(spec)

    assert_sound(reading, tags_of(spec.groups[0]))
    assert reading.values == {f"bulk-{n}": n for n in range(MANY)}


async def test_a_poll_of_many_nodes_takes_few_requests(wire: Wire) -> None:
    tags = {f"bulk-{n}": node(f"Bulk{n}", "int64") for n in range(MANY)}
    async with DRIVER.open(device_of(wire, tags, mode="poll", timeout="30s"), clock=WallClock()) as device:
        before = wire.reads
        await device.read("all")

    assert wire.reads - before == 3


async def test_an_unknown_namespace_is_told_with_those_there_are(wire: Wire) -> None:
    spec = device_of(wire, {"speed": {"node": "nsu=urn:dinrail:misspelt;s=Speed", "type": "float64"}})

    error = await expect_device_error(first_of(spec))

    assert error.cause == "config"
    assert "urn:dinrail:misspelt" in str(error)
    assert NAMESPACE in str(error)


async def test_a_node_is_found_by_its_uri_when_the_index_has_become_another(server: ServerThread, wire: Wire) -> None:
    spec = device_of(wire, SPEED, mode="poll")
    other = OpcUaSimulator(nodes={"Speed": 99.5}, earlier_namespaces=["urn:dinrail:came", "urn:dinrail:before"])
    with serving(other) as after:
        async with Client(server.simulator.url) as old, Client(other.url) as new:
            assert await old.get_namespace_index(NAMESPACE) != await new.get_namespace_index(NAMESPACE)
        readings = [await first_of(spec)]
        wire.server_url = after.simulator.url
        readings.append(await first_of(spec))

    assert [reading.values for reading in readings] == [{"speed": 1.5}, {"speed": 99.5}]


async def test_a_server_that_ends_in_mid_subscription_is_a_device_error() -> None:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5})) as mortal:
        spec = spec_of(mortal.simulator.url, {"all": {"interval": "50ms", "tags": SPEED}}, timeout="1s")
        async with DRIVER.open(spec, clock=WallClock()) as device, subscribed(device) as readings:
            await anext(readings)
            await mortal.do(mortal.simulator.stop())
            async with asyncio.timeout(2 * 1.0 + MARGIN_S):
                await expect_device_error(exhaust(readings))


async def test_a_server_that_falls_silent_ends_the_subscription(wire: Wire) -> None:
    async with (
        DRIVER.open(device_of(wire, SPEED, timeout="500ms"), clock=WallClock()) as device,
        subscribed(device) as readings,
    ):
        await anext(readings)
        wire.stall()
        async with asyncio.timeout(2 * 0.5 + MARGIN_S):
            error = await expect_device_error(exhaust(readings))

    assert error.cause == "comm"


async def test_a_server_with_nothing_to_say_keeps_its_subscription(server: ServerThread, wire: Wire) -> None:
    async with (
        DRIVER.open(device_of(wire, SPEED, timeout="500ms"), clock=WallClock()) as device,
        subscribed(device) as readings,
    ):
        await anext(readings)
        reading = asyncio.create_task(anext(readings))
        await asyncio.wait({reading}, timeout=2 * 0.5 + 0.3)
        assert not reading.done()
        await server.do(server.simulator.set("Speed", 2.5))

        assert (await reading).values == {"speed": 2.5}


async def test_a_server_that_takes_the_connection_and_says_nothing_is_a_device_error(wire: Wire) -> None:
    wire.stall()

    async with asyncio.timeout(2 * 0.3 + MARGIN_S):
        error = await expect_device_error(first_of(device_of(wire, SPEED, timeout="300ms")))

    assert error.cause == "comm"


@pytest.mark.parametrize(
    ("name", "kind", "value", "stored"),
    [
        ("Count16", "int16", -32768, -32768),
        ("Count8", "uint16", 255, 255),
        ("Ratio32", "float32", 2.5, 2.5),
        ("Ratio32", "float32", 3, 3.0),
        ("Ratio64", "float64", 1e300, 1e300),
        ("On", "bool", True, True),
    ],
)
async def test_a_value_is_written_in_the_nodes_own_type(
    server: ServerThread, wire: Wire, name: str, kind: str, value: Any, stored: object
) -> None:
    async with DRIVER.open(device_of(wire, {"tag": node(name, kind, writable=True)}), clock=WallClock()) as device:
        await device.write("tag", value)

    written = await held(server, name)
    assert (written.Value, written.VariantType) == (stored, TYPES[name])
    assert type(written.Value) is type(stored)


@pytest.mark.parametrize(
    ("name", "kind", "value", "cause"),
    [
        ("Count16", "int16", "12", "config"),
        ("Count16", "int16", 12.5, "config"),
        ("Count16", "int16", True, "config"),
        ("Count8", "uint16", 256, "range"),
        ("Count16", "int32", -32769, "range"),
        ("Ratio32", "float64", 1e39, "range"),
        ("On", "bool", 1, "config"),
        ("Ratio64", "array", [1.0, 2.0], "config"),
        ("NoSuchNode", "float64", 1.0, "config"),
    ],
)
async def test_a_value_that_the_node_cannot_hold_is_refused_unsent(
    wire: Wire, name: str, kind: str, value: Any, cause: str
) -> None:
    async with DRIVER.open(device_of(wire, {"tag": node(name, kind, writable=True)}), clock=WallClock()) as device:
        error = await expect_device_error(device.write("tag", value))

    assert error.cause == cause
    assert wire.writes == 0


async def test_a_write_that_the_server_refuses_is_told_with_its_status(wire: Wire) -> None:
    product_name = {"node": "i=2261", "type": "string", "writable": True}
    async with DRIVER.open(device_of(wire, {"product": product_name}), clock=WallClock()) as device:
        error = await expect_device_error(device.write("product", "mine"))

    assert error.cause == "device"
    assert error.code in {ua.StatusCodes.BadNotWritable, ua.StatusCodes.BadUserAccessDenied}
