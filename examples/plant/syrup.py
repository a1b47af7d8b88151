"""The wet end of the line: syrup tank, dosing pump, and mixer with the filler's bowl. Litres, seconds, bar, amperes."""

import math
from dataclasses import dataclass, field
from random import Random

from examples.plant.accelerometer import Accelerometer
from examples.plant.instruments import Sensor, lagged, limited, ramped

WATER_PER_SYRUP = 4.0


@dataclass(slots=True)
class Tank:
    """The syrup tank. An on-off controller opens the inflow valve below set-point - 3 % and shuts it above + 3 %.

    The controller sees the level only through its sensor: a stuck one lets the tank run over or empty, a broken one
    shuts the valve. The totals (litres) close the balance:
    volume = volume at first + filled - drawn - leaked - overflowed.
    """

    volume_l: float = 240.0
    set_point_pct: float = 60.0
    valve_pct: float = 0.0
    leaking: bool = False
    sensor: Sensor = field(default_factory=lambda: Sensor(value=60.0, noise=0.03))
    filled_l: float = 0.0
    drawn_l: float = 0.0
    leaked_l: float = 0.0
    overflowed_l: float = 0.0
    _filling: bool = False

    CAPACITY_L = 400.0
    INFLOW_L_S = 1.5
    BAND_PCT = 3.0
    LEAK_L_S = 0.9  # from a full tank; less with the root of the level (Torricelli)

    @property
    def level_pct(self) -> float:
        """The true level."""
        return 100.0 * self.volume_l / self.CAPACITY_L

    @property
    def low(self) -> bool:
        """The float switch near the bottom; it is no part of the level sensor."""
        return self.level_pct < 15.0

    @property
    def high(self) -> bool:
        """The float switch near the rim."""
        return self.level_pct > 90.0

    def step(self, dt: float, *, wanted_l: float, random: Random) -> float:
        """Moves dt seconds on and returns the litres drawn: those wanted, or what there is."""
        self._control(dt)
        filled = self.valve_pct / 100.0 * self.INFLOW_L_S * dt
        available = self.volume_l + filled
        leak_l_s = self.LEAK_L_S * math.sqrt(self.volume_l / self.CAPACITY_L) if self.leaking else 0.0
        leaked = min(leak_l_s * dt, available)
        drawn = min(wanted_l, available - leaked)
        volume = available - leaked - drawn
        overflowed = max(volume - self.CAPACITY_L, 0.0)
        self.volume_l = max(volume - overflowed, 0.0)
        self.filled_l += filled
        self.leaked_l += leaked
        self.drawn_l += drawn
        self.overflowed_l += overflowed
        self.sensor.measure(self.level_pct, random)
        return drawn

    def _control(self, dt: float) -> None:
        measured = self.sensor.value
        if math.isnan(measured) or measured > self.set_point_pct + self.BAND_PCT:
            self._filling = False
        elif measured < self.set_point_pct - self.BAND_PCT:
            self._filling = True
        self.valve_pct = ramped(self.valve_pct, 100.0 if self._filling else 0.0, dt, 50.0)


