"""Writes to an OPC UA server whose answers say less than they seem to, over a real broker."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.integration.gateway_site import listening, running_gateway
from tests.integration.ledger import online, write
from tests.plugins.opcua_bench import ServerThread, serving
from tests.plugins.opcua_tampering import Tampering, tampering


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5, "Load": 0.25}, types={"Load": ua.VariantType.Float})) as server:
        yield server


@pytest_asyncio.fixture
async def wire(server: ServerThread) -> AsyncIterator[Tampering]:
    await server.do(server.simulator.set("Speed", 1.5))
    async with tampering(server.simulator.url) as wire:
        yield wire


def machine(wire: Tampering) -> dict[str, Any]:
    fields = {"type": "float64", "writable": True, "range": [0, 10], "settle": "100ms"}
    tags = {name.lower(): {"node": f"nsu={NAMESPACE};s={name}", **fields} for name in ("Speed", "Load")}
    return {
        "driver": "opcua",
        "writes": "enabled",
        "connection": {"url": wire.url, "timeout": "2s"},
        "groups": {"live": {"interval": "100ms", "mode": "poll", "tags": tags}},
    }


async def test_a_server_that_says_timeout_of_a_write_is_read_before_it_is_answered(broker, wire, tmp_path):
    def timeout(response: Any) -> Any:
        response.Results = [ua.StatusCode(ua.UInt32(ua.StatusCodes.BadTimeout))]
        return response

    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"plc": machine(wire)}):
        await online(listener, "plc")
        wire.changes[ua.WriteResponse] = timeout
        done = await write(listener, "speed", 2.5, device="plc")

    assert done.ok
    assert done.result.read_back == 2.5


async def test_a_value_that_the_server_only_remembers_verifies_no_write(broker, wire, tmp_path):
    def remembered(response: Any) -> Any:
        for place, found in enumerate(response.Results):
            if found.Value is not None and isinstance(found.Value.Value, float):
                stale = ua.StatusCode(ua.UInt32(ua.StatusCodes.UncertainLastUsableValue))
                response.Results[place] = ua.DataValue(found.Value, stale)
        return response

    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"plc": machine(wire)}):
        await online(listener, "plc")
        wire.changes[ua.ReadResponse] = remembered
        refused = await write(listener, "speed", 1.5, device="plc")

    assert refused.error.code == "verify_failed"
    assert "1.5 was written, the device cannot tell what it holds now; read back = 1.5" in refused.error.message


async def test_a_variable_of_32_bits_behind_a_tag_of_64_holds_what_was_written(broker, wire, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"plc": machine(wire)}):
        await online(listener, "plc")
        done = await write(listener, "load", 7.53, device="plc")
        again = await write(listener, "speed", 2.5, device="plc", expect={"load": 7.53})

    assert done.ok
    assert done.result.read_back == pytest.approx(7.53, rel=1e-6)
    assert again.ok
