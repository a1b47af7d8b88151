"""What each driver must have, for drivers of tests that have but one thing of their own."""

from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict

from plugins.api.driver import Reading


def manifest(plugin):
    """The plugin.yaml of a driver with this id."""
    told = f"id: {plugin}\nversion: 1.0.0\nkind: driver\ntitle: {plugin.capitalize()}\n"
    return f"{told}description: A driver of a test.\nentry: driver:DRIVER\n"


class Fields(BaseModel):
    """No fields at all."""

    model_config = ConfigDict(extra="forbid")


class PlainDevice:
    """Every tag is always `constant`, and nobody writes."""

    constant = 1.0

    def __init__(self, spec, clock):
        self._spec = spec
        self._clock = clock

    async def read(self, group):
        tags = next(one.tags for one in self._spec.groups if one.name == group)
        return Reading(self._clock.now_us(), {tag.name: self.constant for tag in tags})

    async def write(self, tag, value):
        raise AssertionError("nobody writes")


class PlainDriver:
    """Any device file without fields of its own is right."""

    connection = group = tag = Fields
    device = PlainDevice

    def value_type(self, tag):
        return None

    def check(self, device):
        return ()

    @asynccontextmanager
    async def open(self, device, *, clock):
        yield self.device(device, clock)
