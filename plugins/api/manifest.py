"""plugin.yaml: what a plugin says of itself before any of its code runs."""

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from contracts.v1.function import FunctionInfo, PortInfo
from contracts.v1.message import Level
from plugins.api.document import Document, DocumentError


class Port(PortInfo):
    """A named input or output of a function, as plugin.yaml and device files write it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class FunctionManifest(BaseModel):
    """A device function (of a driver) or a compute function, with its typed ports.

    timeout_s: after so many seconds it is given up; of a compute function its process is then killed.
    memory_mb: of a compute function, MiB that it may take beyond what its process held before.
    pure: of a compute function, whether equal inputs always give equal outputs and nothing else happens: then it may be
    computed again after a failure, and answered from a cache.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    title: str
    inputs: dict[Level, Port] = Field(default_factory=dict)
    outputs: dict[Level, Port] = Field(default_factory=dict)
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    memory_mb: Annotated[int, Field(ge=16)] | None = None
    pure: bool = True

    @property
    def info(self) -> FunctionInfo:
        """What the wire says of it."""
        return FunctionInfo(
            title=self.title,
            inputs=dict(self.inputs),
            outputs=dict(self.outputs),
            timeout_s=self.timeout_s,
            pure=self.pure,
        )


class Manifest(BaseModel):
    """The content of plugin.yaml. entry: `module:OBJECT` inside the plugin's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: Annotated[str, Field(pattern=r"^_?[a-z0-9][a-z0-9_-]{0,61}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    kind: Literal["driver", "function"]
    title: str
    description: str
    entry: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*$")]
    requires: list[str] = Field(default_factory=list, description="extras of dinrail that must be installed")
    functions: dict[Level, FunctionManifest] = Field(default_factory=dict, validate_default=True)

    @field_validator("functions", mode="after")
    @classmethod
    def _not_empty(cls, functions: dict[str, FunctionManifest], info: ValidationInfo) -> dict[str, FunctionManifest]:
        if info.data.get("kind") == "function" and not functions:
            raise ValueError("a plugin of kind function names none; write its functions with their outputs")
        return functions


@lru_cache(maxsize=256)  # each device file looks through all drivers, at some milliseconds for each
def parse_manifest(text: str, *, source: str) -> Manifest:
    """Raises DocumentError that names file, line and field of every fault."""
    document = Document.parse(text, source=source)
    try:
        return Manifest.model_validate(document.data)
    except ValidationError as error:
        raise DocumentError(document.faults_of(error, model=Manifest)) from None
