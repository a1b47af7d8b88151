"""A driver with a bug that tests switch on by making a file."""

from pathlib import Path

from tests.plain_driver import Fields, PlainDevice, PlainDriver


class Connection(Fields):
    bug: Path


class Device(PlainDevice):
    async def read(self, group):
        if self._spec.connection.bug.exists():
            return {}["no such key"]
        return await super().read(group)


class Driver(PlainDriver):
    connection = Connection
    device = Device


DRIVER = Driver()
