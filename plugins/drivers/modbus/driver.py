"""The Modbus driver: opens devices, over lines that they may share, and keeps in mind what they have refused."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

from pydantic import BaseModel

from contracts.v1.device import ValueType
from plugins.api.clock import Clock
from plugins.api.driver import Complaint, Device, DeviceSpec, GroupSpec, TagSpec
from plugins.api.scan import PlaceFinding, UnitFinding

from .check import complaints
from .codec import register_field
from .config import Connection, Group, Tag
from .device import ModbusDevice, Target
from .endpoint import endpoint_of
from .group import GroupReads
from .lines import Lines
from .link import Link
from .refused import Refusals
from .scan import scan_places, scan_units

# What pymodbus has to say of bytes and ports, a DeviceError says to who can act on it.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class ModbusDriver:
    """The plugin's entry. See plugins.api.driver.Driver."""

    connection: type[BaseModel] = Connection
    group: type[BaseModel] = Group
    tag: type[BaseModel] = Tag

    def __init__(self) -> None:
        self._lines = Lines()
        self._refusals: dict[tuple[str, int], Refusals] = {}

    def value_type(self, tag: BaseModel) -> ValueType | None:
        """Registers do not tell: the device file's `type` does."""
        return None

    def check(self, device: DeviceSpec) -> Sequence[Complaint]:
        """Every fault that the models cannot see."""
        return tuple(complaints(device))

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """Connects on entry (DeviceError) and closes on exit. The spec has passed check().

        Devices that name the same endpoint share a connection, which the last of them closes.
        """
        return self._opened(device, clock)

    def scan_units(self, connection: BaseModel, units: Sequence[int], *, pause_s: float) -> AsyncIterator[UnitFinding]:
        """See plugins.api.scan.Scans."""
        return scan_units(cast("Connection", connection), units, pause_s=pause_s)

    def scan_places(
        self, connection: BaseModel, unit: int, places: str, *, pause_s: float
    ) -> AsyncIterator[Sequence[PlaceFinding]]:
        """See plugins.api.scan.Scans."""
        return scan_places(cast("Connection", connection), unit, places, pause_s=pause_s)

    @asynccontextmanager
    async def _opened(self, device: DeviceSpec, clock: Clock) -> AsyncIterator[Device]:
        connection: Connection = device.connection
        endpoint = endpoint_of(connection, device.folder)
        groups = {}
        for group in device.groups:
            unit = _unit(group, connection)
            refusals = self._refusals.setdefault((endpoint.place, unit), Refusals())
            groups[group.name] = GroupReads(group=group, connection=connection, unit=unit, refusals=refusals)
        targets = {tag.name: _target(tag, _unit(group, connection)) for group in device.groups for tag in group.tags}
        async with self._lines.line(endpoint, timeout_s=connection.timeout) as line:
            link = Link(line=line, timeout_s=connection.timeout, retries=connection.retries)
            yield ModbusDevice(link=link, connection=connection, groups=groups, targets=targets, clock=clock)


DRIVER = ModbusDriver()


def _target(tag: TagSpec, unit: int) -> Target:
    source: Tag = tag.source
    table = source.address.table
    return Target(table, unit, source.address.number, None if table.of_bits else register_field(tag.type, source))


def _unit(group: GroupSpec, connection: Connection) -> int:
    unit = group.options.unit_id if group.options.unit_id is not None else connection.unit_id
    if unit is None:
        raise ValueError(f"group {group.name} has no unit_id; check() complains about that")
    return int(unit)
