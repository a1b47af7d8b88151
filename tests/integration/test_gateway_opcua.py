"""The gateway between a real OPC UA server and a real broker."""

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.integration.gateway_site import listening, running_gateway
from tests.ports import free_port

STATE = "device/oven/state"
FRAME = "frame/oven/live"


def oven(url, **fields):
    def node(name, kind):
        return {"node": f"nsu={NAMESPACE};s={name}", "type": kind}

    return {
        "driver": "opcua",
        "connection": {"url": url, "timeout": "2s"},
        "groups": {
            "live": {
                "interval": "50ms",
                "tags": {"temperature": node("Temperature", "float64"), "batch": node("Batch", "string")},
            },
            "slow": {"interval": "100ms", "mode": "poll", "tags": {"energy": node("Energy", "int64")}},
        },
        **fields,
    }


@pytest.fixture
async def server():
    async with OpcUaSimulator(nodes={"Temperature": 72.5, "Batch": "cola", "Energy": 5}) as simulator:
        yield simulator


async def test_subscribed_and_polled_values_arrive_with_the_servers_time(broker, server, tmp_path):
    devices = {"oven": oven(server.url)}
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, devices, retry_first="50ms") as gateway,
    ):
        await listener.until(lambda: listener.last("tag/oven/energy").get("value") == 5)
        await listener.until(lambda: listener.last("tag/oven/batch").get("value") == "cola")
        await server.set("Temperature", 80.25)
        await listener.until(lambda: listener.last("tag/oven/temperature").get("value") == 80.25)
        told = listener.last("tag/oven/temperature")
        sample = next(one for one in listener.samples(FRAME) if one["v"].get("temperature") == 80.25)
        polls = gateway.metric("polls_total", device="oven", outcome="good")
        await listener.until(lambda: listener.last(STATE).get("achieved_hz", 0) > 0)

    assert "batch" not in sample["v"], "only what changed"
    assert told["ts"] == (sample["t"] + sample.get("dt", {}).get("temperature", 0)) // 1000
    assert polls >= 1
    info = listener.last("device/oven/info")
    assert {name: group["mode"] for name, group in info["groups"].items()} == {"live": "subscribe", "slow": "poll"}


async def test_a_tag_that_does_not_fit_its_node_is_told_in_the_log(broker, server, tmp_path, eventually, capfd):
    device = oven(server.url)
    device["groups"]["live"]["tags"]["batch"]["type"] = "float64"
    logged = []

    def told():
        captured = capfd.readouterr()
        logged.append(captured.out + captured.err)
        return "".join(logged)

    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"oven": device}):
        await listener.until(lambda: listener.last("tag/oven/batch").get("cause") == "config")
        await eventually(lambda: f"tag batch: nsu={NAMESPACE};s=Batch is String, not float64" in told())


SERVER = """
import asyncio, sys
from plugins.drivers.opcua.simulator import OpcUaSimulator

async def serve():
    nodes = {"Temperature": 72.5, "Batch": "cola", "Energy": 5}
    async with OpcUaSimulator(nodes=nodes, port=int(sys.argv[1])) as simulator:
        print(simulator.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


@asynccontextmanager
async def server_process(port):
    """A server that dies, at the end, as a machine does whose plug is pulled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(port), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            url = await process.stdout.readline()
        yield url.decode().strip()
    finally:
        process.kill()
        await process.communicate()


async def test_a_server_that_is_killed_makes_its_tags_bad_once_and_is_followed_again(broker, tmp_path):
    port = free_port()
    retry = {"retry_first": "50ms", "retry_longest": "200ms"}
    async with AsyncExitStack() as running:
        listener = await running.enter_async_context(listening(broker))
        async with server_process(port) as url:
            await running.enter_async_context(running_gateway(broker, tmp_path, {"oven": oven(url)}, **retry))
            await listener.until(lambda: listener.last("tag/oven/temperature").get("q") == 192)
        await listener.until(lambda: listener.last(STATE).get("state") == "offline")
        await listener.until(lambda: listener.last("tag/oven/temperature").get("q") == 0)
        await listener.until(lambda: bad_samples(listener))
        async with server_process(port):
            await listener.until(lambda: listener.last(STATE).get("state") == "online")
            await listener.until(lambda: listener.last("tag/oven/temperature").get("value") == 72.5)
            assert len(bad_samples(listener)) == 1


def bad_samples(listener):
    return [sample for sample in listener.samples(FRAME) if sample["v"].get("temperature", "") is None]
