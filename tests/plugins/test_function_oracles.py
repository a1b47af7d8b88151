"""What the shipped functions compute, held against numpy, scipy, Python's exact statistics and fractions."""

import statistics as exact
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from plugins.api.function import InputError
from plugins.api.registry import load_plugin, unload_plugin

FOLDER = Path(__file__).parents[2] / "plugins/functions"
LARGEST = 1.7976931348623157e308

any_float = st.floats(allow_nan=False, allow_infinity=False)
plain = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
rates = st.sampled_from([0.5, 8.0, 1000.0, 25600.0])
windows = st.sampled_from(["hann", "flat-top", "rectangular"])
OF_SCIPY = {"hann": "hann", "flat-top": "flattop", "rectangular": "boxcar"}

Functions = Mapping[str, Callable[..., dict[str, Any]]]


@pytest.fixture(scope="module")
def functions() -> Iterator[Functions]:
    """All that are shipped, by name."""
    plugins = [load_plugin(FOLDER / name) for name in ("statistics", "vibration", "anomaly", "oee")]
    yield {name: function for plugin in plugins for name, function in plugin.entry.items()}
    for plugin in plugins:
        unload_plugin(plugin)


@given(st.lists(any_float, min_size=1, max_size=40))
def test_statistics_are_those_of_exact_arithmetic_however_large_or_small(
    functions: Functions, values: list[float]
) -> None:
    try:
        sd = exact.stdev(values) if len(values) > 1 else None
    except OverflowError:
        sd = float("inf")
    try:
        got = functions["statistics"](values=values)
    except InputError:
        assert sd is not None
        assert sd >= LARGEST * (1 - 1e-12)
        return
    size = max(map(abs, values))
    assert got["mean"] == pytest.approx(float(exact.mean(map(Fraction, values))), rel=1e-15, abs=size * 1e-15)
    assert got.get("sd") == (sd if sd is None else pytest.approx(sd, rel=1e-12, abs=size * 1e-15))
    assert (got["count"], got["min"], got["max"]) == (len(values), min(values), max(values))
    assert got["min"] <= got["mean"] <= got["max"]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30))
def test_small_deviations_of_large_values_are_not_lost(functions: Functions, steps: list[int]) -> None:
    """Values that have no digit left after the point: their mean has to be rounded."""
    values = [2.0**52 + step for step in steps]

    assert functions["statistics"](values=values)["sd"] == pytest.approx(exact.stdev(steps), rel=1e-12)


@given(st.floats(-1e300, 1e300), st.integers(1, 30))
def test_a_constant_is_its_own_mean_and_has_no_deviation(functions: Functions, value: float, count: int) -> None:
    got = functions["statistics"](values=[value] * count)

    assert {got[name] for name in ("mean", "median", "min", "max")} == {value}
    assert got.get("sd", 0.0) == 0.0


@given(st.lists(plain, min_size=1, max_size=50), st.lists(st.floats(0, 1), max_size=5))
def test_quantiles_are_those_of_numpy(functions: Functions, values: list[float], quantiles: list[float]) -> None:
    got = functions["statistics"](values=values, quantiles=quantiles)

    assert got["quantiles"] == pytest.approx(list(np.quantile(values, quantiles)), rel=1e-12, abs=1e-9)
    assert got["median"] == pytest.approx(float(np.median(values)), rel=1e-15)


@given(st.lists(any_float, min_size=1, max_size=40), st.integers(1, 40))
def test_each_rolling_mean_is_the_rounded_exact_one(functions: Functions, values: list[float], window: int) -> None:
    assume(window <= len(values))

    got = functions["rolling-mean"](values=values, window=window)

    exactly = [sum(map(Fraction, values[at : at + window])) / window for at in range(len(values) - window + 1)]
    assert got == {"means": list(map(float, exactly)), "last": float(exactly[-1])}


