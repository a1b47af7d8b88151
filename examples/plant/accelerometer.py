"""The accelerometer on the dosing pump's bearing, and the card that keeps the latest block of its samples.

What a pump shakes with, after Randall, Vibration-based Condition Monitoring (2011), chapter 2: once a turn where
something hangs in the impeller, once per vane, and, at each ball that passes a damage of the bearing's outer race, a
blow at which the housing rings. All of it grows with the square of the speed.
"""

import math
from dataclasses import dataclass, field
from random import Random

RATE_HZ = 2048
SAMPLES = 512
PERIOD_S = 2.0
SHAFT_HZ = 25.0
"""Turns a second at full speed: 1500 a minute."""
VANES = 5
BALLS_A_TURN = 3.585
"""Balls of a bearing 6205 that pass a place of the outer race in a turn: 9 / 2 · (1 - 7.94 mm / 39.04 mm)."""
RINGING_HZ = 620.0
RINGING_S = 0.004


@dataclass(slots=True)
class Accelerometer:
    """samples: m/s², RATE_HZ of them a second, taken anew every PERIOD_S."""

    samples: list[float] = field(default_factory=lambda: [0.0] * SAMPLES)
    random: Random = field(default_factory=lambda: Random(5))  # its own, so that the plant's noise stays what it is
    _next_s: float = 0.0

    def step(self, dt: float, *, speed: float, wear: float, clogged: bool) -> None:
        """Moves dt seconds on. speed: of full speed, 0 to 1. wear: 0 (new) to 1. clogged: see Faults."""
        self._next_s -= dt
        if self._next_s <= 0.0:
            self._next_s += PERIOD_S
            self.samples = block(self.random, speed=speed, wear=wear, clogged=clogged)


def block(random: Random, *, speed: float, wear: float, clogged: bool) -> list[float]:
    """SAMPLES of the acceleration in m/s², as a card with a resolution of 0.001 m/s² gives them."""
    shaft_hz = SHAFT_HZ * speed
    turn, vane = (2.0, 1.2) if clogged else (0.4, 0.5)
    blow = 12.0 * wear**2
    phase = random.random()
    samples = []
    for place in range(SAMPLES):
        turns = phase + shaft_hz * place / RATE_HZ
        since_blow = (turns * BALLS_A_TURN) % 1.0 / (shaft_hz * BALLS_A_TURN) if shaft_hz else math.inf
        value = turn * math.sin(2 * math.pi * turns) + vane * math.sin(2 * math.pi * VANES * turns)
        if since_blow < 10 * RINGING_S:
            value += blow * math.exp(-since_blow / RINGING_S) * math.sin(2 * math.pi * RINGING_HZ * since_blow)
        samples.append(round((value + random.gauss(0.0, 0.12)) * speed**2 + random.gauss(0.0, 0.004), 3))
    return samples
