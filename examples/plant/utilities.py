"""What the line needs around it: pasteuriser, compressed air, the hall's climate and the energy meter."""

import math
from dataclasses import dataclass, field
from random import Random

from examples.plant.instruments import Pid, Sensor, lagged

DAY_S = 86_400.0
HEAT_KJ_L_K = 4.19  # of a litre of the product, nearly water


@dataclass(slots=True)
class Climate:
    """The hall: 21 °C and 45 % on average, warmest in the middle of each simulated day."""

    temperature_c: float = 21.0
    humidity_pct: float = 45.0

    def step(self, *, elapsed_s: float, random: Random) -> None:
        """The climate at this time since the start."""
        warmth = math.sin(2.0 * math.pi * elapsed_s / DAY_S)
        self.temperature_c = 21.0 + 3.0 * warmth + random.gauss(0.0, 0.01)
        self.humidity_pct = 45.0 - 8.0 * warmth + random.gauss(0.0, 0.05)


@dataclass(slots=True)
class Pasteuriser:
    """A flash pasteuriser: an electric heater behind a first-order element heats the product against heat recovery.

    Pasteurisation units: one is a minute at 60 °C, a minute at T counts 1.393^(T - 60) (Del Vecchio et al., 1951).
    """

    set_point_c: float = 72.0
    enabled: bool = True
    trim: int = 0
    temperature_c: float = 62.0
    element_kw: float = 0.0
    flow_l_s: float = 0.0
    hold_s: float = 0.0
    lethality: float = 0.0
    treated_l: float = 0.0
    pid: Pid = field(default_factory=lambda: Pid(gain=12.0, integral_s=40.0, derivative_s=0.5))
    sensor: Sensor = field(default_factory=lambda: Sensor(value=62.0, noise=0.01))
    _probe_c: float = 62.0
    _zones: list[float] = field(default_factory=lambda: [20.0] * 8)

    HEATER_KW = 90.0
    CAPACITY_KJ_K = 250.0
    LOSS_KW_K = 0.15
    RECOVERY = 0.92
    COLD_C = 12.0
    HOLD_S = 15.0
    PROFILE = (0.1, 0.5, 0.92, 1.0, 0.99, 0.98, 0.5, 0.08)

    @property
    def target_c(self) -> float:
        """The set-point with its trim, which is given in tenths of a kelvin."""
        return self.set_point_c + self.trim / 10.0

    @property
    def diverting(self) -> bool:
        """Product more than 3 K too cold goes back instead of on; so does all product while the sensor is broken."""
        return not self.sensor.value > self.target_c - 3.0

    @property
    def units(self) -> float:
        """Pasteurisation units that a drop gets now in its 15 s of holding."""
        return float(self.HOLD_S / 60.0 * 1.393 ** (self.temperature_c - 60.0))

    @property
    def zones_c(self) -> tuple[float, ...]:
        """Temperatures along the product's way: heating, holding, cooling."""
        return tuple(self._zones)

    def step(self, dt: float, *, flow_l_s: float, ambient_c: float, random: Random) -> None:
        """Moves dt seconds on with this flow of product."""
        self.flow_l_s = flow_l_s
        output = self.pid.step(dt, set_point=self.target_c, measured=self.sensor.value if self.enabled else math.nan)
        self.element_kw = lagged(self.element_kw, self.HEATER_KW * output / 100.0, dt, 4.0)
        carried_kw_k = (1.0 - self.RECOVERY) * flow_l_s * HEAT_KJ_L_K
        losses_kw_k = self.LOSS_KW_K + carried_kw_k
        sink_c = (self.LOSS_KW_K * ambient_c + carried_kw_k * self.COLD_C) / losses_kw_k
        rest_c = sink_c + self.element_kw / losses_kw_k
        self.temperature_c = lagged(self.temperature_c, rest_c, dt, self.CAPACITY_KJ_K / losses_kw_k)
        self._probe_c = lagged(self._probe_c, self.temperature_c, dt, 2.0)
        self.sensor.measure(self._probe_c, random)
        self._zones = [
            lagged(zone, self.COLD_C + part * (self.temperature_c - self.COLD_C), dt, 3.0)
            for zone, part in zip(self._zones, self.PROFILE, strict=True)
        ]
        if self.diverting:
            self.hold_s = 0.0
        else:
            self.hold_s += dt
            self.lethality += self.units * dt / self.HOLD_S
            self.treated_l += flow_l_s * dt


@dataclass(slots=True)
class Compressor:
    """Compressed air: on 0.4 bar below the set-point, off 0.4 bar above it."""

    set_point_bar: float = 6.5
    enabled: bool = True
    pressure_bar: float = 6.4
    on: bool = False

    POWER_KW = 7.5
    LOW_BAR = 5.0

    @property
    def low(self) -> bool:
        """Too little pressure for the capper's chucks."""
        return self.pressure_bar < self.LOW_BAR

    def step(self, dt: float, *, bottles_min: float) -> None:
        """Moves dt seconds on; each bottle takes a puff of air, and every net leaks."""
        if not self.enabled or self.pressure_bar > self.set_point_bar + 0.4:
            self.on = False
        elif self.pressure_bar < self.set_point_bar - 0.4:
            self.on = True
        change = (0.06 if self.on else 0.0) - 0.0001 * bottles_min - 0.0008 * self.pressure_bar
        self.pressure_bar = max(self.pressure_bar + change * dt, 0.0)


@dataclass(slots=True)
class Phase:
    """One phase of the supply."""

    voltage_v: float = 230.0
    current_a: float = 0.0


@dataclass(slots=True)
class EnergyMeter:
    """The meter of the main supply: three phases of 230 V, motors, and a capacitor bank of 5 kvar against them."""

    power_kw: float = 0.0
    reactive_var: float = 0.0
    frequency_hz: float = 50.0
    l1: Phase = field(default_factory=Phase)
    l2: Phase = field(default_factory=Phase)
    l3: Phase = field(default_factory=Phase)
    energy_wh: float = 184_273_911.0  # nobody meets a meter at zero
    reactive_varh: float = -1_202_340.0

    BANK_VAR = 5000.0
    IMPULSES_KWH = 1000

    @property
    def energy_kwh(self) -> float:
        """The same energy in the unit of the bill."""
        return self.energy_wh / 1000.0

    @property
    def impulses(self) -> int:
        """What the meter's impulse output has counted: 1000 per kWh."""
        return int(self.energy_kwh * self.IMPULSES_KWH)

    @property
    def power_factor(self) -> float:
        """Active by apparent power, negative where the bank overcompensates."""
        apparent = math.hypot(1000.0 * self.power_kw, self.reactive_var)
        factor = 1000.0 * self.power_kw / apparent if apparent else 1.0
        return math.copysign(factor, self.reactive_var)

    def step(self, dt: float, *, motors_kw: float, heat_kw: float, random: Random) -> None:
        """Counts dt seconds of this power."""
        self.power_kw = motors_kw + heat_kw
        self.reactive_var = 600.0 * motors_kw - self.BANK_VAR
        self.frequency_hz = 50.0 + random.gauss(0.0, 0.01)
        apparent_va = math.hypot(1000.0 * self.power_kw, self.reactive_var)
        for phase, idle_v in ((self.l1, 231.0), (self.l2, 231.4), (self.l3, 231.8)):
            phase.voltage_v = idle_v - 0.03 * self.power_kw + random.gauss(0.0, 0.15)
            phase.current_a = apparent_va / 3.0 / phase.voltage_v
        self.energy_wh += 1000.0 * self.power_kw * dt / 3600.0
        self.reactive_varh += self.reactive_var * dt / 3600.0
