"""The gateway with several Modbus units and several devices on one line."""

import pytest

from plugins.drivers.modbus.rtu_simulator import RtuSimulator
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.gateway_site import listening, running_gateway

TAG = {"address": "holding:0", "type": "uint16"}
FRAMES = {1: "frame/line/unit-1", 3: "frame/meter/unit-3"}
"""Of the units that go on answering."""


def device(connection, *units):
    """A device file with a group per unit, named after it."""
    return {
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "timeout": "1s", "retries": 0, **connection},
        "groups": {
            f"unit-{unit}": {"interval": "50ms", "unit_id": unit, "tags": {f"tag-{unit}": TAG}} for unit in units
        },
    }


@pytest.mark.parametrize("transport", ["tcp", "rtu-tcp"])
async def test_a_silent_unit_makes_its_own_tags_bad_and_the_others_on_its_line_go_on(broker, transport, tmp_path):
    units = {number: Unit() for number in (1, 2, 3)}
    simulator = ModbusSimulator(units=units) if transport == "tcp" else RtuSimulator(units=units)
    async with simulator:
        connection = {"transport": transport, "port": simulator.port}
        devices = {"line": device(connection, 1, 2), "meter": device(connection, 3)}
        async with (
            listening(broker) as listener,
            running_gateway(broker, tmp_path, devices, retry_first="100ms", retry_longest="1s"),
        ):
            for name in devices:
                await listener.until(lambda name=name: listener.last(f"device/{name}/state").get("state") == "online")

            units[2].silent = True
            await listener.until(lambda: listener.last("tag/line/tag-2").get("q") == 0)
            await listener.until(lambda: listener.last("device/line/state").get("state") == "degraded")
            state = listener.last("device/line/state")
            counted = {unit: len(listener.heard[topic]) for unit, topic in FRAMES.items()}
            for unit, topic in FRAMES.items():
                await listener.until(lambda unit=unit, topic=topic: len(listener.heard[topic]) >= counted[unit] + 20)
            samples = [sample for topic in FRAMES.values() for sample in listener.samples(topic)]
            away = [state["state"] for state in listener.heard["device/meter/state"]]

            units[2].silent = False
            await listener.until(lambda: listener.last("device/line/state").get("state") == "online")
            await listener.until(lambda: listener.last("tag/line/tag-2").get("q") == 192)

    assert (state["state"], state["circuit"], state["cause"]) == ("degraded", "closed", "comm")
    assert "unit 2" in state["error"]
    assert [sample for sample in samples if None in sample["v"].values()] == []
    assert "offline" not in away
    assert simulator.accepted == 1, "both devices share the line, all the while"
