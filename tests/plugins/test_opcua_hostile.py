"""The OPC UA driver against servers that answer as real ones seldom do: garbage, refusals, limits that nobody tells."""

import asyncio
import dataclasses
import random
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import Node, Server, ua

from contracts.v1.frame import BAD, UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import WallClock
from plugins.api.driver import Device, DeviceError, DeviceSpec, FunctionSpec, Reading
from plugins.api.manifest import FunctionManifest, Port
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.config import Function, parse_node
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice, OpcUaDriver
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, node, serving, spec_of
from tests.plugins.opcua_tampering import Change, Tampering, fault, tampering

MANY = 300
SPEED = {"speed": node("Speed", "float64", writable=True)}
BOTH = {**SPEED, "load": node("Load", "float64")}
ALL = {f"bulk-{n}": node(f"Bulk{n}", "int64") for n in range(MANY)}
MODES = pytest.mark.parametrize("mode", ["poll", "subscribe"])


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    nodes: dict[str, Any] = {"Speed": 1.5, "Load": 0.25, "Goes": 1.0, "Changes": 1.0}
    with serving(OpcUaSimulator(nodes={**nodes, **{f"Bulk{n}": n for n in range(MANY)}})) as server:
        yield server


def device_of(wire: Tampering, tags: Mapping[str, Any], *, timeout: str = "2s", **group: object) -> DeviceSpec:
    return spec_of(wire.url, {"all": {"interval": "50ms", **group, "tags": tags}}, timeout=timeout)


def subscribed(device: Device, group: str = "all") -> AbstractAsyncContextManager[AsyncGenerator[Reading, None]]:
    assert isinstance(device, OpcUaDevice)
    return aclosing(device.subscribe(group))


async def first_of(spec: DeviceSpec) -> tuple[Reading, str]:
    """A poll, or the first reading of a subscription, and the remarks."""
    async with DRIVER.open(spec, clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        if spec.groups[0].options.mode == "poll":
            return await device.read("all"), "\n".join(device.remarks())
        async with subscribed(device) as readings:
            return await anext(readings), "\n".join(device.remarks())


async def everything(spec: DeviceSpec) -> None:
    """All that can be done with a device."""
    async with DRIVER.open(spec, clock=WallClock()) as device, subscribed(device) as readings:
        assert isinstance(device, OpcUaDevice)
        await anext(readings)
        await device.read("all")
        await device.write("speed", 1.5)
        async for _ in device.browse(None, depth=2):
            pass


async def test_whatever_stands_in_an_answer_is_the_devices_error_and_never_another(server: ServerThread) -> None:
    dice = random.Random(7)

    def spoil(body: bytes) -> bytes:
        if dice.random() > 0.2:
            return body
        spoilt = bytearray(body)
        for _ in range(dice.choice((1, 2, 5))):
            place = dice.randrange(len(body))
            spoilt[place] = dice.choice((0, 0xFF, 0x7F, 0x80, dice.randrange(256)))
        return bytes(spoilt)

    refused = 0
    async with tampering(server.simulator.url) as wire:
        wire.spoil = spoil
        for _ in range(60):
            try:
                await everything(device_of(wire, BOTH, timeout="200ms"))
            except DeviceError:
                refused += 1

    assert refused > 20


NEVER, ENDS = b"", None


@asynccontextmanager
async def telling(said: bytes | None) -> AsyncIterator[int]:
    """A server that says this to whoever comes, whatever it is asked; None: it breaks off."""

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if said is None:
            writer.transport.abort()
        else:
            writer.write(said)
            writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


ACKNOWLEDGE = b"ACKF\x1c\0\0\0" + bytes.fromhex("00000000 00000100 00000100 00000000 00000000")


@pytest.mark.parametrize(
    "said",
    [
        NEVER,
        ENDS,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"ACKF\x1c\0\0\0\0\0",
        b"ACKF\xff\xff\xff\xff" + bytes(100_000),
        b"ACKF\0\0\0\0",
        b"ERRF\x10\0\0\0\0\0\x7e\x80\xff\xff\xff\xff",
        ACKNOWLEDGE + b"OPNF\x08\0\0\0",
        ACKNOWLEDGE + b"MSGF\x20\0\0\0" + bytes(24),
        bytes(range(256)) * 100,
    ],
    ids=lambda said: repr(said)[:24],
)
async def test_a_server_that_speaks_no_opc_ua_is_told_in_time_and_once(
    said: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    async with telling(said) as port:
        spec = spec_of(f"opc.tcp://127.0.0.1:{port}", {"all": {"interval": "50ms", "tags": SPEED}}, timeout="300ms")
        async with asyncio.timeout(3):
            error = await expect_device_error(everything(spec))

    assert f"opc.tcp://127.0.0.1:{port}" in str(error)
    assert capfd.readouterr() == ("", ""), "the library's own words come beside ours"


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
        reading, _ = await first_of(device_of(wire, ALL, mode=mode, timeout="10s"))

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
        reading, _ = await first_of(device_of(wire, ALL, mode=mode, timeout="10s"))
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
        asyncio.timeout(10),
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
        reading, _ = await first_of(device_of(wire, BOTH, timeout="500ms"))

    assert reading.values == {"speed": None, "load": 0.25}
    assert reading.quality == {"speed": QualityStruct(BAD, "config", ua.StatusCodes.BadTooManyMonitoredItems)}


async def test_what_the_server_makes_of_the_interval_is_remarked_on_and_its_silence_judged_by(
    server: ServerThread,
) -> None:
    def slower(response: Any) -> Any:
        response.Parameters.RevisedPublishingInterval = 1000.0
        response.Parameters.RevisedMaxKeepAliveCount = ua.UInt32(3)
        return response

    async with tampering(server.simulator.url, {ua.CreateSubscriptionResponse: slower}) as wire:
        reading, remarks = await first_of(device_of(wire, SPEED, timeout="300ms"))

    assert reading.values == {"speed": 1.5}
    assert "group all: the server publishes every 1 s, not every 0.05 s" in remarks


def ended(response: Any) -> Any:
    status = ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(ua.StatusCodes.BadTimeout)))
    response.Parameters.NotificationMessage.NotificationData = [status]
    return response


