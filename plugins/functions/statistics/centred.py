"""A series about its mean, in a scale of its own, so that no square of it is too large or too small for a float."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import frexp, fsum, ldexp


@dataclass(frozen=True, slots=True)
class Centred:
    """value = (mean + deviation) * 2**exponent, where |mean| and |value / 2**exponent| are at most 1.

    squares: the sum of the squared deviations.
    """

    mean: float
    deviations: Sequence[float]
    squares: float
    exponent: int


def centred(values: Sequence[float]) -> Centred:
    """Of at least one finite value.

    The second pass takes off what the rounding of the mean left (Chan, Golub, LeVeque, "Algorithms for Computing the
    Sample Variance", The American Statistician 37 (1983) 242-247, the corrected two-pass algorithm). A constant series
    has deviations of exactly 0.
    """
    exponent = frexp(max(map(abs, values)))[1]
    scaled = [ldexp(value, -exponent) for value in values]
    mean = min(max(fsum(scaled) / len(scaled), min(scaled)), max(scaled))
    rough = [value - mean for value in scaled]
    rest = fsum(rough) / len(rough)
    deviations = [value - rest for value in rough]
    return Centred(mean, deviations, fsum(value * value for value in deviations), exponent)
