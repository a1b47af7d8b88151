"""What a compute service is told at its start."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

import plugins
from contracts.v1.message import Level
from plugins.api.duration import Seconds
from services.runtime.settings import ServiceSettings

SECTION = "compute"
SHIPPED_FUNCTIONS = Path(plugins.__file__).parent / "functions"


class ComputeSettings(ServiceSettings):
    """The section `compute` of the settings.

    plugins: folders of functions beside the shipped. workers: processes that compute; as many as there are processors,
    but at most 4, unless given.
    queue: tasks that may wait for a worker; wait: how long each of them may, before its asker is told to ask another.
    timeout: after so long a function is given up and its worker killed, unless its plugin.yaml says otherwise.
    memory_mb: MiB that a function may take, unless its plugin.yaml says otherwise.
    cache: results that are kept; cache_bytes: of all of them together; cache_ttl: for how long.
    reload_every: how often the folders of the functions are looked at for changes, if reload_plugins is set; else they
    are loaded anew by command only.
    """

    instance: Level = "compute"
    data: Path = Path("data/compute")
    plugins: tuple[Path, ...] = ()
    backend: Literal["processes", "dask"] = "processes"
    scheduler: Annotated[str, Field(pattern=r"^(tcp|tls|ws|wss)://[^/\s]+$")] | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = min(4, os.cpu_count() or 1)
    queue: Annotated[int, Field(ge=0, le=10_000)] = 100
    wait: Annotated[Seconds, Field(gt=0, le=0.8)] = 0.5
    timeout: Annotated[Seconds, Field(gt=0)] = 300.0
    memory_mb: Annotated[int, Field(ge=16)] = 512
    cache: Annotated[int, Field(ge=0)] = 1000
    cache_bytes: Annotated[int, Field(ge=0)] = 64 << 20
    cache_ttl: Annotated[Seconds, Field(gt=0)] = 60.0
    reload_plugins: bool = False
    reload_every: Annotated[Seconds, Field(ge=0.01)] = 0.5
    drain_s: Annotated[float, Field(gt=0, le=600)] = 30.0

    @model_validator(mode="after")
    def _scheduler_of_dask(self) -> Self:
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError("scheduler is of the backend dask: set `backend: dask` too, or take it out")
        return self

    @property
    def function_folders(self) -> tuple[Path, ...]:
        """Where functions are looked for: the shipped ones, then the site's own."""
        return (SHIPPED_FUNCTIONS, *self.plugins)
