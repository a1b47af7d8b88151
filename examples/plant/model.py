"""The demo plant: a bottling line as a pure model. No I/O, no clock: `step(dt)` moves it on, a seed fixes its noise.

    water main ──valve──> [syrup tank] ──pump──> [mixer + bowl] ──pasteuriser──> filler + capper ──conveyor──> bottles
                                                                 compressed air, hall climate, energy meter

What hangs on what, so that a trend looks like a plant's: bottles take product from the bowl, the bowl's float lets the
pump draw syrup, the tank's controller refills it every minute or so; a worn pump shakes, warms up and in the end
starves the filler; more bottles take more heat, air and power.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from random import Random
from typing import ClassVar, TypeAlias

from examples.plant.filling import Conveyor, Filler
from examples.plant.instruments import limited
from examples.plant.syrup import Mixer, Pump, Tank
from examples.plant.utilities import Climate, Compressor, EnergyMeter, Pasteuriser

Setting: TypeAlias = bool | int | float | str

LONGEST_STEP_S = 0.1  # longer ones are taken in parts: the controllers were tuned for short ones
BATCH_BOTTLES = 1000
LONGEST_SILENCE_S = 3600


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is bottled: sugar content (degrees Brix) and the size of the bottle."""

    brix: float
    bottle_ml: float


RECIPES: Mapping[str, Recipe] = {
    "Lemonade": Recipe(brix=10.4, bottle_ml=500.0),
    "Cola": Recipe(brix=11.2, bottle_ml=500.0),
    "Zürich Spritz": Recipe(brix=6.8, bottle_ml=330.0),
    "Water": Recipe(brix=0.0, bottle_ml=750.0),
}


class Alarms(IntFlag):
    """Bits of the line's alarm word."""

    TANK_LOW = 1 << 0
    TANK_HIGH = 1 << 1
    LEVEL_SENSOR = 1 << 2
    PUMP_VIBRATION = 1 << 3
    MOTOR_HOT = 1 << 4
    FILLER_STARVED = 1 << 5
    CAP_TORQUE = 1 << 6
    PRODUCT_COLD = 1 << 7
    TEMPERATURE_SENSOR = 1 << 8
    AIR_LOW = 1 << 9


@dataclass(slots=True)
class Faults:
    """What can be broken on purpose. The last three are no matter of the model: who serves it acts on them.

    silent_s: the line's PLC answers nothing for so many seconds. drop: it breaks off every connection once.
    bad_status: the OPC UA server gives the pasteuriser's temperature with the status BadSensorFailure.
    """

    level_stuck: bool = False
    level_broken: bool = False
    temperature_broken: bool = False
    pump_wear: bool = False
    pump_clogged: bool = False
    tank_leak: bool = False
    capper_slip: bool = False
    silent_s: int = 0
    drop: bool = False
    bad_status: bool = False


