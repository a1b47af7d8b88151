"""Overall equipment effectiveness."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from plugins.api.function import Function, InputError


def oee(
    planned_busy_s: float, production_s: float, run_time_per_item_s: float, produced: float, good: float
) -> dict[str, Any]:
    """Availability, performance, quality and OEE index in % (ISO 22400-2:2014, clause 6); README.md has the formulae.

    Raises InputError: nothing was planned, or the times and quantities contradict one another.
    """
    if planned_busy_s == 0:
        raise InputError("planned_busy_s is 0: of no planned time there is no OEE")
    if production_s > planned_busy_s:
        raise InputError(f"production_s, {production_s:g} s, is more than planned_busy_s, {planned_busy_s:g} s")
    if good > produced:
        raise InputError(f"good, {good:g}, is more than produced, {produced:g}")
    if produced > 0 and production_s == 0:
        raise InputError(f"produced is {produced:g} though production_s is 0")
    factors = {"availability": production_s / planned_busy_s}
    if production_s > 0:
        factors["performance"] = run_time_per_item_s * produced / production_s
    if produced > 0:
        factors["quality"] = good / produced
    # The product of the three with what cancels left out: so it stands where one of them does not.
    factors["oee"] = run_time_per_item_s * good / planned_busy_s
    given = {name: 100 * factor for name, factor in factors.items()}
    if not all(map(isfinite, given.values())):
        raise InputError("run_time_per_item_s times the quantity is too much for times this short")
    return given


FUNCTIONS: Mapping[str, Function] = {"oee": oee}