@dataclass(slots=True)
class Pump:
    """The dosing pump. wear: 0 (new) to 1; it takes flow and pressure away and adds vibration, current and heat.

    clogged: something hangs in the impeller; it takes flow away and adds vibration of another kind.
    """

    set_point_pct: float = 70.0
    speed_pct: float = 0.0
    flow_l_s: float = 0.0
    wear: float = 0.02
    wearing_fast: bool = False
    clogged: bool = False
    motor_c: float = 24.0
    running_s: float = 0.0
    vibration: Sensor = field(default_factory=lambda: Sensor(value=0.0, noise=0.05))
    pressure: Sensor = field(default_factory=lambda: Sensor(value=0.0, noise=0.01))
    current: Sensor = field(default_factory=lambda: Sensor(value=0.0, noise=0.02))
    accelerometer: Accelerometer = field(default_factory=Accelerometer)

    FLOW_L_S = 0.8  # new, at full speed
    LIFE_S = 8_000 * 3600.0
    FAST_LIFE_S = 120.0

    @property
    def flow_l_min(self) -> float:
        """Syrup flow as the plant's people read it."""
        return 60.0 * self.flow_l_s

    @property
    def running(self) -> bool:
        """Whether it turns."""
        return self.speed_pct > 1.0

    @property
    def running_h(self) -> float:
        """Hours run."""
        return self.running_s / 3600.0

    @property
    def able_l_s(self) -> float:
        """The flow that it can give at its present speed and wear."""
        return self.FLOW_L_S * self.speed_pct / 100.0 * (1.0 - 0.35 * self.wear) * (0.85 if self.clogged else 1.0)

    def turn(self, dt: float, *, on: bool) -> None:
        """Moves speed and wear dt seconds on."""
        self.speed_pct = ramped(self.speed_pct, self.set_point_pct if on else 0.0, dt, 25.0)
        if self.running:
            self.running_s += dt
            self.wear = limited(self.wear + dt / (self.FAST_LIFE_S if self.wearing_fast else self.LIFE_S), 0.0, 1.0)

    def overhaul(self) -> None:
        """New bearings and a new impeller."""
        self.wear = 0.0

    def load(self, dt: float, *, flow_l_s: float, ambient_c: float, random: Random) -> None:
        """What the flow that was really taken does to pressure, vibration, current and heat."""
        self.flow_l_s = flow_l_s
        speed, flow = self.speed_pct / 100.0, flow_l_s / self.FLOW_L_S
        amperes = 1.2 + 6.5 * speed * (0.4 + 0.6 * flow) * (1.0 + 0.3 * self.wear) if self.running else 0.0
        self.motor_c = lagged(self.motor_c, ambient_c + 0.9 * amperes**2, dt, 180.0)
        self.pressure.measure(max((6.0 * speed**2 - 3.0 * flow**2) * (1.0 - 0.2 * self.wear), 0.0), random)
        clogged = 1.8 * speed**2 if self.clogged else 0.0
        self.vibration.measure(0.3 + 1.6 * speed**2 + 7.5 * self.wear * speed + clogged, random)
        self.accelerometer.step(dt, speed=speed, wear=self.wear, clogged=self.clogged)
        self.current.measure(amperes, random)


@dataclass(slots=True)
class Mixer:
    """Blends one litre of syrup with four of water into the filler's bowl, whose float throttles the intake."""

    speed_set_point_rpm: int = 180
    speed_rpm: float = 0.0
    torque_nm: float = 0.0
    brix: float = 10.4
    bowl_l: float = 40.0
    water_l: float = 0.0
    bowl_sensor: Sensor = field(default_factory=lambda: Sensor(value=40.0, noise=0.05))

    BOWL_L = 60.0

    @property
    def appetite(self) -> float:
        """How far the float leaves the intake open: 1 up to 40 l in the bowl, 0 at 60 l."""
        return limited((self.BOWL_L - self.bowl_l) / 20.0, 0.0, 1.0)

    def step(self, dt: float, *, syrup_l: float, target_brix: float, on: bool, random: Random) -> None:
        """Takes the syrup in and stirs for dt seconds."""
        self.speed_rpm = ramped(self.speed_rpm, self.speed_set_point_rpm if on else 0.0, dt, 60.0)
        self.brix = lagged(self.brix, target_brix, dt, 25.0) if syrup_l > 0.0 else self.brix
        self.torque_nm = 0.6 * (self.speed_rpm / 100.0) ** 2 * (1.0 + self.brix / 20.0)
        self.water_l += WATER_PER_SYRUP * syrup_l
        self.bowl_l += (1.0 + WATER_PER_SYRUP) * syrup_l
        self.bowl_sensor.measure(self.bowl_l, random)
