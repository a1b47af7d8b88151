"""The OPC UA driver where a server's texts are no UTF-8, its times no times, and its namespaces have no name."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asyncua import Node, Server, ua

from contracts.v1.frame import BAD, UNCERTAIN
from contracts.v1.frame_codec import FrameStruct, QualityStruct, SampleStruct, decode_frame, encode_frame
from plugins.api.bench import WallClock
from plugins.api.driver import FunctionSpec, Reading
from plugins.api.manifest import FunctionManifest
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.config import Function, parse_node
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, device_of, node, serving, spec_of
from tests.plugins.opcua_readings import first_of, first_with_remarks
from tests.plugins.opcua_tampering import SPEED, tampering

MODES = pytest.mark.parametrize("mode", ["poll", "subscribe"])
LATIN_1 = b"20 \xb0C".decode(errors="surrogateescape")
"""As a PLC with Windows-1252 has it: asyncua's server sends these bytes."""
GUID = "72962b91-fa75-4ae6-8d28-b404dc7daf63"


async def build(_: Server, folder: Node, space: int) -> None:
    name = ua.QualifiedName(b"F\xfcller".decode(errors="surrogateescape"), space)
    await folder.add_variable(ua.NodeId(ua.Int32(4711), ua.Int16(space)), name, 1.0)
    size = ua.Argument(Name=b"Gr\xf6\xdfe".decode(errors="surrogateescape"), DataType=ua.NodeId(ua.ObjectIds.Double))
    await folder.add_method(ua.NodeId("Scale", space), ua.QualifiedName("Scale", space), _nothing, [size], [])


async def _nothing(_parent: ua.NodeId, _size: ua.Variant) -> list[ua.Variant]:
    return []


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    types = {"When": ua.VariantType.DateTime, "Which": ua.VariantType.Guid, "What": ua.VariantType.ByteString}
    nodes: dict[str, Any] = {"Speed": 1.5, "Load": 0.25, "Text": LATIN_1}
    nodes |= {"Picture": b"x" * 800_000, "Curve": [0.1] * 300_000}
    nodes |= {"When": datetime(2026, 1, 1, tzinfo=UTC), "Which": UUID(int=1), "What": b""}
    with serving(OpcUaSimulator(nodes=nodes, types=types, build=build)) as server:
        yield server


def framed(reading: Reading) -> SampleStruct:
    """The reading as whoever reads its frame gets it."""
    sample = SampleStruct(reading.t, dict(reading.values), dict(reading.quality) or None, dict(reading.dt) or None)
    frame = decode_frame(encode_frame(FrameStruct(1, 1, "rev", [sample]), topic="frame"), topic="frame")
    return frame.samples[0]


@MODES
async def test_a_text_in_another_encoding_spoils_no_other_and_can_be_told(server: ServerThread, mode: str) -> None:
    tags = {**SPEED, "text": node("Text", "string")}
    spec = spec_of(server.simulator.url, {"all": {"interval": "50ms", "mode": mode, "tags": tags}}, timeout="2s")

    reading = await first_of(spec)

    assert framed(reading).v == {"speed": 1.5, "text": "20 \ufffdC"}
    assert reading.quality == {"text": QualityStruct(UNCERTAIN, "device")}


@MODES
async def test_what_no_frame_can_hold_is_bad_alone(server: ServerThread, mode: str) -> None:
    tags = {**SPEED, "picture": node("Picture", "string"), "curve": node("Curve", "array")}
    spec = spec_of(server.simulator.url, {"all": {"interval": "50ms", "mode": mode, "tags": tags}}, timeout="10s")

    reading = await first_of(spec)

    assert framed(reading).v == {"speed": 1.5, "picture": None, "curve": None}
    assert reading.quality == dict.fromkeys(("picture", "curve"), QualityStruct(BAD, "range"))


async def test_a_name_in_another_encoding_is_offered_in_one_that_a_file_can_hold(server: ServerThread) -> None:
    spec = spec_of(server.simulator.url, {"all": {"interval": "50ms", "tags": SPEED}}, timeout="2s")
    async with DRIVER.open(spec, clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        names = [offer.path[-1] async for offer in device.browse(None, depth=2)]

    assert "F\ufffdller" in names
    assert "".join(names).encode()


@MODES
async def test_a_time_beyond_all_time_is_none_and_spoils_no_other(server: ServerThread, mode: str) -> None:
    clock = WallClock()
    begin = clock.now_us()
    await server.do(server.simulator.set("Speed", 1.5, source_time=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)))
    await server.do(server.simulator.set("Load", 0.25, source_time=datetime(2026, 1, 1, tzinfo=UTC)))
    tags = {**SPEED, "load": node("Load", "float64")}
    spec = spec_of(server.simulator.url, {"all": {"interval": "50ms", "mode": mode, "tags": tags}}, timeout="2s")

    reading = await first_of(spec)

    sample = framed(reading)
    assert sample.v == {"speed": 1.5, "load": 0.25}
    assert begin <= sample.t <= clock.now_us()
    assert sample.t + (sample.dt or {})["load"] == int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 10**6


