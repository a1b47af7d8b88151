"""What befalls a device stands in the ledger: each change of its state once, and the circuit that opens."""

from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.gateway_site import listening, running_gateway


def heard(listener):
    return [event for message in listener.heard["event/plant/device/pump"] for event in message["events"]]


def types(listener):
    return [event["type"] for event in heard(listener) if not event["type"].startswith("config.")]


async def test_an_outage_is_told_by_its_beginning_its_opened_circuit_and_its_end(broker, tmp_path):
    unit = Unit()
    unit.set_value("holding:10", ValueType.FLOAT32, 50.0)
    async with ModbusSimulator(units={1: unit}) as plc:
        pump = {
            "driver": "modbus",
            "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1, "timeout": "300ms", "retries": 0},
            "groups": {"fast": {"interval": "20ms", "tags": {"level": {"address": "holding:10", "type": "float32"}}}},
        }
        async with (
            listening(broker) as listener,
            running_gateway(broker, tmp_path, {"pump": pump}, retry_first="10ms", retry_longest="40ms"),
        ):
            await listener.until(lambda: "online" in types(listener))
            unit.silent = True
            await listener.until(lambda: "health_check_failed" in types(listener))
            probes = unit.reads
            await listener.until(lambda: unit.reads > probes + 3)
            unit.silent = False
            await listener.until(lambda: types(listener).count("online") == 2)

    assert types(listener)[:5] == ["starting", "online", "offline", "health_check_failed", "online"]
    outage = next(event for event in heard(listener) if event["type"] == "offline")
    assert outage["data"]["cause"] == "comm"
    assert "does not answer" in outage["data"]["error"]
    versions = [event["version"] for event in heard(listener)]
    assert versions == list(range(1, len(versions) + 1))


async def test_a_unit_whose_circuit_opens_is_told_while_the_device_goes_on(broker, tmp_path):
    units = {1: Unit(), 2: Unit()}
    async with ModbusSimulator(units=units) as gateway:
        tag = {"address": "holding:0", "type": "uint16"}
        pump = {
            "driver": "modbus",
            "connection": {"host": "127.0.0.1", "port": gateway.port, "timeout": "300ms", "retries": 0},
            "groups": {
                f"unit-{unit}": {"interval": "20ms", "unit_id": unit, "tags": {f"tag-{unit}": tag}} for unit in units
            },
        }
        async with (
            listening(broker) as listener,
            running_gateway(broker, tmp_path, {"pump": pump}, retry_first="10ms", retry_longest="40ms"),
        ):
            await listener.until(lambda: "online" in types(listener))
            units[2].silent = True
            await listener.until(lambda: "health_check_failed" in types(listener))
            await listener.until(lambda: listener.last("device/pump/state")["circuit"] == "open")
            state = listener.last("device/pump/state")
            units[2].silent = False
            await listener.until(lambda: listener.last("device/pump/state")["state"] == "online")
            await listener.until(lambda: types(listener)[-1] == "online")
            told, after = types(listener), listener.last("device/pump/state")

    assert state["state"] == "degraded"
    failed = next(event for event in heard(listener) if event["type"] == "health_check_failed")
    assert "unit 2" in failed["data"]["error"]
    assert "offline" not in told
    assert after["circuit"] == "closed"
