"""What a servo axis adds to a device file: the axis's limits, and which of its signals a tag shows."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.v1.device import ValueType


class Signal(StrEnum):
    """What the axis tells of itself."""

    POSITION = "position"
    VELOCITY = "velocity"
    TORQUE = "torque"
    TARGET = "target"
    MOVING = "moving"
    HOMED = "homed"

    @property
    def type(self) -> ValueType:
        """bool for the two states, float64 for the rest."""
        return ValueType.BOOL if self in {Signal.MOVING, Signal.HOMED} else ValueType.FLOAT64


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Connection(_Fields):
    """The axis. Lengths in mm, times in s, inertia as torque per acceleration in Nm per mm/s²."""

    lowest: float = 0.0
    highest: float = 500.0
    velocity: Annotated[float, Field(gt=0)] = 200.0
    acceleration: Annotated[float, Field(gt=0)] = 1000.0
    inertia: Annotated[float, Field(gt=0)] = 0.002

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.lowest > 0 or self.highest <= 0:
            raise ValueError("the reference at 0 lies outside the range; write lowest: 0 or less, highest above 0")
        return self


class Group(_Fields):
    """Nothing beyond what every group has."""


class Tag(_Fields):
    """Which signal of the axis the tag shows. Only `target` can be written: the axis then moves there."""

    signal: Signal
