"""Looks which units answer, and which of their addresses can be read. Never writes."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import closing

from plugins.api.driver import DeviceError
from plugins.api.scan import PlaceFinding, UnitFinding

from .address import LAST_ADDRESS, Table
from .config import Connection
from .endpoint import endpoint_of, open_line
from .line import Line, Silence
from .link import Link
from .request import EXCEPTION_NAMES, ILLEGAL_ADDRESS_CODES, Refusal, read_request

_PLACES = re.compile(r"^(holding|input|coil|discrete):(\d{1,5})(?:-(\d{1,5}))?$")
_REGISTERS_AT_ONCE = 100
_BITS_AT_ONCE = 500
_CONNECTING_S = 3.0
"""Least time for connecting, however short a unit's answers may take."""


async def scan_units(connection: Connection, units: Sequence[int], *, pause_s: float) -> AsyncIterator[UnitFinding]:
    """Reads holding register 0 of each unit: even a refusal of that is an answer. See plugins.api.scan.Scans."""
    with closing(_Links(connection)) as links:
        for place, unit in enumerate(units):
            if place:
                await asyncio.sleep(pause_s)
            yield await _tried(await links.link(), unit)


async def _tried(link: Link, unit: int) -> UnitFinding:
    try:
        data = await link.read(read_request(unit, Table.HOLDING, 0, 1))
    except Refusal as refusal:
        return UnitFinding(unit, True, f"answers, but not for holding:0: {refusal}")
    except Silence:
        return UnitFinding(unit, False, "no answer")
    except DeviceError as error:
        if error.lost:  # some hang up on who asks for a unit that they do not have
            return UnitFinding(unit, False, "no answer: the connection was closed")
        return UnitFinding(unit, error.code is None, str(error))
    return UnitFinding(unit, True, f"holding:0 = {int.from_bytes(data, 'big')}")


async def scan_places(
    connection: Connection, unit: int, places: str, *, pause_s: float
) -> AsyncIterator[Sequence[PlaceFinding]]:
    """Reads as much at once as the unit gives; what it refuses is halved. See plugins.api.scan.Scans."""
    table, first, last = _parsed(places)
    bits, registers = min(connection.max_bits, _BITS_AT_ONCE), min(connection.max_registers, _REGISTERS_AT_ONCE)
    most = bits if table.of_bits else registers
    waiting = [(start, min(most, last + 1 - start)) for start in range(first, last + 1, most)][::-1]
    with closing(_Links(connection)) as links:
        while waiting:
            start, count = waiting.pop()
            try:
                data = await (await links.link()).read(read_request(unit, table, start, count))
            except Refusal as refusal:
                if count > 1 and refusal.code in ILLEGAL_ADDRESS_CODES:
                    half = count // 2
                    waiting += [(start + half, count - half), (start, half)]
                else:
                    why = EXCEPTION_NAMES.get(refusal.code, f"exception {refusal.code}")
                    yield [PlaceFinding(f"{table}:{start + place}", None, why) for place in range(count)]
            else:
                raw = _raw(table, data, count)
                yield [PlaceFinding(f"{table}:{start + place}", value) for place, value in enumerate(raw)]
            if waiting:
                await asyncio.sleep(pause_s)


def _parsed(places: str) -> tuple[Table, int, int]:
    found = _PLACES.match(places.strip())
    if not found:
        raise ValueError(f"{places!r} is no range of addresses; write a table and two numbers, such as holding:0-200")
    first, last = int(found[2]), int(found[3] or found[2])
    if not first <= last <= LAST_ADDRESS:
        raise ValueError(f"{places!r} is no range of addresses; they go from 0 up to {LAST_ADDRESS}")
    return Table(found[1]), first, last


def _raw(table: Table, data: bytes, count: int) -> list[int]:
    if table.of_bits:
        return [data[place // 8] >> place % 8 & 1 for place in range(count)]
    return [int.from_bytes(data[place : place + 2], "big") for place in range(0, 2 * count, 2)]


class _Links:
    """Links over a line that is opened anew when it is lost: a row of silent units looks like a dead connection."""

    def __init__(self, connection: Connection) -> None:
        self._endpoint = endpoint_of(connection)
        self._connection = connection
        self._line: Line | None = None

    async def link(self) -> Link:
        """A link over an open line. Raises DeviceError."""
        if self._line is None or self._line.lost:
            self._line = await open_line(self._endpoint, timeout_s=max(self._connection.timeout, _CONNECTING_S))
        return Link(line=self._line, timeout_s=self._connection.timeout, retries=self._connection.retries)

    def close(self) -> None:
        """Closes the line."""
        if self._line is not None:
            self._line.close()
