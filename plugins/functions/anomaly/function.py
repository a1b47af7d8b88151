"""Whether values stray from what they were while all was well."""

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any

from plugins.api.function import Function, InputError


def zscore(values: Sequence[float], mean: float, sd: float, limit: float = 3.0) -> dict[str, Any]:
    """(x - mean) / sd of each value; an outlier is more than `limit` from 0.

    Raises InputError: no values, sd or limit not more than 0, a score too large for a float.
    """
    _check(values, sd, limit)
    scores = [(value - mean) / sd for value in values]
    for place, score in enumerate(scores):
        if not isfinite(score):
            raise InputError(f"values: {values[place]!r} at {place} is too many sd from the mean to be told in numbers")
    outliers = [place for place, score in enumerate(scores) if abs(score) > limit]
    return {
        "scores": scores,
        "worst": max(scores, key=abs),
        "outliers": outliers,
        "anomaly": bool(outliers),
    }


def ewma(
    values: Sequence[float],
    target: float,
    sd: float,
    weight: float = 0.2,
    limit: float = 3.0,
    start: float | None = None,
    seen: int = 0,
) -> dict[str, Any]:
    """The average weight * x + (1 - weight) * (average before), and its limits; README.md has the formula.

    Raises InputError: no values, sd, weight or limit not more than 0, limits too large for a float.
    """
    _check(values, sd, limit)
    if weight == 0:
        raise InputError("weight is 0; it is more than 0, and at most 1")
    average = target if start is None else start
    averages, widths = [], []
    for count, value in enumerate(values, seen + 1):
        average = weight * value + (1 - weight) * average
        averages.append(average)
        widths.append(limit * sd * sqrt(weight / (2 - weight) * (1 - (1 - weight) ** (2 * count))))
    if not isfinite(abs(target) + widths[-1]):
        raise InputError("limit times sd is too large: the limits of the chart cannot be told in numbers")
    out = [
        place
        for place, (at, width) in enumerate(zip(averages, widths, strict=True))
        if not target - width <= at <= target + width
    ]
    return {
        "averages": averages,
        "lower": [target - width for width in widths],
        "upper": [target + width for width in widths],
        "out": out,
        "anomaly": bool(out),
        "last": average,
        "seen": seen + len(values),
    }


def _check(values: Sequence[float], sd: float, limit: float) -> None:
    if not values:
        raise InputError("values is empty")
    if sd <= 0:
        raise InputError(f"sd is {sd:g}; it is more than 0 (a series that was constant gives no scale to judge by)")
    if limit <= 0:
        raise InputError(f"limit is {limit:g}; it is more than 0")


FUNCTIONS: Mapping[str, Function] = {"zscore": zscore, "ewma": ewma}
