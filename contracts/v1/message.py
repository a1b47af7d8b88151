"""What every v1 message has in common: frozen, tolerant of fields that a newer writer adds, absent rather than null.

A model is built when it is first used: of forty, a service uses a few.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, StrictStr

from contracts.topic import LEVEL_PATTERN

LAST_SAFE_INTEGER = 2**53 - 1

Level = Annotated[str, Field(pattern=f"^{LEVEL_PATTERN}$")]
"""A name that may stand as one level of a topic."""

Count = Annotated[int, Field(ge=0, le=LAST_SAFE_INTEGER)]
Ordinal = Annotated[int, Field(ge=1, le=LAST_SAFE_INTEGER)]
"""A number that counts from 1. No whole number of ours is longer than a JavaScript reader, or a database, takes."""
Micros = Annotated[int, Field(ge=0, le=LAST_SAFE_INTEGER, description="microseconds since 1970 UTC")]
Millis = Annotated[int, Field(ge=0, le=LAST_SAFE_INTEGER, description="milliseconds since 1970 UTC")]

Number = StrictInt | Annotated[FiniteFloat, Field(strict=True)]
Scalar = StrictBool | Number | StrictStr
Value = Scalar | list[Number] | None
"""A tag's value. The JSON form of a number is its type for ever: a float has a point or an exponent, an integer never.
Integers beyond 2^53 - 1 travel as strings (contracts/decisions/0002): a JavaScript reader would round them."""


class Message(BaseModel):
    """A message whose readers ignore unknown fields: within v1 a newer writer may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, ser_json_inf_nan="null", defer_build=True)


class CommandMessage(BaseModel):
    """A message that asks for something: an unknown field is refused, since to ignore it could do harm."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


def is_absent(value: object) -> bool:
    """True for an optional field that was not set; it is then left out of the JSON."""
    return value is None
