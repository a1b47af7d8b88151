"""How soon a device that was away is found again, and how seldom one is asked that refuses."""

import socket
import time

from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator, Protection
from tests.integration.gateway_site import listening, modbus_device, running_gateway
from tests.plugins.opcua_bench import serving
from tests.plugins.opcua_certificates import made
from tests.ports import free_port

TAGS = {"level": {"address": "holding:0", "type": "uint16"}}
FIRST_S = 0.1


def told(listener, device, field):
    return listener.last(f"device/{device}/state").get(field)


class DroppingHost:
    """A port at which connections are neither taken nor refused, as at a host without power."""

    def __init__(self):
        self.port = free_port()
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=0)
        self._only = socket.create_connection(("127.0.0.1", self.port))

    def end(self):
        self._only.close()
        self._listening.close()


async def test_a_device_that_does_not_answer_is_back_without_its_turn_however_long_it_was_away(broker, tmp_path):
    unit, host = Unit(), DroppingHost()
    unit.silent = True
    refused, dark = (ModbusSimulator(units={1: Unit()}, port=port) for port in (free_port(), host.port))
    async with ModbusSimulator(units={1: unit}) as silent:
        simulators = {"refused": refused, "dark": dark, "silent": silent}
        devices = {name: modbus_device(one.port, TAGS, timeout="300ms") for name, one in simulators.items()}
        async with (
            listening(broker) as listener,
            running_gateway(broker, tmp_path, devices, retry_first="1h", retry_longest="1h"),
        ):
            for name in devices:
                await listener.until(lambda name=name: told(listener, name, "circuit") == "open")
            before = {name: len(listener.heard[f"device/{name}/state"]) for name in devices}
            host.end()
            await refused.start()
            await dark.start()
            unit.silent = False
            await listener.until(lambda: all(told(listener, name, "state") == "online" for name in devices))
        await refused.stop()
        await dark.stop()

    for name, count in before.items():
        states = listener.heard[f"device/{name}/state"]
        assert states[count]["state"] == "online", "no probe was told"
        assert ["offline", "open"] in [[one["state"], one["circuit"]] for one in states[:count]]


async def test_a_login_that_is_refused_is_tried_ever_more_rarely_while_a_device_that_is_away_is_sought(
    broker, tmp_path, eventually
):
    protection = Protection(*made().write(tmp_path, "server"), users={"anna": "geheim"}, clear=True)
    (tmp_path / "password").write_text("falsch")
    level = {"node": f"nsu={NAMESPACE};s=Level", "type": "float64"}
    with serving(OpcUaSimulator(nodes={"Level": 1.5}, protection=protection)) as server:
        login = {"user": "anna", "password_file": str(tmp_path / "password"), "clear_password": True}
        locked = {
            "driver": "opcua",
            "connection": {"url": server.simulator.url, **login},
            "groups": {"live": {"interval": "50ms", "tags": {"level": level}}},
        }
        devices = {"locked": locked, "away": modbus_device(free_port(), TAGS)}
        waits = {"retry_first": f"{FIRST_S * 1000:g}ms", "retry_silent": "20ms"}
        begun = time.monotonic()
        async with running_gateway(broker, tmp_path, devices, **waits) as gateway:

            def attempts(device, cause):
                return gateway.metric("actor_errors_total", actor_id=device, error_type=cause)

            await eventually(lambda: attempts("away", "comm") >= 100)
            await eventually(lambda: attempts("locked", "config") >= 3)
            took_s, refusals = time.monotonic() - begun, int(attempts("locked", "config"))
        lines = [line for line in gateway.log.lines if line["event"] == "device_not_reached"]

    assert 0.8 * FIRST_S * (2 ** (refusals - 1) - 1) <= took_s
    assert sorted(line["device"] for line in lines) == ["away", "locked"], "each once"
