"""The OPC UA driver's connection: what it puts on the wire, what it leaves behind, and what it finds again."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import WallClock
from plugins.api.driver import DeviceSpec
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.config import Connection
from plugins.drivers.opcua.driver import DRIVER, OpcUaDriver
from plugins.drivers.opcua.session import open_session
from plugins.drivers.opcua.simulator import OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, Wire, node, serving, spec_of, wire_to
from tests.plugins.opcua_readings import subscribed

SPEED = {"speed": node("Speed", "float64", writable=True)}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5, "Load": 0.25})) as server:
        yield server


@pytest_asyncio.fixture
async def wire(server: ServerThread) -> AsyncIterator[Wire]:
    async with wire_to(server.simulator.url) as wire:
        yield wire


def live(wire: Wire, tags: Mapping[str, Any] = SPEED) -> DeviceSpec:
    return spec_of(wire.url, {"all": {"interval": "50ms", "tags": tags}}, timeout="2s")


async def test_small_requests_do_not_wait_for_one_another(wire: Wire) -> None:
    async with open_session(Connection(url=wire.url)) as session:
        protocol = session.client.uaclient.protocol
        assert protocol is not None
        assert protocol.transport is not None
        there = protocol.transport.get_extra_info("socket")

        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_connection_is_closed_quickly_and_wholly_though_the_server_is_silent(wire: Wire) -> None:
    async with open_session(Connection.model_validate({"url": wire.url, "timeout": "20s"})) as session:
        protocol = session.client.uaclient.protocol
        assert protocol is not None
        transport = protocol.transport
        assert transport is not None
        wire.stall()
        begin = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - begin < 15, "it did not wait for an answer"
    assert transport.is_closing()


async def test_a_connection_given_up_for_silence_leaves_no_socket_open(wire: Wire) -> None:
    async with open_session(Connection.model_validate({"url": wire.url, "timeout": "300ms"})) as session:
        protocol = session.client.uaclient.protocol
        assert protocol is not None
        transport = protocol.transport
        assert transport is not None
        wire.stall()
        async with asyncio.timeout(30):
            while not transport.is_closing():
                await expect_device_error(session.read([ua.NodeId(ua.Int32(2258))]))

        error = await expect_device_error(session.read([ua.NodeId(ua.Int32(2258))]))
        assert "no answer" not in str(error), "it says at once that the connection is closed"


async def test_a_channel_is_renewed_before_its_lifetime_is_over(wire: Wire) -> None:
    connection = Connection.model_validate({"url": wire.url, "timeout": "2s"})
    async with open_session(connection, renew_after=0.1 / 3600) as session:
        protocol = session.client.uaclient.protocol
        assert protocol is not None
        tokens = set()
        async with asyncio.timeout(30):
            while len(tokens) < 3:
                assert len(await session.read([ua.NodeId(ua.Int32(2258))])) == 1
                tokens.add(protocol._connection.security_token.TokenId)


async def test_a_subscription_that_falls_silent_ends_though_the_server_answers(
    server: ServerThread, wire: Wire
) -> None:
    async def mute() -> None:
        for subscription in list(server.simulator._running().iserver.subscription_service.subscriptions.values()):
            await subscription.stop()

    spec = spec_of(wire.url, {"all": {"interval": "50ms", "tags": SPEED}}, timeout="300ms")
    async with DRIVER.open(spec, clock=WallClock()) as device, subscribed(device) as readings:
        await anext(readings)
        await server.do(mute())

        async with asyncio.timeout(30):
            error = await expect_device_error(anext(readings))

    assert "no publication" in str(error)


async def test_a_missing_node_that_comes_is_followed_without_connecting_anew(server: ServerThread, wire: Wire) -> None:
    driver = OpcUaDriver(retry_s=0.1)
    spec = live(wire, {**SPEED, "late": node("Late", "float64")})
    async with driver.open(spec, clock=WallClock()) as device, subscribed(device) as readings:
        first = await anext(readings)
        await server.do(server.simulator.add("Late", 7.5))
        async with asyncio.timeout(30):
            came = await anext(reading async for reading in readings if "late" in reading.values)

    assert first.quality == {"late": QualityStruct(BAD, "config", ua.StatusCodes.BadNodeIdUnknown)}
    assert came.values["late"] == 7.5


async def test_two_groups_of_one_connection_each_get_their_own(server: ServerThread, wire: Wire) -> None:
    tags = {"speed": SPEED["speed"]}, {"load": node("Load", "float64")}
    groups = {name: {"interval": "50ms", "tags": held} for name, held in zip(("a", "b"), tags, strict=True)}
    async with (
        DRIVER.open(spec_of(wire.url, groups), clock=WallClock()) as device,
        subscribed(device, "a") as speeds,
        subscribed(device, "b") as loads,
    ):
        firsts = [await anext(speeds), await anext(loads)]
        await server.do(server.simulator.set_many({"Speed": 3.5, "Load": 4.5}))
        seconds = [await anext(speeds), await anext(loads)]
        await server.do(server.simulator.set_many({"Speed": 1.5, "Load": 0.25}))

    assert [reading.values for reading in firsts] == [{"speed": 1.5}, {"load": 0.25}]
    assert [reading.values for reading in seconds] == [{"speed": 3.5}, {"load": 4.5}]


async def test_a_group_can_be_subscribed_to_again_on_the_same_connection(wire: Wire) -> None:
    async with DRIVER.open(live(wire), clock=WallClock()) as device:
        for _ in range(3):
            async with asyncio.timeout(30), subscribed(device) as readings:
                assert (await anext(readings)).values == {"speed": 1.5}


async def test_a_write_sends_the_value_alone(wire: Wire) -> None:
    """Many servers answer BadWriteNotSupported where a status or a time comes with it."""
    async with DRIVER.open(live(wire), clock=WallClock()) as device:
        await device.write("speed", 1.5)

    assert wire.last_write.endswith(bytes([0x01, 0x0B]) + b"\0\0\0\0\0\0\xf8\x3f")


async def test_a_namespace_that_comes_later_is_polled_then_without_connecting_anew(
    server: ServerThread, wire: Wire
) -> None:
    late = "urn:dinrail:late"
    tags = {**SPEED, "late": {"node": f"nsu={late};s=Load", "type": "float64"}}
    device_file = spec_of(wire.url, {"all": {"interval": "50ms", "mode": "poll", "tags": tags}})
    async with OpcUaDriver(retry_s=0.0).open(device_file, clock=WallClock()) as device:
        before = await device.read("all")
        running = server.simulator._running()
        index = await server.do(running.register_namespace(late))
        node = ua.NodeId(ua.String("Load"), ua.Int16(index))
        await server.do(running.nodes.objects.add_variable(node, f"{index}:Load", 7.5))
        after = await device.read("all")

    assert before.values == {"speed": 1.5, "late": None}
    assert before.quality["late"].cause == "config"
    assert after.values == {"speed": 1.5, "late": 7.5}


async def test_a_server_at_an_address_of_ipv6_is_polled_and_followed() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no loopback of IPv6")
    async with OpcUaSimulator(nodes={"Speed": 1.5}, host="::1") as simulator:
        groups = {
            mode: {"interval": "50ms", "mode": mode, "tags": {mode: SPEED["speed"]}} for mode in ("poll", "subscribe")
        }
        async with (
            DRIVER.open(spec_of(simulator.url, groups), clock=WallClock()) as device,
            subscribed(device, "subscribe") as readings,
        ):
            polled, followed = await device.read("poll"), await anext(readings)

    assert simulator.url.startswith("opc.tcp://[::1]:")
    assert [polled.values, followed.values] == [{"poll": 1.5}, {"subscribe": 1.5}]


def has_ipv6() -> bool:
    """Whether a server can listen on ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