@given(st.data(), st.integers(3, 30))
def test_a_line_is_that_of_scipy(functions: Functions, data: st.DataObject, count: int) -> None:
    points = st.lists(plain, min_size=count, max_size=count)
    x, y = data.draw(points), data.draw(points)
    assume(np.ptp(x) > 1e-2)
    assume(np.ptp(y) > 1e-2)

    got = functions["linear-fit"](y=y, x=x)

    wanted = scipy.stats.linregress(x, y)
    scale = np.ptp(y) / np.ptp(x)
    assert got["slope"] == pytest.approx(wanted.slope, rel=1e-6, abs=1e-7 * scale)
    assert got["intercept"] == pytest.approx(wanted.intercept, rel=1e-6, abs=1e-6 * (scale * np.abs(x).max() + 1))
    assert got["r2"] == pytest.approx(wanted.rvalue**2, abs=1e-6)
    assert got["slope_error"] == pytest.approx(wanted.stderr, rel=1e-3, abs=1e-4 * scale)
    assert got["intercept_error"] == pytest.approx(
        wanted.intercept_stderr, rel=1e-3, abs=1e-4 * scale * np.abs(x).max()
    )


@given(st.lists(any_float, min_size=2, max_size=20))
def test_a_line_through_anything_is_finite_or_refused(functions: Functions, y: list[float]) -> None:
    try:
        got = functions["linear-fit"](y=y, x=y[::-1])
    except InputError:
        return
    assert all(map(isfinite, got.values()))
    assert got["slope_error" if len(y) > 2 else "r2"] >= 0


samples_of = st.lists(plain, min_size=2, max_size=70)


@given(samples_of, rates, windows)
def test_the_spectrum_is_that_of_scipy(functions: Functions, samples: list[float], rate: float, window: str) -> None:
    got = functions["fft"](samples=samples, rate_hz=rate, window=window)

    frequencies, powers = scipy.signal.periodogram(
        samples, rate, window=OF_SCIPY[window], detrend="constant", scaling="spectrum"
    )
    amplitudes = np.sqrt(2 * powers[1:])
    if len(samples) % 2 == 0:
        amplitudes[-1] /= sqrt(2)
    assert got["frequencies"] == pytest.approx(list(frequencies[1:]), rel=1e-12)
    assert got["amplitudes"] == pytest.approx(list(amplitudes), rel=1e-7, abs=1e-7)
    assert got["mean"] == pytest.approx(np.mean(samples), abs=1e-9)
    assert got["resolution_hz"] == pytest.approx(rate / len(samples))


@given(
    st.integers(80, 200), st.floats(0.3, 0.7), st.floats(1e-3, 1e3), st.floats(-10, 10), windows.filter("hann".__ne__)
)
def test_a_sine_shows_its_amplitude_and_frequency(
    functions: Functions, count: int, place: float, amplitude: float, mean: float, window: str
) -> None:
    """Of whole periods; with the flat-top window also of parts of one."""
    line = place * count / 2 if window == "flat-top" else round(place * count / 2)
    samples = mean + amplitude * np.sin(2 * np.pi * line * np.arange(count) / count + 0.7)

    got = functions["fft"](samples=samples.tolist(), rate_hz=float(count), window=window)

    assert got["peak_amplitude"] == pytest.approx(amplitude, rel=2e-3 if window == "flat-top" else 1e-9)
    assert abs(got["peak_hz"] - line) < 1.5


@given(samples_of, rates)
def test_features_are_those_of_numpy_and_scipy(functions: Functions, samples: list[float], rate: float) -> None:
    assume(np.ptp(samples) > 0.1)

    got = functions["vibration"](samples=samples, rate_hz=rate)

    rms = np.std(samples)
    peak = np.abs(samples - np.mean(samples)).max()
    assert got["rms"] == pytest.approx(rms, rel=1e-7)
    assert got["peak"] == pytest.approx(peak, rel=1e-7)
    assert got["peak_to_peak"] == pytest.approx(np.ptp(samples), rel=1e-7)
    assert got["crest_factor"] == pytest.approx(peak / rms, rel=1e-7)
    assert got["kurtosis"] == pytest.approx(scipy.stats.kurtosis(samples, fisher=False), rel=1e-6)


