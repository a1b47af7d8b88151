"""Functions of a device, and writes to other than Modbus devices, over a real broker."""

import asyncio
import errno

import pytest
from asyncua import ua

from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests.integration.gateway_site import listening, running_gateway
from tests.integration.ledger import call, events, online, told, write


def servo(**more):
    tags = {signal: {"type": "float64", "signal": signal} for signal in ("position", "velocity")}
    tags["target"] = {"type": "float64", "signal": "target", "range": [0, 500], "writable": True}
    tags["homed"] = {"type": "bool", "signal": "homed"}
    return {
        "driver": "mock_servo",
        "writes": "enabled",
        "connection": {"velocity": 1000, "acceleration": 20000},
        "groups": {"state": {"interval": "20ms", "tags": tags}},
        **more,
    }


async def test_a_function_gives_its_outputs_and_stands_in_the_ledger(broker, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"servo": servo()}):
        await online(listener, "servo")
        moved = await call(listener, "move_to", device="servo", position=50)
        homed = await call(listener, "home", device="servo")
        await listener.until(lambda: told(listener, "servo").count("call.done") == 2)

    assert moved.result.outputs == {"position": 50.0}
    assert homed.result.outputs == {"position": 0.0}
    states = events(listener, "servo")[:3]
    assert [state["type"] for state in states] == ["call.accepted", "call.executing", "call.done"]
    assert {state["user"] for state in states} == {"anna"}
    assert states[0]["data"] == {"function": "move_to", "inputs": {"position": 50}}
    assert states[2]["data"]["outputs"] == {"position": 50.0}


async def test_a_call_that_may_not_be_is_refused_with_its_reason(broker, tmp_path):
    cases = [
        ("move", {}, "not_found", "servo has no function 'move'; did you mean 'move_to'?"),
        ("move_to", {}, "invalid", "move_to: the input 'position' is missing"),
        ("move_to", {"position": "far"}, "invalid", "input position: 'far' is not of type number"),
        ("move_to", {"position": True}, "invalid", "input position: True is not of type number"),
        ("home", {"position": 1.0}, "invalid", "home has no input 'position'; it has: none"),
        ("move_to", {"position": 900.0}, "out_of_range", "move_to: 900 mm is outside 0 to 500 mm"),
    ]
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"servo": servo()}):
        await online(listener, "servo")
        refused = [(await call(listener, name, device="servo", **inputs)).error for name, inputs, _, _ in cases]

    assert [(error.code, error.message) for error in refused] == [case[2:] for case in cases]


async def test_nothing_is_called_before_the_command_is_on_the_disk_nor_if_the_disk_does_not_take_it(
    broker, tmp_path, book_sync
):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"servo": servo()}):
        await online(listener, "servo")
        calling = asyncio.create_task(call(listener, "home", device="servo"))
        assert await asyncio.to_thread(book_sync.asked.wait, 30)
        assert not told(listener, "servo")
        book_sync.error = OSError(errno.EIO, "Input/output error")
        book_sync.allowed.set()
        refused = await calling
        book_sync.error = None
        done = await call(listener, "home", device="servo")
        await listener.until(lambda: "call.done" in told(listener, "servo"))

    assert refused.error.code == "unavailable"
    assert "it cannot be kept: commands: Input/output error" in refused.error.message
    assert done.ok
    assert told(listener, "servo").count("call.executing") == 1


async def test_nothing_is_called_while_the_device_file_does_not_enable_it(broker, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"servo": servo(writes="disabled")}):
        await online(listener, "servo")
        refused = await call(listener, "home", device="servo")

    assert refused.error.code == "not_writable"
    assert refused.error.message == "servo: calls are off; its device file does not say writes: enabled"


async def test_a_long_call_holds_up_neither_the_polls_nor_the_stop(broker, tmp_path):
    slow = servo(connection={"velocity": 1, "acceleration": 1000})
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"servo": slow}):
        await online(listener, "servo")
        moving = asyncio.create_task(call(listener, "move_to", device="servo", position=20, timeout_s=30))
        await listener.until(lambda: "call.executing" in told(listener, "servo"))
        polls = len(listener.heard["frame/servo/state"])
        await listener.until(lambda: len(listener.heard["frame/servo/state"]) > polls + 5)
        stopped = await call(listener, "stop", device="servo")
        still_moving = not moving.done()
        moved = await moving

    assert still_moving
    assert 0 < stopped.result.outputs["position"] < 20
    assert moved.result is not None, moved.error
    assert moved.result.outputs == stopped.result.outputs


async def test_a_servo_takes_a_new_target_by_write(broker, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"servo": servo()}):
        await online(listener, "servo")
        done = await write(listener, "target", 20, device="servo")
        await listener.until(lambda: listener.last("tag/servo/position").get("value") == 20.0)

    assert done.result.value == done.result.read_back == 20.0


async def test_an_opc_ua_node_is_written_in_its_own_type_and_read_back(broker, tmp_path):
    nodes = {"speed": 10.0, "count": 3, "on": False, "name": "A"}
    types = {"speed": ua.VariantType.Float, "count": ua.VariantType.UInt16}
    async with OpcUaSimulator(nodes=nodes, types=types) as server:
        line = {
            "driver": "opcua",
            "writes": "enabled",
            "connection": {"url": server.url},
            "groups": {
                "all": {
                    "interval": "100ms",
                    "tags": {
                        "speed": node("speed", "float32", range=[0, 100]),
                        "count": node("count", "uint16", range=[0, 60000]),
                        "on": node("on", "bool"),
                        "name": node("name", "string"),
                    },
                }
            },
        }
        async with listening(broker) as listener, running_gateway(broker, tmp_path, {"line": line}):
            await online(listener, "line")
            wanted = {"speed": 12.3, "count": 50000, "on": True, "name": "B"}
            replies = {tag: await write(listener, tag, value, device="line") for tag, value in wanted.items()}
            await listener.until(lambda: listener.last("tag/line/name").get("value") == "B")
            held = {name: await server.get(name) for name in wanted}

    assert {tag: reply.error for tag, reply in replies.items() if not reply.ok} == {}
    assert held == {**wanted, "speed": pytest.approx(12.3, abs=1e-6)}
    assert replies["count"].result.read_back == 50000


def node(name, kind, **more):
    return {"node": f"nsu={NAMESPACE};s={name}", "type": kind, "writable": True, **more}
