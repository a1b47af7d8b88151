"""Whether inputs and outputs are what the ports of a function promise. Pure; used by who asks and by who computes."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from sys import float_info
from typing import Any, Protocol

_SHOWN = 60
"""Characters of a wrong value that a fault shows."""
_DEEPEST = 20
"""Levels of lists and maps in a value."""
_LARGEST = int(float_info.max)
"""Python's integers go further; what reads a number as a float does not."""
_KINDS: Mapping[str, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "string": (str,),
    "array": (list, tuple),
    "object": (dict,),
}
_ITEMS: Mapping[str, frozenset[type]] = {name: frozenset(kinds) for name, kinds in _KINDS.items()}
_FLOATS = frozenset((float,))


class PortLike(Protocol):
    """What is looked at of a port: see contracts.v1.function.PortInfo, which need not be imported for it."""

    @property
    def type(self) -> str:
        """The name of a JSON type."""
        ...

    @property
    def items(self) -> str | None:
        """The type of an array's items."""
        ...

    @property
    def unit(self) -> str | None:
        """Shown in faults."""
        ...

    @property
    def range(self) -> tuple[float, float] | None:
        """Lowest and highest value."""
        ...

    @property
    def optional(self) -> bool:
        """Whether it may be absent."""
        ...


def check_inputs(ports: Mapping[str, PortLike], inputs: Mapping[str, Any]) -> list[str]:
    """What is wrong with the inputs, a line each; an optional one may be absent or None."""
    return list(_faults("input", ports, inputs))


def check_outputs(ports: Mapping[str, PortLike], outputs: Mapping[str, Any]) -> list[str]:
    """What is wrong with the outputs, a line each; an optional one may be absent or None."""
    return list(_faults("output", ports, outputs))


def taken_inputs(ports: Mapping[str, PortLike], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Right inputs as a function takes them: a number is a float, and what is None is absent."""
    return {
        name: float(value) if ports[name].type == "number" else value
        for name, value in inputs.items()
        if value is not None
    }


def _faults(side: str, ports: Mapping[str, PortLike], given: Mapping[str, Any]) -> Iterator[str]:
    for name in given:
        if name not in ports:
            near = get_close_matches(name, ports, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(ports) or 'none'}"
            yield f"there is no {side} {name!r}; {hint}"
    for name, port in ports.items():
        value = given.get(name)
        if value is not None:
            fault = _fault(value, port)
            if fault is not None:
                yield f"{side} {name!r}: {fault}"
        elif not port.optional:
            yield f"the {side} {name!r} is missing"


def _fault(value: object, port: PortLike) -> str | None:
    if not _is_a(value, port.type):
        return f"{_shown(value)} is not of type {port.type}"
    if not _is_json(value):
        return _not_json(value)
    if port.items is not None and isinstance(value, list | tuple) and not _ITEMS[port.items].issuperset(_types(value)):
        for index, item in enumerate(value):
            if not _is_a(item, port.items):
                return f"{_shown(item)} at {index} is not of type {port.items}"
    if port.range and isinstance(value, int | float) and not port.range[0] <= value <= port.range[1]:
        low, high = port.range
        return f"{value!r} is outside its range: {low:g} to {high:g} {port.unit or ''}".rstrip()
    return None


def _not_json(value: object) -> str:
    """What of the value cannot travel as JSON: of a list, the first item that cannot, and its place."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if not _is_json(item, 1):
                return f"{_shown(item)} at {index} is no plain JSON value, or a number in it is not finite"
    return f"{_shown(value)} is no plain JSON value, or a number in it is not finite"


def _is_a(value: object, kind: str) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _types(items: list[Any] | tuple[Any, ...]) -> set[type]:
    """Those of the items. A set of them is made at once; to look at each of a long array takes seven times as long."""
    return set(map(type, items))


def _is_json(value: object, depth: int = 0) -> bool:
    """Whether it can travel as JSON: numbers are finite, keys are texts."""
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        if _types(value) == _FLOATS:
            return all(map(isfinite, value))  # most arrays are long and of floats
        return all(_is_json(item, depth + 1) for item in value)
    if isinstance(value, dict) and depth < _DEEPEST:
        return all(isinstance(key, str) and _is_json(item, depth + 1) for key, item in value.items())
    if isinstance(value, int):
        return abs(value) <= _LARGEST
    return value is None or isinstance(value, str)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
