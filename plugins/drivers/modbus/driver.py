"""The Modbus driver: opens devices, over lines that they may share, and keeps in mind what they have refused."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

from pydantic import BaseModel

from contracts.v1.device import ValueType
from plugins.api.clock import Clock
from plugins.api.driver import Complaint, Device, DeviceSpec, PollLoad
from plugins.api.scan import PlaceFinding, UnitFinding

from .check import complaints
from .config import Connection, Group, Tag
from .device import ModbusDevice
from .endpoint import endpoint_of
from .lines import Lines
from .link import Link
from .load import poll_loads
from .refused import Refusals
from .scan import scan_places, scan_units

# What pymodbus has to say of bytes and ports, a DeviceError says to who can act on it.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class ModbusDriver:
    """The plugin's entry. See plugins.api.driver.Driver, Shares and Estimates."""

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

    def place(self, device: DeviceSpec) -> str:
        """The serial port, or host and port: many an RTU gateway takes a single client."""
        return endpoint_of(device.connection, device.folder).place

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """Connects on entry (DeviceError) and closes on exit. The spec has passed check().

        Devices that name the same endpoint share a connection, which the last of them closes.
        """
        return self._opened(device, clock)

    def poll_loads(self, device: DeviceSpec, *, answer_s: float) -> Mapping[str, PollLoad]:
        """See plugins.api.driver.Estimates."""
        return poll_loads(device, answer_s=answer_s)

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

        def refusals(unit: int) -> Refusals:
            """What was learned of the unit, 0 to 255, by any device at this place since the driver was loaded."""
            return self._refusals.setdefault((endpoint.place, unit), Refusals())

        async with self._lines.line(endpoint) as shared:
            line, timeout_s = await shared.opened(connection.timeout), connection.timeout
            link = Link(line=line, timeout_s=timeout_s, retries=connection.retries, opened=shared.opened)
            yield ModbusDevice(link=link, spec=device, refusals=refusals, clock=clock)


DRIVER = ModbusDriver()
