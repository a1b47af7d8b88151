"""The Modbus TCP driver: plans each group once, reads its blocks when asked, writes one tag at a time."""

import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel

from contracts.v1.device import ValueType
from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.clock import Clock
from plugins.api.driver import Complaint, Device, DeviceError, DeviceSpec, GroupSpec, Reading, TagSpec, Value

from .check import complaints
from .codec import CodecError, Decode, Field, bit_decoder, encode, register_decoder, register_field
from .config import Connection, Group, Table, Tag
from .link import Link, Refusal
from .plan import Block, Limits, Span, plan


@dataclass(frozen=True, slots=True)
class _Request:
    """One block and how its answer is decoded."""

    table: Table
    unit: int
    start: int
    count: int
    tags: tuple[str, ...]
    decode: Decode


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a tag is written. field: None for a coil."""

    table: Table
    unit: int
    address: int
    field: Field | None


class ModbusDevice:
    """An open Modbus device. See plugins.api.driver.Device."""

    def __init__(
        self,
        *,
        link: Link,
        requests: Mapping[str, Sequence[_Request]],
        targets: Mapping[str, _Target],
        clock: Clock,
    ) -> None:
        self._link = link
        self._requests = requests
        self._targets = targets
        self._clock = clock

    async def read(self, group: str) -> Reading:
        """All tags of the group. A block that the device refuses makes its tags bad, cause `device`, with the code.

        Raises DeviceError if one of the requests gets no answer, or one that is not to the point.
        """
        values: dict[str, Value] = {}
        quality: dict[str, QualityStruct] = {}
        for request in self._requests[group]:
            try:
                data = await self._link.read(request.table, request.unit, request.start, request.count)
            except Refusal as refusal:
                refused = QualityStruct(BAD, "device", refusal.code)
                values.update(dict.fromkeys(request.tags))
                quality.update(dict.fromkeys(request.tags, refused))
            else:
                request.decode(data, values, quality)
        return Reading(self._clock.now_us(), values, quality)

    async def write(self, tag: str, value: Value) -> None:
        """Writes the tag once: function 5, 6, 16, or 22 for a bit in a register.

        Raises DeviceError: cause `range` if the value does not fit into the registers (nothing is sent then), `device`
        with the code if the device refuses, `comm` if it does not answer.
        """
        target = self._targets[tag]
        try:
            await self._send(target, value)
        except CodecError as error:
            raise DeviceError(f"{tag}: {error}", cause="range") from error
        except Refusal as refusal:
            message = f"{tag} at {target.table}:{target.address}: {refusal}"
            raise DeviceError(message, cause="device", code=refusal.code) from refusal

    async def _send(self, target: _Target, value: Value) -> None:
        if target.field is None:
            if not isinstance(value, bool):
                raise CodecError(f"{value!r} is no bool")
            await self._link.write_coil(target.unit, target.address, on=value)
            return
        data = encode(target.field, value)
        registers = list(struct.unpack(f">{len(data) // 2}H", data))
        if target.field.kind is ValueType.BOOL:
            (mask,) = struct.unpack(">H", encode(target.field, True))
            await self._link.write_register_bit(target.unit, target.address, mask, on=bool(value))
        else:
            await self._link.write_registers(target.unit, target.address, registers)


class ModbusDriver:
    """The plugin's entry. See plugins.api.driver.Driver."""

    connection: type[BaseModel] = Connection
    group: type[BaseModel] = Group
    tag: type[BaseModel] = Tag

    def value_type(self, tag: BaseModel) -> ValueType | None:
        """Registers do not tell: the device file's `type` does."""
        return None

    def check(self, device: DeviceSpec) -> Sequence[Complaint]:
        """Every fault that the models cannot see."""
        return tuple(complaints(device))

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """Connects on entry (DeviceError) and closes on exit. The spec has passed check()."""
        return _opened(device, clock)


DRIVER = ModbusDriver()


@asynccontextmanager
async def _opened(device: DeviceSpec, clock: Clock) -> AsyncIterator[Device]:
    connection: Connection = device.connection
    link = Link(connection)
    requests = {group.name: tuple(_requests(group, connection)) for group in device.groups}
    targets = {tag.name: _target(tag, _unit(group, connection)) for group in device.groups for tag in group.tags}
    try:
        await link.connect()
        yield ModbusDevice(link=link, requests=requests, targets=targets, clock=clock)
    finally:
        link.close()


def _requests(group: GroupSpec, connection: Connection) -> Iterator[_Request]:
    tags = {tag.name: tag for tag in group.tags}
    limits = Limits(max_registers=connection.max_registers, max_bits=connection.max_bits, max_gap=connection.max_gap)
    unit = _unit(group, connection)
    for block in plan((_span(tag, unit) for tag in group.tags), limits):
        names = tuple(span.tag for span in block.spans)
        yield _Request(block.table, block.unit, block.start, block.count, names, _decoder(block, tags))


def _decoder(block: Block, tags: Mapping[str, TagSpec]) -> Decode:
    places = [(span.tag, span.start - block.start) for span in block.spans]
    if block.table.of_bits:
        return bit_decoder(places)
    return register_decoder((name, place, register_field(tags[name].type, tags[name].source)) for name, place in places)


def _span(tag: TagSpec, unit: int) -> Span:
    source: Tag = tag.source
    table = source.address.table
    count = 1 if table.of_bits else register_field(tag.type, source).words
    return Span(unit=unit, table=table, start=source.address.number, count=count, tag=tag.name)


def _target(tag: TagSpec, unit: int) -> _Target:
    source: Tag = tag.source
    table = source.address.table
    return _Target(table, unit, source.address.number, None if table.of_bits else register_field(tag.type, source))


def _unit(group: GroupSpec, connection: Connection) -> int:
    unit = group.options.unit_id if group.options.unit_id is not None else connection.unit_id
    if unit is None:
        raise ValueError(f"group {group.name} has no unit_id; check() complains about that")
    return int(unit)
