"""What a driver of a field bus may offer beside devices: looking what there is, without a device file. Never writes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class UnitFinding:
    """Whether a unit answers. detail: what it said, or why it is taken for absent."""

    unit: int
    answers: bool
    detail: str


@dataclass(frozen=True, slots=True)
class PlaceFinding:
    """One address of a unit, as in a device file. raw: the register or bit there, None where it is refused.

    refused: the device's reason.
    """

    address: str
    raw: int | None
    refused: str = ""


@runtime_checkable
class Scans(Protocol):
    """A driver whose devices share a line and have addresses that can be tried one after the other."""

    def scan_units(self, connection: BaseModel, units: Sequence[int], *, pause_s: float) -> AsyncIterator[UnitFinding]:
        """Asks each unit for one thing, and says at once what came of it. pause_s: between two requests.

        Raises DeviceError if there is no connection.
        """
        ...

    def scan_places(
        self, connection: BaseModel, unit: int, places: str, *, pause_s: float
    ) -> AsyncIterator[Sequence[PlaceFinding]]:
        """Reads a range of addresses, such as holding:0-200, and gives some at a time, in order of the addresses.

        Raises ValueError if `places` is no range, DeviceError if there is no connection or the unit does not answer.
        """
        ...
