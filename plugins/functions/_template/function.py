"""The weighted average of values."""

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from plugins.api.function import Function, InputError


def average(values: Sequence[float], weights: Sequence[float] | None = None) -> dict[str, Any]:
    """sum(w * x) / sum(w), with the sums free of rounding errors (math.fsum).

    Raises InputError: no values, weights that do not fit them, weights that are negative or all 0.
    """
    if not values:
        raise InputError("values is empty")
    weights = [1.0] * len(values) if weights is None else weights
    if len(weights) != len(values):
        raise InputError(f"there are {len(values)} values and {len(weights)} weights")
    total = fsum(weights)
    if min(weights) < 0 or total == 0:
        raise InputError("weights are 0 or more, and at least one is more")
    return {
        "average": fsum(weight * value for weight, value in zip(weights, values, strict=True)) / total,
        "count": len(values),
    }


FUNCTIONS: Mapping[str, Function] = {"average": average}
