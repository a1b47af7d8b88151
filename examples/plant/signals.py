"""Where each of the plant's values stands in its controllers: registers of two Modbus units, nodes of an OPC UA server.

This is the one table. The simulators serve from it, and a test holds the device files to it.

Unit 1 is the line's PLC (registers in the order ABCD), unit 2 the supply's meter, whose maker counts words from the
low end (CDAB) and who bought in two sub-assemblies with orders of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from contracts.v1.device import ValueType as T
from examples.plant.model import Alarms

Table: TypeAlias = Literal["coil", "discrete", "input", "holding"]

NAMESPACE = "urn:dinrail:plant"
FILLER_PLC = "filler-plc"
ENERGY_METER = "energy-meter"
PASTEURISER = "pasteuriser"
UNITS: Mapping[str, int] = {FILLER_PLC: 1, ENERGY_METER: 2}


@dataclass(frozen=True, slots=True)
class Register:
    """One value in a Modbus unit.

    tag: its name in the device file. path: the attribute of the model. table, address: where it begins (from 0).
    type: what the registers hold (bool for coils and discrete inputs). scale: value = registers' content * scale.
    length: registers of a string. writable: clients may write it, and the model is told.
    """

    device: str
    tag: str
    path: str
    table: Table
    address: int
    type: T
    order: str = "ABCD"
    scale: float = 1.0
    length: int = 0
    writable: bool = False

    @property
    def unit(self) -> int:
        """The Modbus unit id."""
        return UNITS[self.device]


@dataclass(frozen=True, slots=True)
class Bit:
    """One bit of a register that the table above holds as a word."""

    device: str
    tag: str
    word: str
    bit: int


@dataclass(frozen=True, slots=True)
class Node:
    """One variable of the OPC UA server. name: its string identifier, and its browse path under Objects."""

    tag: str
    path: str
    name: str
    type: T
    writable: bool = False


_filler = partial(Register, FILLER_PLC)
_meter = partial(Register, ENERGY_METER, order="CDAB")

REGISTERS: tuple[Register, ...] = (
    # tag, attribute of the model, table, address, type
    _filler("tank-level", "tank.sensor.value", "input", 0, T.FLOAT32),
    _filler("syrup-flow", "pump.flow_l_min", "input", 2, T.FLOAT32),
    _filler("pump-pressure", "pump.pressure.value", "input", 4, T.FLOAT32),
    _filler("pump-vibration", "pump.vibration.value", "input", 6, T.FLOAT32),
    _filler("conveyor-speed", "conveyor.speed_m_s", "input", 8, T.FLOAT32),
    _filler("star-wheel-angle", "conveyor.star_wheel_deg", "input", 10, T.INT32, scale=0.001),
    _filler("following-error", "conveyor.following_error", "input", 12, T.INT16),
    _filler("bottles-per-minute", "bottles_min", "input", 13, T.UINT16),
    _filler("cap-torque", "filler.torque_nm", "input", 14, T.INT16, scale=0.001),
    _filler("fill-volume", "filler.volume_ml", "input", 15, T.UINT16, scale=0.1),
    _filler("line-state", "filler.state", "input", 20, T.UINT16),
    _filler("alarm-word", "alarms", "input", 21, T.UINT16),
    _filler("bottles-total", "filler.bottles", "input", 22, T.UINT32),
    _filler("bottles-rejected", "filler.rejected", "input", 24, T.UINT32),
    _filler("pump-current", "pump.current.value", "input", 26, T.INT16, scale=0.01),
    _filler("pump-motor-temperature", "pump.motor_c", "input", 27, T.INT16, scale=0.1),
    _filler("pump-speed", "pump.speed_pct", "input", 28, T.UINT16, scale=0.01),
    _filler("inflow-valve", "tank.valve_pct", "input", 29, T.UINT16, scale=0.1),
    _filler("bowl-volume", "mixer.bowl_sensor.value", "input", 30, T.FLOAT32),
    _filler("mixer-speed", "mixer.speed_rpm", "input", 32, T.UINT16),
    _filler("mixer-torque", "mixer.torque_nm", "input", 33, T.INT16, scale=0.01),
    _filler("sugar-content", "mixer.brix", "input", 34, T.FLOAT32),
    _filler("pump-hours", "pump.running_h", "input", 40, T.FLOAT64),
    _filler("water-total", "mixer.water_l", "input", 44, T.FLOAT64),
    _filler("batch-id", "batch_id", "input", 48, T.STRING, length=8),
    _filler("level-set-point", "tank.set_point_pct", "holding", 0, T.FLOAT32, writable=True),
    _filler("pump-speed-set-point", "pump.set_point_pct", "holding", 2, T.FLOAT32, writable=True),
    _filler("conveyor-set-point", "conveyor.set_point_m_s", "holding", 4, T.FLOAT32, writable=True),
    _filler("mixer-set-point", "mixer.speed_set_point_rpm", "holding", 6, T.UINT16, writable=True),
    _filler("recipe", "recipe", "holding", 10, T.STRING, length=16, writable=True),
    _filler("fault-silent-seconds", "faults.silent_s", "holding", 100, T.UINT16, writable=True),
    _filler("run", "run", "coil", 0, T.BOOL, writable=True),
    _filler("fault-level-stuck", "faults.level_stuck", "coil", 100, T.BOOL, writable=True),
    _filler("fault-level-broken", "faults.level_broken", "coil", 101, T.BOOL, writable=True),
    _filler("fault-pump-wear", "faults.pump_wear", "coil", 102, T.BOOL, writable=True),
    _filler("fault-tank-leak", "faults.tank_leak", "coil", 103, T.BOOL, writable=True),
    _filler("fault-capper-slip", "faults.capper_slip", "coil", 104, T.BOOL, writable=True),
    _filler("fault-pump-clogged", "faults.pump_clogged", "coil", 106, T.BOOL, writable=True),
    _filler("fault-drop", "faults.drop", "coil", 105, T.BOOL, writable=True),
    _filler("bottle-present", "conveyor.bottle_present", "discrete", 0, T.BOOL),
    _filler("pump-running", "pump.running", "discrete", 1, T.BOOL),
    _filler("tank-low", "tank.low", "discrete", 2, T.BOOL),
    _filler("tank-high", "tank.high", "discrete", 3, T.BOOL),
    _meter("voltage-l1", "meter.l1.voltage_v", "input", 0, T.FLOAT32),
    _meter("voltage-l2", "meter.l2.voltage_v", "input", 2, T.FLOAT32),
    _meter("voltage-l3", "meter.l3.voltage_v", "input", 4, T.FLOAT32),
    _meter("current-l1", "meter.l1.current_a", "input", 6, T.FLOAT32),
    _meter("current-l2", "meter.l2.current_a", "input", 8, T.FLOAT32),
    _meter("current-l3", "meter.l3.current_a", "input", 10, T.FLOAT32),
    _meter("active-power", "meter.power_kw", "input", 12, T.FLOAT32),
    _meter("reactive-power", "meter.reactive_var", "input", 14, T.INT32),
    _meter("power-factor", "meter.power_factor", "input", 16, T.INT16, scale=0.001),
    _meter("frequency", "meter.frequency_hz", "input", 17, T.UINT16, scale=0.01),
    _meter("energy-impulses", "meter.impulses", "input", 20, T.UINT32),
    _meter("energy-wh", "meter.energy_wh", "input", 24, T.UINT64),
    _meter("energy-kwh", "meter.energy_kwh", "input", 28, T.FLOAT64),
    _meter("reactive-energy", "meter.reactive_varh", "input", 32, T.INT64),
    _meter("hall-temperature", "climate.temperature_c", "input", 40, T.FLOAT32, order="DCBA"),
    _meter("hall-humidity", "climate.humidity_pct", "input", 42, T.FLOAT32, order="DCBA"),
    _meter("air-pressure", "compressor.pressure_bar", "input", 50, T.FLOAT32, order="BADC"),
    _meter("air-set-point", "compressor.set_point_bar", "holding", 0, T.UINT16, scale=0.01, writable=True),
    _meter("compressor-enabled", "compressor.enabled", "coil", 0, T.BOOL, writable=True),
    _meter("compressor-on", "compressor.on", "discrete", 0, T.BOOL),
    _meter("air-low", "compressor.low", "discrete", 1, T.BOOL),
)

BITS: tuple[Bit, ...] = tuple(
    Bit(FILLER_PLC, f"alarm-{alarm.name.lower().replace('_', '-')}", "alarm-word", alarm.value.bit_length() - 1)
    for alarm in Alarms
    if alarm.name
)

NODES: tuple[Node, ...] = (
    # tag, attribute of the model, name, type
    Node("temperature", "pasteuriser.sensor.value", "Pasteuriser.Temperature", T.FLOAT64),
    Node("set-point", "pasteuriser.set_point_c", "Pasteuriser.SetPoint", T.FLOAT64, writable=True),
    Node("heater-output", "pasteuriser.pid.output", "Pasteuriser.HeaterOutput", T.FLOAT64),
    Node("heater-power", "pasteuriser.element_kw", "Pasteuriser.HeaterPower", T.FLOAT32),
    Node("flow", "pasteuriser.flow_l_s", "Pasteuriser.Flow", T.FLOAT64),
    Node("pasteurisation-units", "pasteuriser.units", "Pasteuriser.Units", T.FLOAT64),
    Node("diverting", "pasteuriser.diverting", "Pasteuriser.Diverting", T.BOOL),
    Node("pump-acceleration", "pump.accelerometer.samples", "Pump.Acceleration", T.ARRAY),
    Node("held-seconds", "pasteuriser.hold_s", "Pasteuriser.HeldSeconds", T.INT64),
    Node("treated-litres", "pasteuriser.treated_l", "Pasteuriser.TreatedLitres", T.UINT64),
    Node("lethality", "pasteuriser.lethality", "Pasteuriser.Lethality", T.FLOAT64),
    Node("zone-temperatures", "pasteuriser.zones_c", "Pasteuriser.ZoneTemperatures", T.ARRAY),
    Node("last-fill-volumes", "filler.last_volumes_ml", "Pasteuriser.LastFillVolumes", T.ARRAY),
    Node("bottles", "filler.bottles", "Pasteuriser.Bottles", T.UINT32),
    Node("line-state", "filler.state", "Pasteuriser.LineState", T.INT32),
    Node("alarm-word", "alarms", "Pasteuriser.AlarmWord", T.UINT16),
    Node("batch-id", "batch_id", "Pasteuriser.BatchId", T.STRING),
    Node("enabled", "pasteuriser.enabled", "Pasteuriser.Enabled", T.BOOL, writable=True),
    Node("trim", "pasteuriser.trim", "Pasteuriser.Trim", T.INT16, writable=True),
    Node("gain", "pasteuriser.pid.gain", "Pasteuriser.Gain", T.FLOAT64, writable=True),
    Node("recipe", "recipe", "Pasteuriser.Recipe", T.STRING, writable=True),
    Node(
        "fault-temperature-broken", "faults.temperature_broken", "Plant.Faults.TemperatureBroken", T.BOOL, writable=True
    ),
    Node("fault-bad-status", "faults.bad_status", "Plant.Faults.BadStatus", T.BOOL, writable=True),
)
