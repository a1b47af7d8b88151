"""Functions and their ports: what a device, a compute plugin or a pipeline takes and gives by name."""

from typing import Annotated, Literal

from pydantic import Field

from contracts.v1.message import Level, Message, Number, is_absent

PortType = Literal["number", "integer", "boolean", "string", "array", "object"]


class PortInfo(Message):
    """A named input or output.

    type: a JSON type name. items: of an array, the type of each of its items; absent means any.
    range: lowest and highest accepted value.
    """

    type: PortType
    items: Literal["number", "integer", "boolean", "string"] | None = Field(default=None, exclude_if=is_absent)
    title: str = ""
    unit: str | None = Field(default=None, exclude_if=is_absent)
    range: tuple[Number, Number] | None = Field(default=None, exclude_if=is_absent)
    optional: bool = False


class FunctionInfo(Message):
    """A function with its ports. timeout_s: how long it may take. pure: the same inputs give the same outputs."""

    title: str
    inputs: dict[Level, PortInfo] = Field(default_factory=dict)
    outputs: dict[Level, PortInfo] = Field(default_factory=dict)
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(default=None, exclude_if=is_absent)
    pure: bool | None = Field(default=None, exclude_if=is_absent)