async def test_a_server_whose_clock_is_off_is_told_so_once(server: ServerThread) -> None:
    def late(response: Any) -> Any:
        if isinstance(response.Results[-1].Value.Value, datetime):
            time = response.Results[-1].Value.Value + timedelta(hours=2, seconds=5)
            response.Results[-1] = ua.DataValue(ua.Variant(time, ua.VariantType.DateTime))
        return response

    async with tampering(server.simulator.url) as wire:
        _, right = await first_with_remarks(device_of(wire, SPEED))
        wire.changes[ua.ReadResponse] = late
        _, wrong = await first_with_remarks(device_of(wire, SPEED))

    assert "clock" not in right
    assert wrong.count("the server's clock is 2.0 h ahead of ours") == 1


async def test_a_namespace_without_a_name_keeps_no_other_away(server: ServerThread) -> None:
    def nameless(response: Any) -> Any:
        held = response.Results[0].Value
        if held is not None and isinstance(held.Value, list) and "http://opcfoundation.org/UA/" in held.Value:
            response.Results[0] = ua.DataValue(ua.Variant([*held.Value, None], ua.VariantType.String))
        return response

    tags = {**SPEED, "lost": {"node": "nsu=urn:dinrail:misspelt;s=Speed", "type": "float64"}}
    async with tampering(server.simulator.url, {ua.ReadResponse: nameless}) as wire:
        reading, remarks = await first_with_remarks(device_of(wire, tags, mode="poll"))
        alone = device_of(wire, {"lost": tags["lost"]})
        error = await expect_device_error(first_of(alone))

    assert reading.values == {"speed": 1.5, "lost": None}
    assert reading.quality["lost"].q == BAD
    assert "no namespace 'urn:dinrail:misspelt'" in remarks
    assert "no namespace 'urn:dinrail:misspelt'" in str(error)


async def test_what_is_told_of_names_in_another_encoding_can_be_sent(server: ServerThread) -> None:
    def abroad(response: Any) -> Any:
        held = response.Results[0].Value
        if held is not None and isinstance(held.Value, list) and "http://opcfoundation.org/UA/" in held.Value:
            spaces = [*held.Value, b"urn:F\xfcller".decode(errors="surrogateescape")]
            response.Results[0] = ua.DataValue(ua.Variant(spaces, ua.VariantType.String))
        return response

    source = Function(object=parse_node("i=85"), method=parse_node(f"nsu={NAMESPACE};s=Scale"))
    scale = FunctionSpec(name="scale", ports=FunctionManifest(title="Scale", inputs={}, outputs={}), source=source)
    tags = {"filler": {"node": "nsu=urn:F\u00fcller;s=Speed", "type": "float64"}}
    async with tampering(server.simulator.url, {ua.ReadResponse: abroad}) as wire:
        nowhere = await expect_device_error(first_of(device_of(wire, tags)))
        async with DRIVER.open(replace(device_of(wire, SPEED), functions=(scale,)), clock=WallClock()) as device:
            assert isinstance(device, OpcUaDevice)
            misfit = await expect_device_error(device.call("scale", {}))

    assert "urn:F\ufffdller" in str(nowhere)
    assert "takes 1 inputs (Gr\ufffd\ufffde)" in str(misfit)


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("When", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05Z"),
        ("When", "2026-01-02 03:04", "2026-01-02T03:04:00Z"),
        ("Which", GUID.upper(), GUID),
        ("What", "QR==", "QQ=="),
    ],
)
async def test_a_text_that_would_be_read_back_in_another_spelling_is_refused_unsent_with_the_right_one(
    server: ServerThread, name: str, given: str, shown: str
) -> None:
    tags = {"text": node(name, "string", writable=True)}
    async with tampering(server.simulator.url) as wire:
        spec = device_of(wire, tags, mode="poll")
        async with DRIVER.open(spec, clock=WallClock()) as device:
            refused = await expect_device_error(device.write("text", given))
            unsent = wire.writes
            await device.write("text", shown)
            reading = await device.read("all")

    assert (refused.cause, unsent) == ("range", 0)
    assert str(refused).endswith(f"{given!r} would be read back as {shown!r}; write it so")
    assert reading.values == {"text": shown}
