"""Between the model's attributes and what registers and variables hold: types, scales and limits. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Generic, TypeAlias, TypeVar

from contracts.v1.device import ValueType as T
from examples.plant.instruments import limited
from examples.plant.model import Plant
from examples.plant.signals import Node, Register

Held: TypeAlias = bool | int | float | str | list[float]
Signal = TypeVar("Signal", Register, Node)

BITS = {T.INT16: 16, T.UINT16: 16, T.INT32: 32, T.UINT32: 32, T.INT64: 64, T.UINT64: 64}
SIGNED = frozenset({T.INT16, T.INT32, T.INT64})


def held(value: object, kind: T, scale: float = 1.0) -> Held:
    """What a register or variable of this type holds for the model's value.

    Integers are rounded; signed ones are held to their range, unsigned ones, which count, begin again at 0.
    """
    if kind is T.BOOL:
        return bool(value)
    if kind is T.STRING:
        return str(value)
    if kind is T.ARRAY and isinstance(value, Iterable):
        return [float(item) for item in value]
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no {kind}")
    if kind not in BITS:
        return float(value)
    whole = round(value) if scale == 1.0 else round(value / scale)
    half = 1 << (BITS[kind] - 1)
    return int(limited(whole, -half, half - 1)) if kind in SIGNED else whole % (2 * half)


class Exchange(Generic[Signal]):
    """Gives what has changed in the model to a server, and what the server's clients write to the model."""

    def __init__(self, *, plant: Plant, signals: Sequence[Signal]) -> None:
        self._plant = plant
        self._signals: list[tuple[Signal, Callable[[Plant], object]]] = [(s, attrgetter(s.path)) for s in signals]
        self._served: dict[Signal, Held] = {}

    def changes(self) -> Iterator[tuple[Signal, Held]]:
        """Each signal whose content is no more what it was at the last call; at the first call, each."""
        for signal, attribute in self._signals:
            now = held(attribute(self._plant), signal.type, _scale(signal))
            if self._served.get(signal) != now:
                self._served[signal] = now
                yield signal, now

    def take(self, signal: Signal, value: Held | None) -> None:
        """A client wrote this (None: nothing usable). Where the model keeps something else, changes() says so next."""
        if value is None or isinstance(value, list) or not signal.writable:
            self._served.pop(signal, None)
            return
        self._served[signal] = value
        scale = _scale(signal)
        scaled = value * scale if scale != 1.0 and isinstance(value, int | float) else value
        self._plant.command(signal.path, scaled)


def _scale(signal: Register | Node) -> float:
    return signal.scale if isinstance(signal, Register) else 1.0