@dataclass(slots=True, kw_only=True)
class Plant:
    """The whole line. The machines' attributes are its signals; command() is how a set-point is changed."""

    random: Random
    tank: Tank = field(default_factory=Tank)
    pump: Pump = field(default_factory=Pump)
    mixer: Mixer = field(default_factory=Mixer)
    conveyor: Conveyor = field(default_factory=Conveyor)
    filler: Filler = field(default_factory=Filler)
    pasteuriser: Pasteuriser = field(default_factory=Pasteuriser)
    compressor: Compressor = field(default_factory=Compressor)
    climate: Climate = field(default_factory=Climate)
    meter: EnergyMeter = field(default_factory=EnergyMeter)
    faults: Faults = field(default_factory=Faults)
    run: bool = True
    recipe: str = "Lemonade"
    elapsed_s: float = 0.0

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "tank.set_point_pct": (20.0, 85.0),
        "pump.set_point_pct": (0.0, 100.0),
        "mixer.speed_set_point_rpm": (0, 300),
        "conveyor.set_point_m_s": (0.0, 0.8),
        "pasteuriser.set_point_c": (60.0, 85.0),
        "pasteuriser.trim": (-50, 50),
        "pasteuriser.pid.gain": (0.5, 40.0),
        "compressor.set_point_bar": (5.0, 8.0),
        "faults.silent_s": (0, LONGEST_SILENCE_S),
    }

    @classmethod
    def from_seed(cls, seed: int) -> "Plant":
        """A plant whose noise is the same for the same seed."""
        return cls(random=Random(seed))

    @property
    def batch_id(self) -> str:
        """The batch that is being bottled; a new one begins every 1000 bottles."""
        return f"B{self.filler.bottles // BATCH_BOTTLES + 1:06d}"

    @property
    def bottles_min(self) -> float:
        """Bottles per minute at the present speed."""
        return 60.0 * self.conveyor.speed_m_s / self.conveyor.PITCH_M

    @property
    def alarms(self) -> Alarms:
        """The alarm word."""
        low, high = self.filler.TORQUE_NM
        active = {
            Alarms.TANK_LOW: self.tank.low,
            Alarms.TANK_HIGH: self.tank.high,
            Alarms.LEVEL_SENSOR: math.isnan(self.tank.sensor.value),
            Alarms.PUMP_VIBRATION: self.pump.vibration.value > 4.5,
            Alarms.MOTOR_HOT: self.pump.motor_c > 60.0,
            Alarms.FILLER_STARVED: self.run and self.mixer.bowl_l < self.filler.EMPTY_L,
            Alarms.CAP_TORQUE: not low <= self.filler.torque_nm <= high,
            Alarms.PRODUCT_COLD: self.pasteuriser.diverting,
            Alarms.TEMPERATURE_SENSOR: math.isnan(self.pasteuriser.sensor.value),
            Alarms.AIR_LOW: self.compressor.low,
        }
        word = Alarms(0)
        for alarm, on in active.items():
            if on:
                word |= alarm
        return word

    def command(self, path: str, value: Setting) -> None:
        """Sets the attribute at this path as a PLC does: held to its limits; an unknown recipe or a NaN is ignored."""
        if path == "recipe" and value not in RECIPES:
            return
        if isinstance(value, float) and math.isnan(value):
            return
        if path in self.LIMITS and not isinstance(value, str):
            low, high = self.LIMITS[path]
            value = type(value)(limited(value, low, high))
        *owners, name = path.split(".")
        owner: object = self
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, name, value)

    def step(self, dt: float) -> None:
        """Moves the plant dt seconds on."""
        parts = max(math.ceil(dt / LONGEST_STEP_S), 1)
        for _ in range(parts):
            self._step(dt / parts)

    def _step(self, dt: float) -> None:
        self.elapsed_s += dt
        self._break()
        random, recipe = self.random, RECIPES[self.recipe]
        self.climate.step(elapsed_s=self.elapsed_s, random=random)
        ambient_c = self.climate.temperature_c

        self.pump.turn(dt, on=self.run)
        wanted_l = self.pump.able_l_s * self.mixer.appetite * dt
        syrup_l = self.tank.step(dt, wanted_l=wanted_l, random=random)
        self.pump.load(dt, flow_l_s=syrup_l / dt, ambient_c=ambient_c, random=random)
        self.mixer.step(dt, syrup_l=syrup_l, target_brix=recipe.brix, on=self.run, random=random)

        moving = self.filler.follow(on=self.run, bowl_l=self.mixer.bowl_l, conveyor=self.conveyor)
        bottles = self.conveyor.step(dt, on=moving, random=random)
        taken_l = self.filler.fill(
            bottles=bottles, nominal_ml=recipe.bottle_ml, bowl_l=self.mixer.bowl_l, random=random
        )
        self.mixer.bowl_l -= taken_l

        flow_l_s = self.bottles_min / 60.0 * recipe.bottle_ml / 1000.0
        self.pasteuriser.step(dt, flow_l_s=flow_l_s, ambient_c=ambient_c, random=random)
        self.compressor.step(dt, bottles_min=self.bottles_min)
        self._meter(dt)

    def _meter(self, dt: float) -> None:
        motors_kw = 0.6 * self.pump.current.value + 0.002 * self.mixer.speed_rpm + 3.0 * self.conveyor.speed_m_s
        motors_kw += self.compressor.POWER_KW if self.compressor.on else 0.0
        self.meter.step(
            dt, motors_kw=max(motors_kw, 0.0), heat_kw=2.5 + self.pasteuriser.element_kw, random=self.random
        )

    def _break(self) -> None:
        """Carries the faults to the machines. A fast wearing pump is overhauled when its fault goes."""
        faults = self.faults
        self.tank.sensor.stuck = faults.level_stuck
        self.tank.sensor.broken = faults.level_broken
        self.tank.leaking = faults.tank_leak
        self.pasteuriser.sensor.broken = faults.temperature_broken
        self.filler.slipping = faults.capper_slip
        if self.pump.wearing_fast and not faults.pump_wear:
            self.pump.overhaul()
        self.pump.wearing_fast = faults.pump_wear
        self.pump.clogged = faults.pump_clogged
