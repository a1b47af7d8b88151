"""Methods and the address space of an OPC UA server by command, over a real broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Node, Server, ua

from contracts.v1.command import BROWSE, Browse, BrowseResult
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.integration.gateway_site import listening, replace_device, running_gateway
from tests.integration.ledger import call, online
from tests.plugins.opcua_bench import ServerThread, serving
from tests.real_broker import Broker


async def build(_: Server, folder: Node, space: int) -> None:
    async def scale(_parent: Any, value: ua.Variant, times: ua.Variant) -> list[ua.Variant] | ua.StatusCode:
        if times.VariantType is not ua.VariantType.Int16 or times.Value < 0:
            return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadOutOfRange))
        if times.Value == 0:
            return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadServerTooBusy))
        return [ua.Variant(value.Value * times.Value, ua.VariantType.Double)]

    kinds = [ua.VariantType.Double, ua.VariantType.Int16]
    await folder.add_method(ua.NodeId("Scale", space), f"{space}:Scale", scale, kinds, kinds[:1])


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5, "Batch": "cola"}, build=build)) as server:
        yield server


def machine(server: ServerThread, **fields: Any) -> dict[str, Any]:
    node = f"nsu={NAMESPACE};s="
    scale = {
        "object": "i=85",
        "method": f"{node}Scale",
        "inputs": {"value": {"type": "number"}, "times": {"type": "integer"}},
        "outputs": {"scaled": {"type": "number"}},
    }
    return {
        "driver": "opcua",
        "writes": "enabled",
        "connection": {"url": server.simulator.url, "timeout": "2s"},
        "functions": {"scale": scale},
        "groups": {"live": {"interval": "100ms", "tags": {"speed": {"node": f"{node}Speed", "type": "float64"}}}},
        **fields,
    }


async def test_a_method_that_the_device_file_names_is_called_with_its_own_types(
    broker: Broker, server: ServerThread, tmp_path: Path
) -> None:
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"plc": machine(server)}):
        await online(listener, "plc")
        done = await call(listener, "scale", device="plc", value=2.5, times=3)
        refused = await call(listener, "scale", device="plc", value=2.5, times=-3)
        busy = await call(listener, "scale", device="plc", value=2.5, times=0)
        missing = await call(listener, "scale", device="plc", value=2.5)

    assert done.result.outputs == {"scaled": 7.5}
    assert (refused.ok, refused.error.code) == (False, "invalid")
    assert "BadOutOfRange" in refused.error.message
    assert busy.error.code == "device_unavailable"
    assert missing.error.code == "invalid"


async def test_a_method_that_the_file_names_later_is_called_in_the_same_session(
    broker: Broker, server: ServerThread, tmp_path: Path
) -> None:
    device = machine(server)
    before = {**device, "functions": {}}
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"plc": before}) as running:
        await online(listener, "plc")
        unknown = await call(listener, "scale", device="plc", value=2.5, times=3)
        replace_device(tmp_path, "plc", device)
        await running.until_logged("config_changed")
        done = await call(listener, "scale", device="plc", value=2.5, times=3)

        assert [told["state"] for told in listener.heard["device/plc/state"]].count("starting") == 1

    assert unknown.error.code == "not_found"
    assert done.result.outputs == {"scaled": 7.5}


async def test_the_address_space_is_listed_by_command(broker: Broker, server: ServerThread, tmp_path: Path) -> None:
    async def browse(**asked: Any) -> Any:
        return await listener.bus.request(BROWSE, Browse(**asked), user="anna", timeout_s=30, id="plc")

    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"plc": machine(server)}):
        await online(listener, "plc")
        top = await browse()
        assert isinstance(top.result, BrowseResult)
        (folder,) = top.result.entries
        below = await browse(at=folder.address)
        cut = await browse(at=folder.address, most=1)
        nowhere = await browse(at="nsu=urn:nobody;s=x")

    told = {entry.name: (entry.kind, entry.type, entry.writable) for entry in below.result.entries}
    assert (folder.name, folder.kind) == ("Simulator", "folder")
    assert told == {
        "Speed": ("variable", "float64", True),
        "Batch": ("variable", "string", True),
        "Scale": ("method", None, None),
    }
    assert (len(cut.result.entries), cut.result.more) == (1, True)
    assert (nowhere.error.code, "no namespace" in nowhere.error.message) == ("invalid", True)
