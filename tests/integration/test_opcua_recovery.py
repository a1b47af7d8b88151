"""A gateway gets over what happens to an OPC UA server and the network: every tag is back, each change comes once."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.integration.gateway_site import Listener, listening, running_gateway
from tests.others.node_opcua import node_server
from tests.plugins.opcua_bench import ServerThread, serving
from tests.ports import free_port
from tests.real_broker import Broker
from tests.tcp_proxy import Wire, wire_to

STATE = "device/plc/state"
TAGS = {"speed": "Speed", "ratio": "Ratio", "load": "Load", "count": "Count"}
RETRY = {"retry_first": "50ms", "retry_longest": "200ms"}


def plc(port: int, namespace: str = NAMESPACE, **tags: str) -> dict[str, Any]:
    """Two groups that are subscribed to and one that is polled, by way of this port."""

    def node(name: str) -> dict[str, Any]:
        return {"node": f"nsu={namespace};s={tags.get(name, TAGS[name])}", "type": "float64"}

    return {
        "driver": "opcua",
        "connection": {"url": f"opc.tcp://127.0.0.1:{port}/dinrail", "timeout": "1s"},
        "groups": {
            "fast": {"interval": "50ms", "tags": {name: node(name) for name in ("speed", "ratio")}},
            "slow": {"interval": "100ms", "tags": {"load": node("load")}},
            "polled": {"interval": "100ms", "mode": "poll", "tags": {"count": node("count")}},
        },
    }


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes=dict.fromkeys(TAGS.values(), 1.0), port=free_port())) as server:
        yield server


def qualities(listener: Listener) -> set[int | None]:
    return {listener.last(f"tag/plc/{tag}").get("q") for tag in TAGS}


async def every_change_comes_once(
    listener: Listener, change: Callable[[dict[str, float]], Awaitable[object]], value: float
) -> None:
    """Of each variable that is subscribed to: no subscription is missing, and none is there twice."""
    await listener.until(lambda: qualities(listener) == {192})
    await change(dict.fromkeys(TAGS.values(), value))
    await listener.until(lambda: {listener.last(f"tag/plc/{tag}").get("value") for tag in TAGS} == {value})
    await change(dict.fromkeys(TAGS.values(), value + 0.5))
    await listener.until(lambda: {listener.last(f"tag/plc/{tag}").get("value") for tag in TAGS} == {value + 0.5})
    for group, tag in (("fast", "speed"), ("fast", "ratio"), ("slow", "load")):
        told = [one["v"][tag] for one in listener.samples(f"frame/plc/{group}") if one["v"].get(tag) == value]
        assert told == [value], f"{tag} came {len(told)} times"


async def cut(_: ServerThread, wire: Wire) -> None:
    wire.cut()


async def go_dead(_: ServerThread, wire: Wire) -> None:
    """Nothing passes any more, and nobody is told."""
    wire.deaden()


async def restart(server: ServerThread, _: Wire) -> None:
    await server.do(server.simulator.stop())
    await server.do(server.simulator.start())


async def restart_with_another_index(server: ServerThread, wire: Wire) -> None:
    """A program that has come before ours takes the namespace's index."""
    simulator = server.simulator
    simulator._earlier_namespaces = (*simulator._earlier_namespaces, f"urn:dinrail:came:{wire.port}")
    await restart(server, wire)


@pytest.mark.parametrize("trouble", [cut, go_dead, restart, restart_with_another_index])
async def test_every_tag_is_back_after_trouble_and_each_change_comes_once(
    broker: Broker, server: ServerThread, tmp_path: Path, trouble: Callable[[ServerThread, Wire], Awaitable[None]]
) -> None:
    async with (
        wire_to(urlsplit(server.simulator.url).port or 0) as wire,
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"plc": plc(wire.port)}, **RETRY),
    ):
        await every_change_comes_once(listener, changes_of(server), 10.0)
        await trouble(server, wire)
        await listener.until(lambda: times_bad(listener) == 1)
        wire.mend()
        await every_change_comes_once(listener, changes_of(server), 20.0)
        assert times_bad(listener) == 1


def changes_of(server: ServerThread) -> Callable[[dict[str, float]], Awaitable[object]]:
    return lambda values: server.do(server.simulator.set_many(values))


def times_bad(listener: Listener) -> int:
    """How often every tag of the fast group was told to be bad."""
    return sum(one["v"].get("speed", 0) is None for one in listener.samples("frame/plc/fast"))


async def test_a_node_that_is_missing_after_a_restart_is_bad_alone_and_comes_back_by_itself(
    broker: Broker, server: ServerThread, tmp_path: Path
) -> None:
    simulator = server.simulator
    port = urlsplit(simulator.url).port or 0
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"plc": plc(port)}, **RETRY):
        await listener.until(lambda: qualities(listener) == {192})
        await server.do(simulator.stop())
        await listener.until(lambda: qualities(listener) == {0})
        simulator._first.pop("Speed")
        await server.do(simulator.start())
        await listener.until(lambda: listener.last("tag/plc/ratio").get("q") == 192)
        await listener.until(lambda: listener.last("tag/plc/speed").get("cause") == "config")
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        await server.do(simulator.add("Speed", 5.0))
        simulator._first["Speed"] = 5.0
        await every_change_comes_once(listener, changes_of(server), 20.0)


@pytest.mark.others
@pytest.mark.parametrize("unreachable", [False, True], ids=["while we listen", "while the network is dead"])
async def test_a_session_that_the_server_ends_is_opened_anew_with_every_subscription(
    broker: Broker, tmp_path: Path, unreachable: bool
) -> None:
    async with node_server(tmp_path / "pki", free_port()) as server:
        for name in TAGS.values():
            await server.do("put", [name, 1.0])

        async def change(values: dict[str, float]) -> None:
            await server.do("set", values)

        async with (
            wire_to(urlsplit(server.url).port or 0) as wire,
            listening(broker) as listener,
            running_gateway(broker, tmp_path, {"plc": plc(wire.port, "urn:dinrail:others")}, **RETRY),
        ):
            await every_change_comes_once(listener, change, 10.0)
            if unreachable:
                wire.deaden()
            await server.do("expire")
            await listener.until(lambda: times_bad(listener) == 1)
            wire.mend()
            await every_change_comes_once(listener, change, 20.0)
            watched = await server.do("watched")

    assert watched == [[2, 3]], "one session, two subscriptions, three monitored items"