@given(samples_of, rates, windows, st.floats(0.0, 0.5))
def test_band_energies_are_the_sums_of_scipys_density(
    functions: Functions, samples: list[float], rate: float, window: str, cut: float
) -> None:
    assume(len(samples) >= 6)
    edges = [0.0, (1 + cut) * rate / 4, rate / 2]

    got = functions["vibration"](samples=samples, rate_hz=rate, window=window, band_edges=edges)

    frequencies, density = scipy.signal.periodogram(samples, rate, window=OF_SCIPY[window], detrend="constant")
    powers = density * rate / len(samples)
    below = (frequencies > 0) & (frequencies < edges[1])
    above = frequencies >= edges[1]
    assert got["band_energy"] == pytest.approx([powers[below].sum(), powers[above].sum()], rel=1e-6, abs=1e-8)
    assert got["band_rms"] == pytest.approx(list(np.sqrt(got["band_energy"])))
    if window == "rectangular":
        assert sum(got["band_energy"]) == pytest.approx(np.var(samples), rel=1e-6, abs=1e-8)


@given(st.floats(12, 900), st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_velocity_is_that_of_a_shaking_table(functions: Functions, frequency: float, velocity: float) -> None:
    """A table that shakes with a velocity of known RMS in mm/s, as one would calibrate with; a second of it."""
    at = np.arange(5120) / 5120
    samples = 9.81 + velocity / 1000 * sqrt(2) * 2 * np.pi * frequency * np.cos(2 * np.pi * frequency * at)

    got = functions["velocity-rms"](samples=samples.tolist(), rate_hz=5120.0)

    assert got["velocity_rms"] == pytest.approx(velocity, rel=0.03)


def test_velocity_leaves_out_what_is_not_in_the_band(functions: Functions) -> None:
    at = np.arange(5120) / 5120
    slow, fast = (np.cos(2 * np.pi * frequency * at) for frequency in (3, 2000))

    got = functions["velocity-rms"](samples=(slow + fast).tolist(), rate_hz=5120.0)

    assert got["velocity_rms"] < 1e-6


@given(st.lists(any_float, min_size=2, max_size=30), windows)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_a_vibration_of_anything_is_finite_or_refused(functions: Functions, samples: list[float], window: str) -> None:
    for name, more in (("fft", {}), ("vibration", {"band_edges": [0.0, 500.0]})):
        try:
            got = functions[name](samples=samples, rate_hz=1000.0, window=window, **more)
        except InputError:
            assert max(map(abs, samples)) > 1e150  # its square is beyond the largest number
            continue
        for value in got.values():
            assert np.isfinite(value).all()


@pytest.mark.parametrize("scale", [2.0**-1000, 1.0, 2.0**1000])
def test_features_do_not_depend_on_the_unit(functions: Functions, scale: float) -> None:
    samples = [3.0, -1.0, 4.0, -1.0, 5.0, -9.0, 2.0, 6.0]

    got = functions["vibration"](samples=[scale * sample for sample in samples], rate_hz=8.0)
    wanted = functions["vibration"](samples=samples, rate_hz=8.0)

    assert got["rms"] == scale * wanted["rms"]
    assert (got["crest_factor"], got["kurtosis"]) == (wanted["crest_factor"], wanted["kurtosis"])


def test_the_flat_top_window_is_that_of_iso_18431_2(functions: Functions) -> None:
    """1 - 1.933 cos + 1.286 cos 2 - 0.388 cos 3 + 0.0322 cos 4: seen in the lines beside one whose sine is whole."""
    samples = np.cos(2 * np.pi * 20 * np.arange(100) / 100)

    amplitudes = functions["fft"](samples=samples.tolist(), rate_hz=100.0, window="flat-top")["amplitudes"]

    wanted = [0.0161, 0.194, 0.643, 0.9665, 1.0, 0.9665, 0.643, 0.194, 0.0161]
    assert amplitudes[15:24] == pytest.approx(wanted, rel=2e-3)


@given(st.lists(plain, min_size=2, max_size=40))
def test_scores_are_those_of_scipy(functions: Functions, values: list[float]) -> None:
    assume(np.ptp(values) > 0.1)
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))

    got = functions["zscore"](values=values, mean=mean, sd=sd, limit=1.5)

    wanted = scipy.stats.zscore(values, ddof=1)
    assert got["scores"] == pytest.approx(list(wanted), rel=1e-9, abs=1e-9)
    assert got["outliers"] == [place for place, score in enumerate(got["scores"]) if not -1.5 <= score <= 1.5]
    assert got["anomaly"] == bool(got["outliers"])
    assert abs(got["worst"]) == max(map(abs, got["scores"]))