def skipping(response: Any) -> Any:
    message = response.Parameters.NotificationMessage
    message.SequenceNumber = ua.UInt32(message.SequenceNumber * 5)
    return response


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (ended, "the server ended the subscription"),
        (skipping, "some are lost"),
        (lambda response: fault(response, ua.StatusCodes.BadNoSubscription), "no such subscription any more"),
        (lambda response: fault(response, ua.StatusCodes.BadSubscriptionIdInvalid), "BadSubscriptionIdInvalid"),
        (lambda response: fault(response, ua.StatusCodes.BadSessionIdInvalid), "BadSessionIdInvalid"),
    ],
    ids=["status change", "gap", "no subscription", "subscription unknown", "session unknown"],
)
async def test_a_subscription_that_is_not_whole_any_more_ends_with_an_error(
    server: ServerThread, change: Change, told: str
) -> None:
    async with (
        tampering(server.simulator.url) as wire,
        DRIVER.open(device_of(wire, SPEED), clock=WallClock()) as device,
        subscribed(device) as readings,
        asyncio.timeout(10),
    ):
        await anext(readings)
        await server.do(server.simulator.set("Speed", 2.5))
        assert (await anext(readings)).values == {"speed": 2.5}
        wire.changes[ua.PublishResponse] = change
        await server.do(server.simulator.set("Speed", 1.5))
        error = await expect_device_error(anext(readings))

    assert told in str(error)


async def test_a_value_before_which_the_server_lost_others_is_uncertain(server: ServerThread) -> None:
    def overflown(response: Any) -> Any:
        for notification in response.Parameters.NotificationMessage.NotificationData or ():
            for item in notification.MonitoredItems:
                item.Value = ua.DataValue(item.Value.Value, ua.StatusCode(ua.UInt32(0x480)))
        return response

    async with tampering(server.simulator.url, {ua.PublishResponse: overflown}) as wire:
        reading, _ = await first_of(device_of(wire, SPEED))

    assert reading.values == {"speed": 1.5}
    assert reading.quality == {"speed": QualityStruct(UNCERTAIN, "overflow", 0x480)}


async def test_a_value_without_a_time_is_of_now_however_old_the_others_are(server: ServerThread) -> None:
    await server.do(server.simulator.set("Load", 0.25, source_time=datetime(2001, 1, 1, tzinfo=UTC)))
    clock = WallClock()
    begin = clock.now_us()

    async with tampering(server.simulator.url) as wire:
        tags = {"load": BOTH["load"], "missing": node("NoSuchNode", "float64")}
        reading, _ = await first_of(device_of(wire, tags))

    assert begin <= reading.t + reading.dt.get("missing", 0) <= clock.now_us()
    assert reading.t + reading.dt["load"] == int(datetime(2001, 1, 1, tzinfo=UTC).timestamp()) * 10**6


