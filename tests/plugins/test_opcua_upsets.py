"""The OPC UA driver where a server's values are odd, its subscriptions break, its nodes change, its methods fail."""

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import Node, Server, ua

from contracts.v1.frame import BAD, UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import WallClock
from plugins.api.driver import FunctionSpec
from plugins.api.manifest import FunctionManifest, Port
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.config import Function, parse_node
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice, OpcUaDriver
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, device_of, node, serving, spec_of
from tests.plugins.opcua_readings import first_of, subscribed
from tests.plugins.opcua_tampering import BOTH, SPEED, Change, fault, tampering


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5, "Load": 0.25, "Goes": 1.0, "Changes": 1.0})) as server:
        yield server


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
        asyncio.timeout(30),
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
        reading = await first_of(device_of(wire, SPEED))

    assert reading.values == {"speed": 1.5}
    assert reading.quality == {"speed": QualityStruct(UNCERTAIN, "overflow", 0x480)}


async def test_a_value_without_a_time_is_of_now_however_old_the_others_are(server: ServerThread) -> None:
    await server.do(server.simulator.set("Load", 0.25, source_time=datetime(2001, 1, 1, tzinfo=UTC)))
    clock = WallClock()
    begin = clock.now_us()

    async with tampering(server.simulator.url) as wire:
        tags = {"load": BOTH["load"], "missing": node("NoSuchNode", "float64")}
        reading = await first_of(device_of(wire, tags))

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
        reading = await first_of(device_of(wire, tags, mode="poll"))

    assert (reading.values, reading.quality) == ({"load": [], "speed": ""}, {})


@pytest.mark.filterwarnings("ignore:coroutine 'MonitoredItemService:RuntimeWarning")
async def test_a_node_that_goes_and_comes_without_a_word_of_the_server_is_followed_again(server: ServerThread) -> None:
    simulator = server.simulator
    tags = {**SPEED, "goes": node("Goes", "float64")}
    spec = spec_of(simulator.url, {"all": {"interval": "50ms", "tags": tags}}, timeout="300ms")
    async with (
        OpcUaDriver(retry_s=0.1, audit_s=0.2).open(spec, clock=WallClock()) as device,
        subscribed(device) as readings,
        asyncio.timeout(30),
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


class Methods:
    """`Slow` ends once it is let go, `Double` at once."""

    def __init__(self) -> None:
        self._let_go = asyncio.Event()

    async def build(self, _: Server, folder: Node, space: int) -> None:
        kinds = [ua.VariantType.Double]
        await folder.add_method(ua.NodeId("Slow", space), f"{space}:Slow", self._slow, [], [])
        await folder.add_method(ua.NodeId("Double", space), f"{space}:Double", self._double, kinds, kinds)

    async def let_go(self) -> None:
        self._let_go.set()

    async def _slow(self, _parent: Any) -> list[ua.Variant]:
        await self._let_go.wait()  # the simulator answers nothing else meanwhile, as many servers
        return []

    async def _double(self, _parent: Any, value: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant(2 * value.Value, ua.VariantType.Double)]


def function(name: str, *inputs: str, timeout_s: float | None = None) -> FunctionSpec:
    """The simulator's method of that name, an output of it named result."""
    ports = {port: Port(type="number") for port in inputs}
    outputs = {"result": Port(type="number")} if inputs else {}
    source = Function(object=parse_node("i=85"), method=parse_node(f"nsu={NAMESPACE};s={name}"))
    made = FunctionManifest(title=name, inputs=ports, outputs=outputs, timeout_s=timeout_s)
    return FunctionSpec(name=name.lower(), ports=made, source=source)


async def test_a_method_that_takes_too_long_or_is_not_there_is_told_and_the_values_go_on() -> None:
    functions = (function("Slow", timeout_s=0.2), function("Missing"), function("Double", "value"))
    methods = Methods()
    with serving(OpcUaSimulator(nodes={"Speed": 1.5}, build=methods.build)) as server:
        spec = spec_of(server.simulator.url, {"all": {"interval": "50ms", "tags": SPEED}}, timeout="2s")
        async with (
            DRIVER.open(dataclasses.replace(spec, functions=functions), clock=WallClock()) as device,
            subscribed(device) as readings,
            asyncio.timeout(30),
        ):
            assert isinstance(device, OpcUaDevice)
            await anext(readings)
            slow = await expect_device_error(device.call("slow", {}))
            await server.do(methods.let_go())
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