weights = st.floats(0.01, 1)


@given(st.lists(plain, min_size=1, max_size=40), plain, weights)
def test_averages_are_those_of_scipys_filter(
    functions: Functions, values: list[float], target: float, weight: float
) -> None:
    got = functions["ewma"](values=values, target=target, sd=1.0, weight=weight)

    wanted, _ = scipy.signal.lfilter([weight], [1, weight - 1], values, zi=[(1 - weight) * target])
    assert got["averages"] == pytest.approx(list(wanted), rel=1e-9, abs=1e-6)


@given(weights, st.integers(1, 60), st.floats(1e-3, 1e3), st.floats(0.5, 5))
def test_control_limits_are_those_of_the_averages_own_variance(
    functions: Functions, weight: float, count: int, sd: float, limit: float
) -> None:
    """The average is a weighted sum of independent values: its variance is the sum of the squared weights."""
    got = functions["ewma"](values=[7.0] * count, target=7.0, sd=sd, weight=weight, limit=limit)

    shares = weight * (1 - weight) ** np.arange(count)
    widths = limit * sd * np.sqrt(np.cumsum(shares**2))
    assert np.subtract(got["upper"], 7.0) == pytest.approx(widths, rel=1e-9)
    assert np.subtract(7.0, got["lower"]) == pytest.approx(widths, rel=1e-9)


@given(st.lists(plain, min_size=2, max_size=30), weights, st.integers(1, 29))
def test_a_chart_in_two_calls_is_that_of_one(
    functions: Functions, values: list[float], weight: float, cut: int
) -> None:
    assume(cut < len(values))
    chart = {"target": 0.0, "sd": 1.0, "weight": weight}

    whole = functions["ewma"](values=values, **chart)
    first = functions["ewma"](values=values[:cut], **chart)
    second = functions["ewma"](values=values[cut:], **chart, start=first["last"], seen=first["seen"])

    for name in ("averages", "lower", "upper"):
        assert first[name] + second[name] == whole[name]
    assert first["out"] + [place + cut for place in second["out"]] == whole["out"]
    assert (second["last"], second["seen"]) == (whole["last"], whole["seen"])


@given(
    st.lists(any_float, min_size=1, max_size=10),
    any_float,
    st.floats(0, LARGEST, exclude_min=True),
    st.floats(0, 1, exclude_min=True),
)
def test_a_judgement_of_anything_is_finite_or_refused(
    functions: Functions, values: list[float], centre: float, sd: float, weight: float
) -> None:
    for name, inputs in (
        ("zscore", {"mean": centre, "sd": sd}),
        ("ewma", {"target": centre, "sd": sd, "weight": weight}),
    ):
        try:
            got = functions[name](values=values, **inputs)
        except InputError:
            continue
        for value in got.values():
            assert np.isfinite(value).all()


times = st.floats(0.001, 1e6)


@given(times, st.just(0.0) | st.floats(1e-6, 1), times, st.integers(0, 10**6), st.floats(0, 1))
def test_oee_is_the_product_of_its_factors(
    functions: Functions, planned: float, running: float, cycle: float, produced: int, right: float
) -> None:
    good, ran = float(int(produced * right)), planned * running
    inputs = {
        "planned_busy_s": planned,
        "production_s": ran,
        "run_time_per_item_s": cycle,
        "produced": float(produced),
        "good": good,
    }
    if produced and not ran:
        with pytest.raises(InputError, match="though production_s is 0"):
            functions["oee"](**inputs)
        return

    got = functions["oee"](**inputs)

    product = got["availability"] * got.get("performance", 0.0) * got.get("quality", 0.0) / 100**2
    assert got["oee"] == pytest.approx(product, rel=1e-9, abs=1e-12)
    assert 0 <= got["availability"] <= 100
    assert 0 <= got.get("quality", 0) <= 100