async def test_a_null_array_and_null_bytes_are_empty(server: ServerThread) -> None:
    def null(response: Any) -> Any:
        if len(response.Results) == 2:
            response.Results[0] = ua.DataValue(ua.Variant(None, ua.VariantType.Double, is_array=True))
            response.Results[1] = ua.DataValue(ua.Variant(None, ua.VariantType.ByteString))
        return response

    tags = {"load": node("Load", "array"), "speed": node("Speed", "string")}
    async with tampering(server.simulator.url, {ua.ReadResponse: null}) as wire:
        reading, _ = await first_of(device_of(wire, tags, mode="poll"))

    assert (reading.values, reading.quality) == ({"load": [], "speed": ""}, {})


def with_token(policy: str | None) -> Change:
    """A session whose endpoints take a user by name under this policy."""

    def change(response: Any) -> Any:
        token = ua.UserTokenPolicy(PolicyId="name", TokenType=ua.UserTokenType.UserName, SecurityPolicyUri=policy)
        for endpoint in response.Parameters.ServerEndpoints:
            endpoint.UserIdentityTokens = [token]
        return response

    return change


async def test_a_server_that_would_take_the_password_in_clear_does_not_get_it(
    server: ServerThread, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("geheim")
    sent: list[bytes] = []
    for policy in ("http://opcfoundation.org/UA/SecurityPolicy#None", None, ""):
        async with tampering(server.simulator.url, {ua.CreateSessionResponse: with_token(policy)}) as wire:
            wire.seen = sent.append
            user = {"user": "anna", "password_file": str(tmp_path / "password")}
            spec = spec_of(wire.url, {"all": {"interval": "50ms", "tags": SPEED}}, **user)
            error = await expect_device_error(first_of(spec))
            assert "would be sent in clear" in str(error)

    assert sent
    assert not any(b"geheim" in body for body in sent)


async def test_a_server_that_finds_our_certificate_out_of_date_is_told_with_what_helps(server: ServerThread) -> None:
    def refuse(response: Any) -> Any:
        return fault(response, ua.StatusCodes.BadCertificateTimeInvalid)

    async with tampering(server.simulator.url, {ua.CreateSessionResponse: refuse}) as wire:
        error = await expect_device_error(first_of(device_of(wire, SPEED)))

    assert (error.cause, error.code) == ("config", ua.StatusCodes.BadCertificateTimeInvalid)
    assert "look at its clock" in str(error)


async def browsed(wire: Tampering) -> list[str]:
    async with DRIVER.open(device_of(wire, SPEED), clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        return [offer.path[-1] async for offer in device.browse(None, depth=3)]


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


async def test_a_server_that_always_has_more_to_tell_and_tells_nothing_is_not_asked_for_ever(
    server: ServerThread,
) -> None:
    def more(response: Any) -> Any:
        for result in response.Results:
            result.ContinuationPoint, result.References = b"more", []
        return response

    def still_more(refused: Any) -> Any:  # the simulator has no BrowseNext
        header = dataclasses.replace(refused.ResponseHeader, ServiceResult=ua.StatusCode())
        response = ua.BrowseNextResponse(ResponseHeader=header)
        response.Parameters.Results = [ua.BrowseResult(ContinuationPoint=b"more")]
        return response

    async with tampering(server.simulator.url) as wire:
        wire.changes |= {ua.BrowseResponse: more, ua.ServiceFault: still_more}
        async with asyncio.timeout(5):
            error = await expect_device_error(browsed(wire))

    assert "there is more, and gives nothing" in str(error)


async def test_a_session_that_lasts_but_a_moment_is_kept_alive(server: ServerThread) -> None:
    def short(response: Any) -> Any:
        response.Parameters.RevisedSessionTimeout = 150.0
        return response

    async with (
        tampering(server.simulator.url, {ua.CreateSessionResponse: short}) as wire,
        DRIVER.open(device_of(wire, SPEED, timeout="20s"), clock=WallClock()),
        asyncio.timeout(10),
    ):
        for _ in range(4):
            wire.asked.clear()
            await wire.asked.wait()


@pytest.mark.filterwarnings("ignore:coroutine 'MonitoredItemService:RuntimeWarning")
async def test_a_node_that_goes_and_comes_without_a_word_of_the_server_is_followed_again(server: ServerThread) -> None:
    simulator = server.simulator
    tags = {**SPEED, "goes": node("Goes", "float64")}
    spec = spec_of(simulator.url, {"all": {"interval": "50ms", "tags": tags}}, timeout="300ms")
    async with (
        OpcUaDriver(retry_s=0.1, audit_s=0.2).open(spec, clock=WallClock()) as device,
        subscribed(device) as readings,
        asyncio.timeout(20),
    ):
        await anext(readings)
        await server.do(simulator.remove("Goes"))
        gone = await anext(readings)
        await server.do(simulator.add("Goes", 2.0))
        back = await anext(readings)
        await server.do(simulator.set("Goes", 3.0))
        after = await anext(readings)

    assert gone.quality == {"goes": QualityStruct(BAD, "config", ua.StatusCodes.BadNodeIdUnknown)}
    assert [reading.values for reading in (gone, back, after)] == [{"goes": None}, {"goes": 2.0}, {"goes": 3.0}]


@pytest.mark.filterwarnings("ignore:coroutine 'MonitoredItemService:RuntimeWarning")
async def test_a_node_that_becomes_another_type_is_bad_and_written_in_its_new_type_at_the_second_try(
    server: ServerThread,
) -> None:
    simulator = server.simulator
    tags = {**SPEED, "changes": node("Changes", "float64", writable=True)}
    spec = spec_of(simulator.url, {"all": {"interval": "50ms", "mode": "poll", "tags": tags}}, timeout="2s")
    async with DRIVER.open(spec, clock=WallClock()) as device:
        await server.do(simulator.remove("Changes"))
        await server.do(simulator.add("Changes", 7))
        reading = await device.read("all")
        refused = await expect_device_error(device.write("changes", 8))
        await device.write("changes", 9)

    assert reading.values == {"speed": 1.5, "changes": None}
    assert reading.quality["changes"].cause == "config"
    assert refused.code == ua.StatusCodes.BadTypeMismatch
    assert await server.do(simulator.get("Changes")) == 9


async def test_nothing_is_left_of_fifty_connections(server: ServerThread, eventually: Any) -> None:
    def held() -> tuple[int, int]:
        running = server.simulator._running()
        return len(running.bserver.clients), len(running.iserver.subscription_service.subscriptions)

    before = held()
    async with tampering(server.simulator.url) as wire:
        for number in range(50):
            spec = device_of(wire, SPEED, timeout="2s")
            async with DRIVER.open(spec, clock=WallClock()) as device, subscribed(device) as readings:
                await anext(readings)
                if number % 5 == 0:
                    wire.drop()
        ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("opcua")]
        await eventually(lambda: all(writer.is_closing() for writer in wire._writers))

    await eventually(lambda: held()[0] <= before[0])
    assert ours == []


def test_the_library_is_not_touched_before_somebody_connects() -> None:
    code = "import logging, plugins.drivers.opcua.driver; print(logging.getLogger('asyncua').level)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"


async def with_methods(_: Server, folder: Node, space: int) -> None:
    async def slow(_parent: Any) -> list[ua.Variant]:
        await asyncio.sleep(0.8)  # the simulator answers nothing else meanwhile, as many servers
        return []

    async def double(_parent: Any, value: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant(2 * value.Value, ua.VariantType.Double)]

    kinds = [ua.VariantType.Double]
    await folder.add_method(ua.NodeId("Slow", space), f"{space}:Slow", slow, [], [])
    await folder.add_method(ua.NodeId("Double", space), f"{space}:Double", double, kinds, kinds)


def function(name: str, *inputs: str, timeout_s: float | None = None) -> FunctionSpec:
    """The simulator's method of that name, an output of it named result."""
    ports = {port: Port(type="number") for port in inputs}
    outputs = {"result": Port(type="number")} if inputs else {}
    source = Function(object=parse_node("i=85"), method=parse_node(f"nsu={NAMESPACE};s={name}"))
    made = FunctionManifest(title=name, inputs=ports, outputs=outputs, timeout_s=timeout_s)
    return FunctionSpec(name=name.lower(), ports=made, source=source)


async def test_a_method_that_takes_too_long_or_is_not_there_is_told_and_the_values_go_on() -> None:
    functions = (function("Slow", timeout_s=0.2), function("Missing"), function("Double", "value"))
    with serving(OpcUaSimulator(nodes={"Speed": 1.5}, build=with_methods)) as server:
        spec = spec_of(server.simulator.url, {"all": {"interval": "50ms", "tags": SPEED}}, timeout="2s")
        async with (
            DRIVER.open(dataclasses.replace(spec, functions=functions), clock=WallClock()) as device,
            subscribed(device) as readings,
            asyncio.timeout(10),
        ):
            assert isinstance(device, OpcUaDevice)
            await anext(readings)
            slow = await expect_device_error(device.call("slow", {}))
            missing = await expect_device_error(device.call("missing", {}))
            wrong = await expect_device_error(device.call("double", {"value": "many"}))
            done = await device.call("double", {"value": 2.5})
            await server.do(server.simulator.set("Speed", 2.5))
            after = await anext(readings)

    assert (slow.cause, "no answer in time" in str(slow)) == ("comm", True)
    assert (missing.cause, "no method" in str(missing)) == ("config", True)
    assert (wrong.cause, "value: 'many' is not of the node's type Double" in str(wrong)) == ("config", True)
    assert done == {"result": 5.0}
    assert after.values == {"speed": 2.5}
