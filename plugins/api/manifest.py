"""plugin.yaml: what a plugin says of itself before any of its code runs."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.v1.message import Level
from plugins.api.document import Document, DocumentError


class Port(BaseModel):
    """A named input or output of a function. type: a JSON type name; range: lowest and highest accepted value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["number", "integer", "boolean", "string", "array", "object"]
    title: str = ""
    unit: str | None = None
    range: tuple[float, float] | None = None
    optional: bool = False


class FunctionManifest(BaseModel):
    """A device function (of a driver) or a compute function, with its typed ports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    inputs: dict[Level, Port] = Field(default_factory=dict)
    outputs: dict[Level, Port] = Field(default_factory=dict)
    timeout_s: Annotated[float, Field(gt=0)] | None = None


class Manifest(BaseModel):
    """The content of plugin.yaml. entry: `module:OBJECT` inside the plugin's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^_?[a-z0-9][a-z0-9_-]{0,61}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    kind: Literal["driver", "function"]
    title: str
    description: str
    entry: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*$")]
    requires: list[str] = Field(default_factory=list, description="extras of dinrail that must be installed")
    functions: dict[Level, FunctionManifest] = Field(default_factory=dict)


def parse_manifest(text: str, *, source: str) -> Manifest:
    """Raises DocumentError that names file, line and field of every fault."""
    document = Document.parse(text, source=source)
    try:
        return Manifest.model_validate(document.data)
    except ValidationError as error:
        raise DocumentError(document.faults_of(error, model=Manifest)) from None
