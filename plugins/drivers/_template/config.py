"""What the instrument adds to a device file: fields of the connection, of a group and of a tag."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from plugins.api.duration import Seconds


class _Fields(BaseModel):
    # A misspelt key must be told to the user, not ignored.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Connection(_Fields):
    """How to reach the instrument. timeout: of connecting, and of each question."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    timeout: Annotated[Seconds, Field(ge=0.05, le=60)] = 1.0


class Group(_Fields):
    """Nothing beyond what every group has."""


class Tag(_Fields):
    """Which of the instrument's quantities the tag shows, by the instrument's own name."""

    quantity: Annotated[str, Field(pattern=r"^\S+$")]
