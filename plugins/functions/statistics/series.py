"""What a series of values comes to, and its rolling mean."""

from collections.abc import Sequence
from itertools import accumulate
from math import ldexp, sqrt
from typing import Any

from plugins.api.function import InputError

from .centred import centred


def statistics(values: Sequence[float], quantiles: Sequence[float] | None = None) -> dict[str, Any]:
    """Count, mean, standard deviation of the sample, extremes, median and quantiles; README.md has the formulae.

    Raises InputError: no values, a quantile outside 0 to 1, values so large that their deviation is none for a float.
    """
    if not values:
        raise InputError("values is empty")
    for place, quantile in enumerate(quantiles or ()):
        if not 0 <= quantile <= 1:
            raise InputError(f"quantiles: {quantile!r} at {place} is not 0 to 1")
    ordered = sorted(map(float, values))
    about = centred(ordered)
    given: dict[str, Any] = {
        "count": len(ordered),
        "mean": ldexp(about.mean, about.exponent),
        "min": ordered[0],
        "max": ordered[-1],
        "median": _quantile(ordered, 0.5),
    }
    if len(ordered) > 1:
        try:
            given["sd"] = ldexp(sqrt(about.squares / (len(ordered) - 1)), about.exponent)
        except OverflowError:
            raise InputError("values are so far apart that their sd is beyond the largest number") from None
    if quantiles is not None:
        given["quantiles"] = [_quantile(ordered, quantile) for quantile in quantiles]
    return given


def _quantile(ordered: Sequence[float], quantile: float) -> float:
    place, part = divmod((len(ordered) - 1) * quantile, 1)
    low = ordered[int(place)]
    high = ordered[min(int(place) + 1, len(ordered) - 1)]
    return min(max(low * (1 - part) + high * part, low), high)


def rolling_mean(values: Sequence[float], window: int) -> dict[str, Any]:
    """The mean of each `window` neighbouring values.

    The sums are kept as whole numbers of the smallest unit in values, so they are exact however long the series.

    Raises InputError: fewer values than the window has.
    """
    if len(values) < window:
        raise InputError(f"values has {len(values)}, fewer than the window of {window}")
    ratios = [value.as_integer_ratio() for value in values]
    unit = max(denominator for _, denominator in ratios)  # all are powers of 2, so it is a multiple of each
    sums = [0, *accumulate(numerator * (unit // denominator) for numerator, denominator in ratios)]
    means = [(after - before) / (window * unit) for before, after in zip(sums, sums[window:], strict=False)]
    return {"means": means, "last": means[-1]}
