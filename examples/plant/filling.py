"""The dry end of the line: conveyor, star wheel, filler and capper. A bottle is one event, not a fraction."""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random

from examples.plant.instruments import limited, ramped


class LineState(IntEnum):
    """What the line does."""

    STOPPED = 0
    STARTING = 1
    RUNNING = 2
    STARVED = 3
    STOPPING = 4


@dataclass(slots=True)
class Conveyor:
    """Carries one bottle every 0.12 m; the star wheel of 12 pockets turns with it."""

    set_point_m_s: float = 0.5
    speed_m_s: float = 0.0
    travel_m: float = 0.0
    following_error: int = 0

    PITCH_M = 0.12
    POCKETS = 12

    @property
    def star_wheel_deg(self) -> float:
        """Angle of the star wheel, -180 up to 180 degrees."""
        return (self.travel_m / (self.PITCH_M * self.POCKETS) * 360.0 + 180.0) % 360.0 - 180.0

    @property
    def bottle_present(self) -> bool:
        """The light barrier at the filler: a bottle is 0.07 m of the 0.12 m."""
        return self.travel_m % self.PITCH_M < 0.07

    def step(self, dt: float, *, on: bool, random: Random) -> int:
        """Moves dt seconds on and returns how many bottles have passed the filler."""
        before = math.floor(self.travel_m / self.PITCH_M)
        speed = ramped(self.speed_m_s, self.set_point_m_s if on else 0.0, dt, 0.2)
        slip = 400.0 * (speed - self.speed_m_s) / dt + 30.0 * speed * random.gauss(0.0, 1.0)
        self.following_error = round(limited(slip, -32768.0, 32767.0))
        self.speed_m_s = speed
        self.travel_m += speed * dt
        return math.floor(self.travel_m / self.PITCH_M) - before


@dataclass(slots=True)
class Filler:
    """Fills and caps each bottle that passes; one outside the limits of volume or torque is rejected."""

    state: LineState = LineState.STOPPED
    bottles: int = 0
    rejected: int = 0
    volume_ml: float = 500.0
    torque_nm: float = 2.4
    slipping: bool = False
    bottled_l: float = 0.0
    last_volumes_ml: deque[float] = field(default_factory=lambda: deque([500.0] * 10, maxlen=10))

    TORQUE_NM = (2.0, 2.8)
    TOLERANCE_ML = 6.0
    EMPTY_L = 6.0
    ENOUGH_L = 20.0

    def follow(self, *, on: bool, bowl_l: float, conveyor: Conveyor) -> bool:
        """The line's next state; true if the conveyor is to move."""
        starved = bowl_l < (self.ENOUGH_L if self.state is LineState.STARVED else self.EMPTY_L)
        moving = conveyor.speed_m_s > 0.0
        if not on:
            self.state = LineState.STOPPING if moving else LineState.STOPPED
        elif starved:
            self.state = LineState.STARVED
        else:
            arrived = math.isclose(conveyor.speed_m_s, conveyor.set_point_m_s, abs_tol=0.01)
            self.state = LineState.RUNNING if arrived else LineState.STARTING
        return self.state in {LineState.STARTING, LineState.RUNNING}

    def fill(self, *, bottles: int, nominal_ml: float, bowl_l: float, random: Random) -> float:
        """Fills and caps so many bottles out of the bowl and returns the litres taken."""
        taken = 0.0
        for _ in range(bottles):
            litres = min(random.gauss(nominal_ml, 1.5) / 1000.0, bowl_l - taken)
            taken += litres
            self.volume_ml = 1000.0 * litres
            self.torque_nm = random.gauss(1.8, 0.2) if self.slipping else random.gauss(2.4, 0.07)
            self.bottles += 1
            self.rejected += not self._within_limits(nominal_ml)
            self.last_volumes_ml.append(self.volume_ml)
        self.bottled_l += taken
        return taken

    def _within_limits(self, nominal_ml: float) -> bool:
        low, high = self.TORQUE_NM
        return low <= self.torque_nm <= high and abs(self.volume_ml - nominal_ml) <= self.TOLERANCE_ML
