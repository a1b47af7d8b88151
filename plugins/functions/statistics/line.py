"""The straight line through points."""

from collections.abc import Sequence
from math import fsum, ldexp, sqrt
from typing import Any

from plugins.api.function import InputError

from .centred import Centred, centred


def linear_fit(y: Sequence[float], x: Sequence[float] | None = None) -> dict[str, Any]:
    """Ordinary least squares of y on x, with standard errors; README.md has the formulae.

    Raises InputError: fewer than two points, x and y of different length, all x the same, a line too steep for a float.
    """
    at = range(len(y)) if x is None else x
    if len(at) != len(y):
        raise InputError(f"there are {len(y)} y and {len(at)} x")
    if len(y) < 2:
        raise InputError(f"y has {len(y)} values; a line needs two")
    across, up = centred(at), centred(y)
    if across.squares == 0:
        raise InputError("all x are the same: no line stands on them")
    try:
        return _line(across, up)
    except OverflowError:
        raise InputError("the line is too steep: it cannot be told in numbers") from None


def _line(x: Centred, y: Centred) -> dict[str, Any]:
    count, steepness = len(x.deviations), y.exponent - x.exponent
    products = fsum(dx * dy for dx, dy in zip(x.deviations, y.deviations, strict=True))
    slope = products / x.squares
    given: dict[str, Any] = {
        "slope": ldexp(slope, steepness),
        "intercept": ldexp(y.mean - slope * x.mean, y.exponent),
    }
    if y.squares > 0:
        given["r2"] = min((products / sqrt(x.squares) / sqrt(y.squares)) ** 2, 1.0)
    if count > 2:
        residues = fsum((dy - slope * dx) ** 2 for dx, dy in zip(x.deviations, y.deviations, strict=True))
        error = sqrt(residues / (count - 2))
        given["slope_error"] = ldexp(error / sqrt(x.squares), steepness)
        given["intercept_error"] = ldexp(error * sqrt(1 / count + x.mean**2 / x.squares), y.exponent)
    return given
