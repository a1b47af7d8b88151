"""The one-sided spectrum of samples about their mean, in a scale of its own: no square leaves the range of a float."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import frexp, ldexp, pi
from typing import TypeAlias

import numpy as np
from numpy.fft import rfft
from numpy.typing import NDArray

from plugins.api.function import InputError

Floats: TypeAlias = NDArray[np.float64]

WINDOWS: Mapping[str, Sequence[float]] = {
    "hann": (0.5, 0.5),
    "flat-top": (0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368),
    "rectangular": (1.0,),
}
"""Coefficients a of the sum of (-1)**j a[j] cos(2 pi j k / n): the windows of ISO 18431-2 with these names.

The flat-top's digits: D'Antona, Ferrero, Digital Signal Processing for Measurement Systems (2006), p. 70.
"""


@dataclass(frozen=True, slots=True)
class Series:
    """sample = mean + deviation * 2**exponent; no deviation is over 2."""

    mean: float
    deviations: Floats
    exponent: int


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Lines from one step above 0 to half the rate, each with its peak amplitude and its mean square.

    amplitudes: in units of 2**exponent. powers: in units of 4**exponent.
    """

    frequencies: Floats
    amplitudes: Floats
    powers: Floats
    exponent: int


def series(samples: Sequence[float]) -> Series:
    """Raises InputError: fewer than two samples."""
    if len(samples) < 2:
        raise InputError(f"samples has {len(samples)}; a vibration needs two")
    values = np.array(samples, dtype=np.float64)
    exponent = frexp(float(np.abs(values).max()))[1]
    values = np.ldexp(values, -exponent)
    first = float(values[0])
    rough = values - first  # so that a constant leaves exactly 0
    rest = float(rough.mean())
    mean = min(max(first + rest, float(values.min())), float(values.max()))
    return Series(ldexp(mean, exponent), rough - rest, exponent)


def spectrum(about: Series, *, rate_hz: float, window: str) -> Spectrum:
    """Amplitudes are made good by the window's sum, powers by the sum of its squares; README.md has the formulae.

    Raises InputError: no such window.
    """
    count = len(about.deviations)
    weights = _window(window, count)
    lines = np.abs(rfft(about.deviations * weights))[1:]
    sides = np.full(len(lines), 2.0)
    if count % 2 == 0:
        sides[-1] = 1.0  # half the rate is its own mirror image
    return Spectrum(
        frequencies=np.arange(1, len(lines) + 1) * rate_hz / count,
        amplitudes=sides * lines / weights.sum(),
        powers=sides * lines**2 / (count * (weights**2).sum()),
        exponent=about.exponent,
    )


def _window(name: str, count: int) -> Floats:
    if name not in WINDOWS:
        raise InputError(f"window: there is no {name!r}; there are: {', '.join(WINDOWS)}")
    phase = 2 * pi * np.arange(count) / count
    weights = np.zeros(count)
    for order, coefficient in enumerate(WINDOWS[name]):
        weights += (-1) ** order * coefficient * np.cos(order * phase)
    return weights
