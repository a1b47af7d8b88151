"""Spectrum and features of a vibration."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ldexp, pi, sqrt
from typing import Any

import numpy as np

from plugins.api.function import Function, InputError

from .spectrum import Floats, Series, Spectrum, series, spectrum

_TOO_LARGE = "samples are so large that the result is beyond the largest number"
_LOBE = 4
"""Lines across the main lobe of a Hann window."""


def fft(samples: Sequence[float], rate_hz: float, window: str = "hann") -> dict[str, Any]:
    """The amplitude spectrum of the samples about their mean.

    Raises InputError: fewer than two samples, no such window, amplitudes too large for a float.
    """
    about = series(samples)
    found = spectrum(about, rate_hz=rate_hz, window=window)
    amplitudes = _in_full(found.amplitudes, found.exponent)
    given: dict[str, Any] = {
        "frequencies": found.frequencies.tolist(),
        "amplitudes": amplitudes,
        "resolution_hz": rate_hz / len(samples),
        "mean": about.mean,
    }
    if about.deviations.any():
        highest = int(np.argmax(found.amplitudes))
        given["peak_hz"] = given["frequencies"][highest]
        given["peak_amplitude"] = amplitudes[highest]
    return given


def vibration(
    samples: Sequence[float], rate_hz: float, band_edges: Sequence[float] | None = None, window: str = "hann"
) -> dict[str, Any]:
    """RMS, peak, crest factor and kurtosis of the samples about their mean, and the energy in bands of frequency.

    Raises InputError: as fft(), and edges that do not rise, lie outside 0 to half the rate, or have no line between.
    """
    about = series(samples)
    found = spectrum(about, rate_hz=rate_hz, window=window)
    try:
        given = _features(about)
        if band_edges is not None:
            powers = _bands(found, band_edges, rate_hz)
            given["band_energy"] = [ldexp(power, 2 * found.exponent) for power in powers]
            given["band_rms"] = [ldexp(sqrt(power), found.exponent) for power in powers]
    except OverflowError:
        raise InputError(_TOO_LARGE) from None
    return given


def velocity_rms(
    samples: Sequence[float], rate_hz: float, low_hz: float = 10.0, high_hz: float = 1000.0
) -> dict[str, Any]:
    """The RMS of the velocity between low_hz and high_hz, both included, in mm/s, of an acceleration in m/s².

    Raises InputError: as vibration(), and samples over too short a time for low_hz.
    """
    about = series(samples)
    found = spectrum(about, rate_hz=rate_hz, window="hann")
    if low_hz * len(samples) < _LOBE * rate_hz:
        raise InputError(
            f"samples cover {len(samples) / rate_hz:g} s; "
            f"a band from low_hz, {low_hz:g} Hz, needs at least {_LOBE} of its periods"
        )
    velocities = Spectrum(
        found.frequencies, found.amplitudes, found.powers / (2 * pi * found.frequencies) ** 2, found.exponent
    )
    (power,) = _bands(velocities, [low_hz, high_hz], rate_hz)
    try:
        return {"velocity_rms": ldexp(1000 * sqrt(power), found.exponent)}
    except OverflowError:
        raise InputError(_TOO_LARGE) from None


def _features(about: Series) -> dict[str, Any]:
    deviations, exponent = about.deviations, about.exponent
    squares = deviations**2
    power = float(squares.mean())
    peak, rms = float(np.abs(deviations).max()), sqrt(power)
    given = {
        "mean": about.mean,
        "rms": ldexp(rms, exponent),
        "peak": ldexp(peak, exponent),
        "peak_to_peak": ldexp(float(deviations.max() - deviations.min()), exponent),
    }
    if power > 0:
        given["crest_factor"] = peak / rms
        given["kurtosis"] = float((squares**2).mean()) / power**2
    return given


def _bands(found: Spectrum, edges: Sequence[float], rate_hz: float) -> list[float]:
    """The power between each two edges; a line on an edge is of the band above, on the last of the band below."""
    if len(edges) < 2:
        raise InputError(f"band_edges has {len(edges)}; a band needs two")
    if edges[0] < 0 or edges[-1] > rate_hz / 2:
        raise InputError(
            f"bands from {edges[0]:g} to {edges[-1]:g} Hz: at {rate_hz:g} samples a second they lie "
            f"within 0 to {rate_hz / 2:g} Hz"
        )
    powers = []
    for low, high in pairwise(edges):
        if low >= high:
            raise InputError(f"bands: the edge {high:g} Hz is not above {low:g} Hz")
        below = found.frequencies <= high if high == edges[-1] else found.frequencies < high
        inside = (found.frequencies >= low) & below
        if not inside.any():
            raise InputError(
                f"bands: no line of the spectrum is within {low:g} to {high:g} Hz; they are "
                f"{found.frequencies[0]:g} Hz apart: take more samples or a wider band"
            )
        powers.append(float(found.powers[inside].sum()))
    return powers


def _in_full(values: Floats, exponent: int) -> list[float]:
    try:
        return [ldexp(value, exponent) for value in values.tolist()]
    except OverflowError:
        raise InputError(_TOO_LARGE) from None


FUNCTIONS: Mapping[str, Function] = {"fft": fft, "vibration": vibration, "velocity-rms": velocity_rms}
