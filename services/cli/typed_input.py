"""What a person types for a value, as the tag or function takes it. Pure."""

import json
import math
from collections.abc import Collection

from contracts.v1.device import ValueType
from contracts.v1.message import LAST_SAFE_INTEGER, Scalar, Value

_TRUE = frozenset({"true", "on", "1", "yes"})
_FALSE = frozenset({"false", "off", "0", "no"})


class Mistyped(ValueError):
    """What was typed cannot stand for a value; the message says what would."""


def scalar_for(text: str, kind: ValueType) -> Scalar:
    """The value for a tag of this type. Raises Mistyped. Whether it is in range the gateway decides."""
    if kind is ValueType.STRING:
        return text
    if kind is ValueType.BOOL:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise Mistyped(f"{text!r} is no bool; write true or false")
    try:
        if kind in {ValueType.FLOAT32, ValueType.FLOAT64}:
            return _finite(text)
        number = int(text)
    except ValueError:
        what = "number" if kind in {ValueType.FLOAT32, ValueType.FLOAT64} else "whole number"
        raise Mistyped(f"{text!r} is no {what}; the tag is of type {kind}") from None
    return number if abs(number) <= LAST_SAFE_INTEGER else str(number)


def named_values(pairs: list[str], *, texts: Collection[str] = ()) -> dict[str, Value]:
    """Inputs of a function from NAME=VALUE: JSON where it is that, else a text. Raises Mistyped.

    texts: inputs that are texts, also where what was typed looks like a number: a batch is called 4711.
    """
    split = [pair_of(pair, form="NAME=VALUE, such as position=120") for pair in pairs]
    values = {name: _json(text) for name, text in split}
    return {name: text if name in texts and not isinstance(values[name], str) else values[name] for name, text in split}


def pair_of(pair: str, *, form: str) -> tuple[str, str]:
    """What stands before and behind the first `=`. form: what is right, for who has typed another. Raises Mistyped."""
    name, separator, text = pair.partition("=")
    if not separator or not name:
        raise Mistyped(f"{pair!r} is no {form}")
    return name, text


def _finite(text: str) -> float:
    """Raises ValueError: NaN, Infinity and 1e999 are no numbers to a machine, and no message holds them."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _json(text: str) -> Value:
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):  # a text, then; the service says if it wants something else
        return text
    return value if isinstance(value, bool | int | float | str | list) else text
