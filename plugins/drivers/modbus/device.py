"""An open Modbus device: reads the blocks of a group when asked, and writes one tag at a time."""

import asyncio
import math
import struct
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from contracts.v1.device import ValueType
from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, DeviceSpec, GroupSpec, Reading, TagSpec, Value

from .address import Table
from .codec import CodecError, Field, encode, register_field
from .config import BitWrite, CoilWrite, Connection, RegisterWrite, Tag
from .group import GroupReads, Part
from .link import Link
from .refused import Refusals, narrowed
from .request import (
    BUSY,
    ILLEGAL_ADDRESS_CODES,
    ILLEGAL_FUNCTION,
    Refusal,
    mask_request,
    read_request,
    write_coil_request,
    write_registers_request,
)

_MOST_ASKS = 50
"""Requests that one poll makes at most to find what the device refuses; the next poll goes on from there."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tag is written. field: None for a coil."""

    table: Table
    unit: int
    address: int
    field: Field | None


class ModbusDevice:
    """An open Modbus device. See plugins.api.driver.Device, Lanes and Revises.

    refusals: what a unit, by its number, has refused so far.
    """

    def __init__(self, *, link: Link, spec: DeviceSpec, refusals: Callable[[int], Refusals], clock: Clock) -> None:
        self._link = link
        self._connection: Connection = spec.connection
        self._refusals = refusals
        self._clock = clock
        self._specs: dict[str, GroupSpec] = {}
        self._groups: dict[str, GroupReads] = {}
        self._targets: dict[str, Target] = {}
        self._follow(spec)

    async def revise(self, device: DeviceSpec) -> None:
        """Reads and writes by this spec from now on; groups that are equal in it keep what they have learned."""
        self._follow(device)

    def _follow(self, spec: DeviceSpec) -> None:
        before, groups, targets = self._specs, self._groups, self._targets
        self._specs = {group.name: group for group in spec.groups}
        self._groups, self._targets = {}, {}
        for group in spec.groups:
            if before.get(group.name) == group:
                self._groups[group.name] = groups[group.name]
                self._targets |= {tag.name: targets[tag.name] for tag in group.tags}
            else:
                unit = _unit(group, self._connection)
                self._groups[group.name] = GroupReads(
                    group=group, connection=self._connection, unit=unit, refusals=self._refusals(unit)
                )
                self._targets |= {tag.name: _target(tag, unit) for tag in group.tags}

    def lane(self, group: str) -> str:
        """Groups of one unit fail together."""
        return f"unit {self._groups[group].unit}"

    async def read(self, group: str) -> Reading:
        """All tags of the group. What the device refuses is bad, cause `device`, with the code; its neighbours are not.

        Raises DeviceError if one of the requests gets no answer, or one that is not to the point.
        """
        if self._link.rested:
            await self._link.wake()
        reads = self._groups[group]
        if reads.revision != reads.refusals.revision:
            reads.renew()
        testing = reads.learned and reads.test(self._clock.monotonic())
        values: dict[str, Value] = {}
        quality: dict[str, QualityStruct] = {}
        asks = _MOST_ASKS
        with closing(self._answers(reads.parts)) as answers:
            for part, answer in answers:
                try:
                    data = await self._link.result(part.request, answer)
                except Refusal as refusal:
                    testing = False
                    asks -= await self._refused(reads, part, refusal.code, asks, values, quality)
                else:
                    part.decode(data, values, quality)
        if testing:
            reads.refusals.clear()
        if reads.bad:
            values.update(dict.fromkeys(reads.bad))
            quality.update(reads.bad)
        return Reading(self._clock.now_us(), values, quality)

    def _answers(self, parts: Sequence[Part]) -> Generator[tuple[Part, asyncio.Future[bytes]], None, None]:
        """Each part with its answer on the way, and no more of them asked for ahead than may be in flight."""
        ahead = self._connection.in_flight
        under_way: deque[asyncio.Future[bytes]] = deque()
        try:
            for index, part in enumerate(parts):
                for early in parts[index + len(under_way) : index + ahead]:
                    under_way.append(self._link.ask(early.request))
                yield part, under_way.popleft()
        finally:
            for answer in under_way:
                answer.cancel()

    async def _refused(
        self,
        reads: GroupReads,
        part: Part,
        code: int,
        most: int,
        values: dict[str, Value],
        quality: dict[str, QualityStruct],
    ) -> int:
        """Reads what can be read of a refused request, and notes what cannot. Returns how many requests that took."""
        _spoil(part, code, values, quality)
        if code not in ILLEGAL_ADDRESS_CODES:
            return 0
        search = narrowed(part.request.table, part.spans, code, most=most)
        asks = 0
        answer: int | None = None
        try:
            spans = next(search)
            while True:
                asks += 1
                answer = await self._ask(reads.part(spans), values, quality)
                spans = search.send(answer)
        except StopIteration as end:
            for stretch in end.value:
                reads.refusals.note(stretch)
        return asks

    async def _ask(self, part: Part, values: dict[str, Value], quality: dict[str, QualityStruct]) -> int | None:
        """Reads a part of a refused request. The code if that is refused for its addresses, else None."""
        try:
            data = await self._link.read(part.request)
        except Refusal as refusal:
            _spoil(part, refusal.code, values, quality)
            return refusal.code if refusal.code in ILLEGAL_ADDRESS_CODES else None
        for tag in part.tags:
            del quality[tag]
        part.decode(data, values, quality)
        return None

    async def write(self, tag: str, value: Value) -> None:
        """Writes the tag once: a coil by function 5 or 15, registers by 6 or 16, a bit in a register by 22.

        Where the connection says so, a bit is written by reading its register and writing it back changed.
        Raises DeviceError: cause `range` if the value does not fit into the registers (nothing is sent then), `device`
        with the code if the device refuses, `busy` if it does so for now, `comm` if it does not answer.
        """
        await self.write_within(tag, value, seconds=math.inf)

    async def write_within(self, tag: str, value: Value, *, seconds: float) -> None:
        """See plugins.api.driver.Queues."""
        target = self._targets[tag]
        by = asyncio.get_running_loop().time() + seconds
        if self._link.rested:
            await self._wake_to_write()
        try:
            await self._send(target, value, by)
        except CodecError as error:
            raise DeviceError(f"{tag}: {error}", cause="range") from error
        except Refusal as refusal:
            message = f"{tag} at {target.table}:{target.address}: {refusal}{self._another_way(target, refusal.code)}"
            cause = "busy" if refusal.code == BUSY else "device"
            raise DeviceError(message, cause=cause, code=refusal.code) from refusal

    async def _wake_to_write(self) -> None:
        try:
            await self._link.wake()
        except DeviceError as error:  # by its cause: the value did not get there, and may be written later
            raise DeviceError(f"nothing was sent: {error}", cause="busy", lost=error.lost) from error

    def _another_way(self, target: Target, code: int) -> str:
        """What may help where the device does not know the function that the target is written by."""
        if code != ILLEGAL_FUNCTION:
            return ""
        connection, field = self._connection, target.field
        if field is None:
            other = CoilWrite.MULTIPLE if connection.write_coil is CoilWrite.SINGLE else CoilWrite.SINGLE
            return f"; another way to write a coil is write_coil: {other} in the connection"
        if field.kind is ValueType.BOOL and connection.write_bit is BitWrite.MASK:
            return f"; another way to write a bit is write_bit: {BitWrite.READ_MODIFY_WRITE} in the connection"
        if field.words > 1:
            return ""
        single = connection.write_register is RegisterWrite.SINGLE
        other_write = RegisterWrite.MULTIPLE if single else RegisterWrite.SINGLE
        return f"; another way to write a register is write_register: {other_write} in the connection"

    async def _send(self, target: Target, value: Value, by: float) -> None:
        unit, address = target.unit, target.address
        if target.field is None:
            if not isinstance(value, bool):
                raise CodecError(f"{value!r} is no bool")
            function = self._connection.write_coil
            await self._link.write(write_coil_request(unit, address, on=value, function=function), by=by)
        elif target.field.kind is ValueType.BOOL:
            encode(target.field, value)  # refuses what is no bool
            await self._send_bit(target, _registers(encode(target.field, True))[0], by, on=bool(value))
        else:
            await self._send_registers(target, _registers(encode(target.field, value)), by)

    async def _send_bit(self, target: Target, mask: int, by: float, *, on: bool) -> None:
        if self._connection.write_bit is BitWrite.MASK:
            await self._link.write(mask_request(target.unit, target.address, mask, on=on), by=by)
            return
        whole = read_request(target.unit, target.table, target.address, 1)
        (register,) = _registers(await self._link.read_before(whole, by))
        await self._send_registers(target, [register | mask if on else register & ~mask], by)

    async def _send_registers(self, target: Target, registers: list[int], by: float) -> None:
        function = self._connection.write_register
        request = write_registers_request(target.unit, target.address, registers, function=function)
        await self._link.write(request, by=by)


def _target(tag: TagSpec, unit: int) -> Target:
    source: Tag = tag.source
    table = source.address.table
    return Target(table, unit, source.address.number, None if table.of_bits else register_field(tag.type, source))


def _unit(group: GroupSpec, connection: Connection) -> int:
    unit = group.options.unit_id if group.options.unit_id is not None else connection.unit_id
    if unit is None:
        raise ValueError(f"group {group.name} has no unit_id; check() complains about that")
    return int(unit)


def _registers(data: bytes) -> list[int]:
    return list(struct.unpack(f">{len(data) // 2}H", data))


def _spoil(part: Part, code: int, values: dict[str, Value], quality: dict[str, QualityStruct]) -> None:
    values.update(dict.fromkeys(part.tags))
    quality.update(dict.fromkeys(part.tags, QualityStruct(BAD, "device", code)))
