"""Groups of an OPC UA device edited while it is followed: the session stays, and so do the other groups' values."""

import asyncio
from copy import deepcopy

import pytest

from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.integration.gateway_site import listening, replace_device, running_gateway
from tests.integration.ledger import write
from tests.tcp_proxy import wire_to

INFO = "device/oven/info"
LIVE = "frame/oven/live"
SLOW = "frame/oven/slow"


def node(name, kind="float64", **more):
    return {"node": f"nsu={NAMESPACE};s={name}", "type": kind, **more}


def oven(port):
    return {
        "driver": "opcua",
        "writes": "enabled",
        "connection": {"url": f"opc.tcp://127.0.0.1:{port}/dinrail", "timeout": "2s"},
        "groups": {
            "live": {"interval": "50ms", "tags": {"temperature": node("Temperature")}},
            "slow": {"interval": "250ms", "mode": "poll", "tags": {"energy": node("Energy", "int64")}},
        },
    }


@pytest.fixture
async def server():
    nodes = {"Temperature": 0.0, "Pressure": 3.5, "Target": 20.0, "Energy": 5}
    async with OpcUaSimulator(nodes=nodes) as simulator:
        yield simulator


@pytest.fixture
async def wire(server):
    async with wire_to(int(server.url.split(":")[2].split("/")[0])) as wire:
        yield wire


def value(listener, tag):
    return listener.last(f"tag/oven/{tag}").get("value")


AHEAD = 3


class Rise:
    """The temperature rises by 1 whenever one of the last three rises was heard of, until `last` is asked for."""

    def __init__(self, server, listener):
        self._server = server
        self._listener = listener
        self._step = 0.0
        self._over = False
        self._task = asyncio.create_task(self._run())

    async def _run(self):
        while not self._over:
            self._step += 1
            await self._server.set("Temperature", self._step)
            await self._listener.until(self._is_followed)
        return self._step

    def _is_followed(self):
        samples = self._listener.last(LIVE).get("samples")
        return bool(samples) and samples[-1]["v"]["temperature"] >= self._step - AHEAD

    async def last(self):
        self._over = True
        return await self._task


async def test_a_subscription_misses_no_value_while_a_polled_group_is_edited(broker, server, wire, tmp_path):
    device = oven(wire.port)
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"oven": device}):
        await listener.until(lambda: value(listener, "temperature") == 0.0 and value(listener, "energy") == 5)
        rise = Rise(server, listener)
        slow = device["groups"]["slow"]
        slow["tags"]["pressure"] = node("Pressure")
        replace_device(tmp_path, "oven", device)
        await listener.until(lambda: value(listener, "pressure") == 3.5)
        slow["tags"]["target"] = node("Target", writable=True, range=[0, 99])
        slow["interval"] = "200ms"
        replace_device(tmp_path, "oven", device)
        await listener.until(lambda: value(listener, "target") == 20.0)
        written = await write(listener, "target", 21.5, device="oven")
        del device["groups"]["slow"]
        replace_device(tmp_path, "oven", device)
        await listener.until(lambda: listener.cleared >= {"tag/oven/energy", "tag/oven/pressure", "tag/oven/target"})
        last = await rise.last()
        await listener.until(lambda: value(listener, "temperature") == last)
        frames = list(listener.heard[LIVE])

        assert wire.connections == 1

    assert written.ok
    temperatures = [sample["v"]["temperature"] for frame in frames for sample in frame["samples"]]
    assert temperatures == [float(step) for step in range(int(last) + 1)]
    assert len({frame["epoch"] for frame in frames}) == 1


async def test_an_edited_subscription_is_opened_anew_in_the_same_session_and_polls_go_on(
    broker, server, wire, tmp_path
):
    device = oven(wire.port)
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"oven": device}):
        await listener.until(lambda: value(listener, "temperature") == 0.0 and value(listener, "energy") == 5)
        edited = deepcopy(device)
        edited["groups"]["live"]["tags"]["pressure"] = node("Pressure")
        replace_device(tmp_path, "oven", edited)
        await listener.until(lambda: value(listener, "pressure") == 3.5)
        await server.set("Temperature", 80.25)
        await listener.until(lambda: value(listener, "temperature") == 80.25)
        edited["groups"]["live"]["mode"] = "poll"
        replace_device(tmp_path, "oven", edited)
        await listener.until(lambda: listener.last(INFO)["groups"]["live"]["mode"] == "poll")
        await server.set("Pressure", 4.5)
        await listener.until(lambda: value(listener, "pressure") == 4.5)
        frames = list(listener.heard[SLOW])

        assert wire.connections == 1

    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert len({frame["epoch"] for frame in frames}) == 1
    assert not any("q" in sample for frame in frames for sample in frame["samples"])
    assert len({frame["epoch"] for frame in listener.heard[LIVE]}) == 3
