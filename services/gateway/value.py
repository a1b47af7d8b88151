"""Values held against a tag's type: what may stand for one, and when two are the same. Pure."""

import math
import re
import struct

from contracts.v1.device import INTEGER_RANGE, ValueType
from plugins.api.driver import Value

_FLOATS = frozenset({ValueType.FLOAT32, ValueType.FLOAT64})
_BIG = frozenset({ValueType.INT64, ValueType.UINT64})
_DIGITS = re.compile(r"-?\d{1,20}")
_FLOAT32_STEP = 2.0**-23
"""The distance of neighbouring float32 values, relative to their size (IEEE 754-2019, 3.6: 24 bits of significand)."""
_FLOAT64_STEP = 2.0**-52


class WrongType(ValueError):
    """A value that cannot stand for a tag of this type; the message says what would."""


class TooLarge(ValueError):
    """A number that the type cannot hold; the message says what it can."""


def typed(kind: ValueType, given: object) -> Value:
    """The value as a tag of this type has it: an integer given to a float becomes a float.

    A 64-bit integer may be given as a string of digits, as it travels beyond 2^53 - 1. Raises WrongType, TooLarge.
    """
    if kind is ValueType.BOOL and isinstance(given, bool):
        return given
    if kind is ValueType.STRING and isinstance(given, str):
        return given
    if kind in _FLOATS and isinstance(given, int | float) and not isinstance(given, bool):
        return _float(kind, given)
    if kind in INTEGER_RANGE:
        if kind in _BIG and isinstance(given, str) and _DIGITS.fullmatch(given):
            given = int(given)
        if isinstance(given, int) and not isinstance(given, bool):
            return _integer(kind, given)
    raise WrongType(f"{given!r} is no {kind}; {_mend(kind)}")


def same(kind: ValueType, wanted: Value, found: Value, *, tolerance: float = 0.0) -> bool:
    """Whether what was found is what was wanted.

    Numbers may differ by the tolerance, floats by the rounding of their type as well: a float64 tag may also stand for
    a variable of 32 bits, which then holds the nearest of those. Nothing is the same as no value.
    """
    if found is None or isinstance(found, list) or isinstance(wanted, list):
        return found is not None and wanted == found
    if kind is ValueType.BOOL or kind is ValueType.STRING:
        return type(wanted) is type(found) and wanted == found
    if not isinstance(wanted, int | float) or not isinstance(found, int | float):
        return False
    if abs(wanted - found) <= tolerance + _rounding(kind, max(abs(wanted), abs(found))):
        return True
    return kind is ValueType.FLOAT64 and found == _single(wanted)


def _rounding(kind: ValueType, size: float) -> float:
    """By how much a value may have been rounded on its way: scaled and packed, then unpacked and scaled back."""
    step = {ValueType.FLOAT32: _FLOAT32_STEP, ValueType.FLOAT64: _FLOAT64_STEP}.get(kind, 0.0)
    return 2 * step * size


def _single(value: float) -> float | None:
    """What 32 bits hold of it; None if that is nothing."""
    try:
        (held,) = struct.unpack(">f", struct.pack(">f", value))
    except OverflowError:
        return None
    return float(held)


def _float(kind: ValueType, given: float) -> float:
    try:
        value = float(given)
        struct.pack(">f" if kind is ValueType.FLOAT32 else ">d", value)
    except OverflowError:
        raise TooLarge(f"{given!r} is more than a {kind} can hold") from None
    if not math.isfinite(value):
        raise WrongType(f"{given!r} is no number")
    return value


def _integer(kind: ValueType, given: int) -> int:
    low, high = INTEGER_RANGE[kind]
    if not low <= given <= high:
        raise TooLarge(f"{given} does not fit into {kind}, which holds {low} to {high}")
    return given


def _mend(kind: ValueType) -> str:
    if kind is ValueType.BOOL:
        return "write true or false"
    if kind is ValueType.STRING:
        return "write a text in quotes"
    if kind in _FLOATS:
        return "write a number"
    return "write a whole number" if kind in INTEGER_RANGE else "arrays cannot be written"
