"""Instruments and controllers that every machine of the plant has: sensors, lags, ramps, and a PID controller."""

import math
from dataclasses import dataclass
from random import Random


def limited(value: float, low: float, high: float) -> float:
    """The value, or the nearer of the two limits where it lies outside them."""
    return min(max(value, low), high)


def lagged(value: float, target: float, dt: float, tau: float) -> float:
    """A first-order lag: where `value` is after dt seconds on its way to `target` with the time constant tau (s).

    Exact for a constant target, so that no step is too long for it.
    """
    return target + (value - target) * math.exp(-dt / tau)


def ramped(value: float, target: float, dt: float, rate: float) -> float:
    """Where `value` is after dt seconds when it moves to `target` by at most `rate` per second."""
    return value + limited(target - value, -rate * dt, rate * dt)


@dataclass(slots=True, kw_only=True)
class Sensor:
    """A transmitter with noise (standard deviation, in the value's unit) and the two faults that transmitters have.

    stuck: it repeats its last value. broken: its wire is cut; value is then NaN, as a PLC's analogue input gives it.
    """

    value: float
    noise: float
    stuck: bool = False
    broken: bool = False

    def measure(self, truth: float, random: Random) -> None:
        """Takes a new measurement of the true value."""
        if self.broken:
            self.value = math.nan
        elif not self.stuck or math.isnan(self.value):
            self.value = truth + random.gauss(0.0, self.noise)


@dataclass(slots=True, kw_only=True)
class Pid:
    """A PID controller in the ideal form with output 0..100 %.

    gain in % per unit; integral_s and derivative_s in seconds. The derivative acts on the measurement, so that a new
    set-point makes no kick; the integral stands still while the output is at a limit that the error pushes against.
    """

    gain: float
    integral_s: float
    derivative_s: float
    output: float = 0.0
    _integral: float = 0.0
    _measured: float | None = None

    def step(self, dt: float, *, set_point: float, measured: float) -> float:
        """The output after dt seconds. A measurement that is NaN switches the output off and starts anew."""
        if math.isnan(measured):
            self._integral, self._measured, self.output = 0.0, None, 0.0
            return self.output
        error = set_point - measured
        slope = 0.0 if self._measured is None else (measured - self._measured) / dt
        self._measured = measured
        wanted = self.gain * (error - self.derivative_s * slope) + self._integral
        self.output = limited(wanted, 0.0, 100.0)
        if wanted == self.output or (wanted > 100.0) != (error > 0.0):
            self._integral = limited(self._integral + self.gain * error * dt / self.integral_s, 0.0, 100.0)
        return self.output
