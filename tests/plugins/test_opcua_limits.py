"""The OPC UA driver against servers with narrow limits, told and untold."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from asyncua import ua

from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import WallClock
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice
from plugins.drivers.opcua.simulator import OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, Wire, device_of, node, serving, spec_of
from tests.plugins.opcua_readings import first_of, first_with_remarks, subscribed
from tests.plugins.opcua_tampering import BOTH, SPEED, Change, browsed, fault, tampering
from tests.tcp_proxy import stretched

MANY = 300
ALL = {f"bulk-{n}": node(f"Bulk{n}", "int64") for n in range(MANY)}
LONG = {f"Long{n}": [n + at / 8 for at in range(5000)] for n in range(4)}
"""160 kB, where a chunk is 64."""
HUGE = [float(at % 100) for at in range(150_000)]
"""1.2 MB: longer than a single chunk may be; 0.7 in a frame."""
MODES = pytest.mark.parametrize("mode", ["poll", "subscribe"])


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(
        OpcUaSimulator(
            nodes={
                "Speed": 1.5,
                "Pair": [1.0, 2.0],
                "Load": 0.25,
                **{f"Bulk{n}": n for n in range(MANY)},
                **LONG,
                "Huge": HUGE,
            }
        )
    ) as server:
        yield server


def refuses_more_than(most: int, field: str = "Results") -> Change:
    """A server with a limit that it does not tell."""

    def change(response: Any) -> Any:
        held = getattr(response, field, None)
        return fault(response, ua.StatusCodes.BadTooManyOperations) if held is not None and len(held) > most else None

    return change


@MODES
async def test_requests_shrink_until_a_server_takes_them_though_it_tells_no_limit(
    server: ServerThread, mode: str
) -> None:
    changes = {ua.ReadResponse: refuses_more_than(3), ua.CreateMonitoredItemsResponse: refuses_more_than(40)}
    async with tampering(server.simulator.url, changes) as wire:
        reading = await first_of(device_of(wire, ALL, mode=mode, timeout="10s"))

    assert reading.values == {f"bulk-{n}": n for n in range(MANY)}
    assert not reading.quality


@MODES
async def test_no_request_is_larger_than_the_server_takes_and_its_answers_may_be(
    server: ServerThread, mode: str
) -> None:
    def small(acknowledge: ua.Acknowledge) -> ua.Acknowledge:
        acknowledge.ReceiveBufferSize = acknowledge.MaxMessageSize = ua.UInt32(8192)
        acknowledge.SendBufferSize, acknowledge.MaxChunkCount = ua.UInt32(65_536), ua.UInt32(1)
        return acknowledge

    async with tampering(server.simulator.url, {ua.Acknowledge: small}) as wire:
        reading = await first_of(device_of(wire, ALL, mode=mode, timeout="10s"))
        nodes = [ua.NodeId(ua.Int32(2255))] * 400  # the namespaces, 400 times: some 40 kB
        async with DRIVER.open(device_of(wire, SPEED), clock=WallClock()) as device:
            assert isinstance(device, OpcUaDevice)
            device._session.limits.read = 200
            answers = await device._session.read(nodes)

    assert len(reading.values) == MANY
    assert not reading.quality
    assert len(answers) == 400
    assert 1000 < wire.largest <= 8192


async def test_a_group_for_which_the_server_has_no_subscription_is_polled_and_the_others_keep_theirs(
    server: ServerThread,
) -> None:
    made = 0

    def one_only(response: Any) -> Any:
        nonlocal made
        made += 1
        return fault(response, ua.StatusCodes.BadTooManySubscriptions) if made > 1 else None

    groups = {name: {"interval": "50ms", "tags": {tag: BOTH[tag]}} for name, tag in (("a", "speed"), ("b", "load"))}
    async with (
        tampering(server.simulator.url, {ua.CreateSubscriptionResponse: one_only}) as wire,
        DRIVER.open(spec_of(wire.url, groups, timeout="2s"), clock=WallClock()) as device,
        subscribed(device, "a") as speeds,
        subscribed(device, "b") as loads,
        asyncio.timeout(30),
    ):
        first = [await anext(speeds), await anext(loads)]
        await server.do(server.simulator.set_many({"Speed": 3.5, "Load": 4.5}))
        speed = await anext(speeds)
        load = await anext(reading async for reading in loads if reading.values["load"] == 4.5)
        await server.do(server.simulator.set_many({"Speed": 1.5, "Load": 0.25}))
        assert isinstance(device, OpcUaDevice)
        remarks = list(device.remarks())

    assert [reading.values for reading in (*first, speed)] == [{"speed": 1.5}, {"load": 0.25}, {"speed": 3.5}]
    assert not load.quality
    assert remarks == ["group b: the server has no subscription for it (BadTooManySubscriptions); it is polled"]


async def test_a_variable_that_the_server_will_not_watch_is_bad_alone(server: ServerThread) -> None:
    def full(response: Any) -> Any:
        code = ua.UInt32(ua.StatusCodes.BadTooManyMonitoredItems)
        response.Results[0] = ua.MonitoredItemCreateResult(StatusCode=ua.StatusCode(code))
        return response

    async with tampering(server.simulator.url, {ua.CreateMonitoredItemsResponse: full}) as wire:
        reading, remarks = await first_with_remarks(device_of(wire, BOTH, timeout="500ms"))

    assert reading.values == {"speed": None, "load": 0.25}
    assert "watches no more than 1 of 2 variables (BadTooManyMonitoredItems)" in remarks
    assert remarks.endswith("mode: poll: speed")
    assert reading.quality == {"speed": QualityStruct(BAD, "config", ua.StatusCodes.BadTooManyMonitoredItems)}


async def test_what_the_server_makes_of_the_interval_is_remarked_on_and_its_silence_judged_by(
    server: ServerThread,
) -> None:
    def slower(response: Any) -> Any:
        response.Parameters.RevisedPublishingInterval = 1000.0
        response.Parameters.RevisedMaxKeepAliveCount = ua.UInt32(3)
        return response

    async with tampering(server.simulator.url, {ua.CreateSubscriptionResponse: slower}) as wire:
        reading, remarks = await first_with_remarks(device_of(wire, SPEED, timeout="300ms"))

    assert reading.values == {"speed": 1.5}
    assert "group all: the server publishes every 1 s, not every 0.05 s" in remarks


async def test_nodes_for_which_the_server_has_no_continuation_point_left_are_browsed_by_themselves(
    server: ServerThread,
) -> None:
    def one_at_a_time(response: Any) -> Any:
        for result in response.Results[1:]:
            result.StatusCode = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadNoContinuationPoints))
            result.References = []
        return response

    async with tampering(server.simulator.url) as wire:
        whole = await browsed(wire)
        wire.changes[ua.BrowseResponse] = one_at_a_time
        assert await browsed(wire) == whole
    assert {"Speed", "Bulk299"} < set(whole)


async def test_a_session_that_lasts_but_a_moment_is_kept_alive(server: ServerThread) -> None:
    def short(response: Any) -> Any:
        response.Parameters.RevisedSessionTimeout = 150.0
        return response

    async with (
        tampering(server.simulator.url, {ua.CreateSessionResponse: short}) as wire,
        DRIVER.open(device_of(wire, SPEED, timeout="20s"), clock=WallClock()),
        asyncio.timeout(30),
    ):
        for _ in range(4):
            wire.asked.clear()
            await wire.asked.wait()


async def test_a_channel_is_renewed_by_the_lifetime_that_the_server_gives_it(
    server: ServerThread, eventually: Any
) -> None:
    opened = 0

    def short(response: Any) -> Any:
        nonlocal opened
        opened += 1
        response.Parameters.SecurityToken.RevisedLifetime = ua.UInt32(400)
        return response

    async with (
        tampering(server.simulator.url, {ua.OpenSecureChannelResponse: short}) as wire,
        DRIVER.open(device_of(wire, SPEED, mode="poll", timeout="20s"), clock=WallClock()) as device,
    ):
        await eventually(lambda: opened >= 3)
        reading = await device.read("all")

    assert reading.values == {"speed": 1.5}


async def test_an_array_of_a_length_that_the_server_refuses_is_told_and_the_right_one_is_written_then(
    server: ServerThread,
) -> None:
    def refuse(response: Any) -> Any:
        response.Results[0] = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadTypeMismatch))
        return response

    tags = {"pair": node("Pair", "array", writable=True)}
    async with (
        tampering(server.simulator.url, {ua.WriteResponse: refuse}) as wire,
        DRIVER.open(device_of(wire, tags, mode="poll"), clock=WallClock()) as device,
    ):
        error = await expect_device_error(device.write("pair", [1.0, 2.0, 3.0]))
        del wire.changes[ua.WriteResponse]
        await device.write("pair", [3.0, 4.0])
        reading = await device.read("all")

    assert (error.cause, error.code) == ("device", ua.StatusCodes.BadTypeMismatch)
    assert reading.values == {"pair": [3.0, 4.0]}


class Pieces(Wire):
    """chunks: of the server's answers that were not their last (OPC 10000-6, 6.7.2)."""

    chunks = 0

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await there.readexactly(8)
                writer.write(head + await there.readexactly(int.from_bytes(head[4:], "little") - 8))
                self.chunks += head[:4] == b"MSGC"
        writer.close()


@MODES
async def test_an_answer_of_several_chunks_is_read_whole(server: ServerThread, mode: str) -> None:
    tags = {name.lower(): node(name, "array") for name in LONG}
    async with stretched(Pieces(server.simulator.url)) as wire:
        reading = await first_of(device_of(wire, tags, mode=mode, timeout="10s"))

    assert wire.chunks >= 2
    assert reading.values == {name.lower(): values for name, values in LONG.items()}
    assert not reading.quality


@MODES
async def test_an_answer_that_is_longer_than_any_chunk_may_be_is_read_whole(server: ServerThread, mode: str) -> None:
    async with stretched(Pieces(server.simulator.url)) as wire:
        reading = await first_of(device_of(wire, {"huge": node("Huge", "array")}, mode=mode, timeout="10s"))

    assert wire.chunks >= 16
    assert reading.values == {"huge": HUGE}
    assert not reading.quality
