"""A driver with a bug that tests switch on by making a file."""

from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from plugins.api.driver import Reading


class Connection(BaseModel):
    model_config = ConfigDict(extra="forbid")
    bug: Path


class Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Device:
    def __init__(self, spec, clock):
        self._spec = spec
        self._clock = clock

    async def read(self, group):
        if self._spec.connection.bug.exists():
            return {}["no such key"]
        tags = next(one.tags for one in self._spec.groups if one.name == group)
        return Reading(self._clock.now_us(), {tag.name: 1.0 for tag in tags})

    async def write(self, tag, value):
        raise AssertionError("nobody writes")


class Driver:
    connection = Connection
    group = Fields
    tag = Fields

    def value_type(self, tag):
        return None

    def check(self, device):
        return ()

    @asynccontextmanager
    async def open(self, device, *, clock):
        yield Device(device, clock)


DRIVER = Driver()
