"""The OPC UA driver where a server's answer leaves open whether a write or a method was done: it is no refusal."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from asyncua import Node, Server, ua

from plugins.api.bench import WallClock
from plugins.api.driver import FunctionSpec
from plugins.api.manifest import FunctionManifest, Port
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.config import Function, parse_node
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, device_of, serving
from tests.plugins.opcua_tampering import SPEED, Change, fault, tampering


class Counter:
    """A method, and how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    async def build(self, _: Server, folder: Node, space: int) -> None:
        kinds = [ua.VariantType.Double]
        await folder.add_method(ua.NodeId("Double", space), f"{space}:Double", self._double, kinds, kinds)

    async def _double(self, _parent: Any, value: ua.Variant) -> list[ua.Variant]:
        self.calls += 1
        return [ua.Variant(2 * value.Value, ua.VariantType.Double)]


COUNTER = Counter()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5}, build=COUNTER.build)) as server:
        yield server


def double(*outputs: str) -> FunctionSpec:
    """The server's method, with these outputs."""
    source = Function(object=parse_node("i=85"), method=parse_node(f"nsu={NAMESPACE};s=Double"))
    number = Port(type="number")
    ports = FunctionManifest(title="Double", inputs={"value": number}, outputs=dict.fromkeys(outputs, number))
    return FunctionSpec(name="double", ports=ports, source=source)


def result(code: int) -> Change:
    """This status of the one write or call."""
    status = ua.StatusCode(ua.UInt32(code))

    def change(response: Any) -> Any:
        if isinstance(response, ua.WriteResponse):
            response.Results = [status]
        else:
            response.Results[0].StatusCode = status
        return response

    return change


def refusal(code: int) -> Change:
    """This status of the whole request."""
    return lambda response: fault(response, code)


def empty(response: Any) -> Any:
    response.Results = []
    return response


CODES = ua.StatusCodes
CASES = pytest.mark.parametrize(
    ("change", "cause"),
    [
        (result(CODES.BadTimeout), "comm"),
        (result(CODES.BadCommunicationError), "comm"),
        (result(CODES.BadInternalError), "comm"),
        (refusal(CODES.BadServerHalted), "comm"),
        (refusal(CODES.BadRequestTimeout), "comm"),
        (empty, "comm"),
        (result(CODES.BadServerTooBusy), "busy"),
        (refusal(CODES.BadResourceUnavailable), "busy"),
        (result(CODES.BadOutOfRange), "device"),
        (result(CODES.BadUserAccessDenied), "device"),
        (refusal(CODES.BadTooManyOperations), "device"),
    ],
    ids=["timeout", "link", "internal", "halted", "old", "nothing", "busy", "resource", "range", "rights", "too many"],
)


@CASES
async def test_a_write_is_refused_only_where_the_server_says_so(
    server: ServerThread, change: Change, cause: str
) -> None:
    async with (
        tampering(server.simulator.url, {ua.WriteResponse: change}) as wire,
        DRIVER.open(device_of(wire, SPEED, mode="poll"), clock=WallClock()) as device,
    ):
        error = await expect_device_error(device.write("speed", 2.5))

    assert error.cause == cause


async def test_an_uncertain_answer_to_a_write_is_no_refusal(server: ServerThread) -> None:
    change = result(CODES.UncertainSubNormal)
    async with (
        tampering(server.simulator.url, {ua.WriteResponse: change}) as wire,
        DRIVER.open(device_of(wire, SPEED, mode="poll"), clock=WallClock()) as device,
    ):
        error = await expect_device_error(device.write("speed", 2.5))

    assert error.cause == "comm"


@CASES
async def test_a_call_is_refused_only_where_the_server_says_so(
    server: ServerThread, change: Change, cause: str
) -> None:
    async with tampering(server.simulator.url, {ua.CallResponse: change}) as wire:
        spec = dataclasses.replace(device_of(wire, SPEED, mode="poll"), functions=(double("result"),))
        async with DRIVER.open(spec, clock=WallClock()) as device:
            assert isinstance(device, OpcUaDevice)
            error = await expect_device_error(device.call("double", {"value": 1.0}))

    assert error.cause == cause


async def test_a_method_that_gives_less_than_the_file_names_is_not_called(server: ServerThread) -> None:
    before = COUNTER.calls
    async with tampering(server.simulator.url) as wire:
        spec = dataclasses.replace(device_of(wire, SPEED, mode="poll"), functions=(double("result", "rest"),))
        async with DRIVER.open(spec, clock=WallClock()) as device:
            assert isinstance(device, OpcUaDevice)
            error = await expect_device_error(device.call("double", {"value": 1.0}))

    assert (error.cause, COUNTER.calls) == ("config", before)
    assert "the method gives 1 outputs" in str(error)


async def test_an_output_that_did_not_come_is_left_out_for_the_method_was_done(server: ServerThread) -> None:
    def without(response: Any) -> Any:
        response.Results[0].OutputArguments = []
        return response

    async with tampering(server.simulator.url, {ua.CallResponse: without}) as wire:
        spec = dataclasses.replace(device_of(wire, SPEED, mode="poll"), functions=(double("result"),))
        async with DRIVER.open(spec, clock=WallClock()) as device:
            assert isinstance(device, OpcUaDevice)
            assert await device.call("double", {"value": 1.0}) == {}
