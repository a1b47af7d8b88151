"""What the polls of a device will take, by the plan that it will be read by and the time of a character on its line."""

import math
from collections.abc import Mapping

from plugins.api.driver import DeviceSpec, GroupSpec, PollLoad

from .config import Connection
from .endpoint import serial_silence_s
from .group import GroupReads
from .refused import Refusals

_ASKED = 8
"""Characters of a read request: unit, function, address, count and the checksum (MODBUS over Serial Line, 2.5.1)."""
_ROUND = 3
"""Of an answer beside its data and function: unit and checksum."""


def poll_loads(device: DeviceSpec, *, answer_s: float) -> Mapping[str, PollLoad]:
    """See plugins.api.driver.Estimates. A device that has refused nothing yet is taken for granted."""
    return {group.name: _load(group, device.connection, answer_s) for group in device.groups}


def _load(group: GroupSpec, connection: Connection, answer_s: float) -> PollLoad:
    unit = group.options.unit_id if group.options.unit_id is not None else connection.unit_id
    reads = GroupReads(group=group, connection=connection, unit=unit or 0, refusals=Refusals())
    sizes = [part.request.size for part in reads.parts]
    port = connection.serial
    if port is not None:
        silence_s = serial_silence_s(port, connection.pause)
        characters = sum(_ASKED + _ROUND + size for size in sizes)
        seconds = characters * port.character_s + len(sizes) * (2 * silence_s + answer_s)
    elif connection.transport.half_duplex:
        seconds = len(sizes) * (answer_s + connection.pause)
    else:
        seconds = math.ceil(len(sizes) / connection.in_flight) * answer_s
    return PollLoad(len(sizes), seconds)
