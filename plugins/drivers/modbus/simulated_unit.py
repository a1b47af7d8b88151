"""One simulated Modbus unit: four tables, the functions that read and write them, and faults to switch on.

No sockets here: a request's bytes in, the answer's bytes out. simulator.py puts units behind a port.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from contracts.v1.device import ValueType
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Value

from .address import Address, Table, parse_address
from .codec import encode, register_decoder, register_field
from .config import MAX_BITS, MAX_REGISTERS, MAX_REGISTERS_WRITTEN, Tag

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
SIZE = 65536
COIL_ON = b"\xff\x00"
COIL_OFF = b"\x00\x00"
_PAIR = struct.Struct(">HH")
_MOST_REMEMBERED = 100
_MAX_COILS_WRITTEN = 1968  # V1.1b3, 6.11


class Registers:
    """65,536 registers of 16 bits, all 0 at first: `registers[10] = 4711`."""

    def __init__(self) -> None:
        self._data = bytearray(2 * SIZE)

    def __getitem__(self, address: int) -> int:
        return int.from_bytes(self.get(address, 1), "big")

    def __setitem__(self, address: int, value: int) -> None:
        self.put(address, value.to_bytes(2, "big"))

    def get(self, address: int, count: int) -> bytes:
        """`count` registers as they travel, high byte first."""
        return bytes(self._data[2 * address : 2 * (address + count)])

    def put(self, address: int, data: bytes) -> None:
        """Sets the registers from `address` on to these bytes, high byte first. Raises IndexError past the last one."""
        if address < 0 or 2 * address + len(data) > 2 * SIZE:
            raise IndexError(f"{len(data) // 2} registers from {address} on run beyond {SIZE - 1}")
        self._data[2 * address : 2 * address + len(data)] = data


class Bits:
    """65,536 bits, all off at first: `bits[3] = True`."""

    def __init__(self) -> None:
        self._data = bytearray(SIZE)

    def __getitem__(self, address: int) -> bool:
        return bool(self._data[address])

    def __setitem__(self, address: int, on: bool) -> None:
        self._data[address] = bool(on)

    def get(self, address: int, count: int) -> bytes:
        """`count` bits packed as they travel: the first is the lowest of the first byte (V1.1b3, 6.1)."""
        bits = self._data[address : address + count]
        packed = 0
        for place in range(8):
            # Each byte here is 0 or 1, so every eighth of them, taken as one number, is one bit of each packed byte.
            packed |= int.from_bytes(bits[place::8], "little") << place
        return packed.to_bytes((count + 7) // 8, "little")


@dataclass(frozen=True, slots=True)
class Access:
    """A read or a write that a unit has been asked for: table, first address, how many registers or bits."""

    table: Table
    address: int
    count: int


class _IllegalRequest(Exception):
    """The request is answered with this exception code."""

    def __init__(self, code: int) -> None:
        self.code = code


class Unit:
    """A unit with its tables: `holding` and `input` of registers, `coil` and `discrete` of bits.

    on_read: called before a read is answered; what it sets is already in the answer. on_write: called after a write.
    reads, writes: requests so far, refused ones too. functions: codes of the last hundred of them. asked: set by every
    request; clear it to wait for the next.

    Faults: silent (takes requests, answers none and does nothing), delay_s (answers so late, in order),
    tamper (has the last word on each answer: function code, then data), refuse().
    """

    def __init__(self) -> None:
        self.holding = Registers()
        self.input = Registers()
        self.coil = Bits()
        self.discrete = Bits()
        self.on_read: Callable[[Access], None] | None = None
        self.on_write: Callable[[Access], None] | None = None
        self.reads = 0
        self.writes = 0
        self.functions: deque[int] = deque(maxlen=_MOST_REMEMBERED)
        self.asked = asyncio.Event()
        self.silent = False
        self.delay_s = 0.0
        self.tamper: Callable[[bytes], bytes] | None = None
        self._refused: list[tuple[Access, int]] = []
        self._functions: dict[int, Callable[[bytes], bytes]] = {
            1: lambda body: self._read_bits(body, Table.COIL, self.coil),
            2: lambda body: self._read_bits(body, Table.DISCRETE, self.discrete),
            3: lambda body: self._read_registers(body, Table.HOLDING, self.holding),
            4: lambda body: self._read_registers(body, Table.INPUT, self.input),
            5: self._write_coil,
            6: self._write_register,
            15: self._write_coils,
            16: self._write_registers,
            22: self._mask_register,
        }

    def refuse(self, address: str, count: int = 1, *, code: int = ILLEGAL_ADDRESS) -> None:
        """From now on every request that touches these addresses is answered with the exception."""
        place = parse_address(address)
        self._refused.append((Access(place.table, place.number, count), code))

    def accept(self) -> None:
        """Takes back every refuse()."""
        self._refused.clear()

    def cell(self, address: str, kind: ValueType, **fields: object) -> "Cell":
        """The place of one value, to be set and read often. fields: order, bit, length, raw, scale, offset of a tag."""
        return Cell(self, kind, Tag.model_validate({"address": address, **fields}))

    def set_value(self, address: str, kind: ValueType, value: Value, **fields: object) -> None:
        """Puts a value into the unit, encoded as the fields of a tag say."""
        self.cell(address, kind, **fields).set(value)

    def value(self, address: str, kind: ValueType, **fields: object) -> Value:
        """The value in the unit; None where there is none (NaN, no text)."""
        return self.cell(address, kind, **fields).get()

    def answer(self, request: bytes) -> bytes | None:
        """The answer to a request, both without the header: function code and data. None: the unit keeps silent."""
        function = request[0]
        if function in {1, 2, 3, 4}:
            self.reads += 1
        else:
            self.writes += 1
        self.functions.append(function)
        self.asked.set()
        if self.silent:
            return None
        try:
            answer = request[:1] + self._functions[function](request[1:])
        except KeyError:
            answer = bytes([function | 0x80, ILLEGAL_FUNCTION])
        except struct.error:
            answer = bytes([function | 0x80, ILLEGAL_VALUE])
        except _IllegalRequest as illegal:
            answer = bytes([function | 0x80, illegal.code])
        return self.tamper(answer) if self.tamper else answer

    def _allow(self, access: Access, most: int) -> None:
        if not 1 <= access.count <= most:
            raise _IllegalRequest(ILLEGAL_VALUE)
        end = access.address + access.count
        if end > SIZE:
            raise _IllegalRequest(ILLEGAL_ADDRESS)
        for refused, code in self._refused:
            inside = refused.address < end and access.address < refused.address + refused.count
            if refused.table is access.table and inside:
                raise _IllegalRequest(code)

    def _read_registers(self, body: bytes, table: Table, registers: Registers) -> bytes:
        access = Access(table, *_PAIR.unpack(body))
        self._allow(access, MAX_REGISTERS)
        if self.on_read:
            self.on_read(access)
        return bytes([2 * access.count]) + registers.get(access.address, access.count)

    def _read_bits(self, body: bytes, table: Table, bits: Bits) -> bytes:
        access = Access(table, *_PAIR.unpack(body))
        self._allow(access, MAX_BITS)
        if self.on_read:
            self.on_read(access)
        data = bits.get(access.address, access.count)
        return bytes([len(data)]) + data

    def _write_coil(self, body: bytes) -> bytes:
        access = Access(Table.COIL, _PAIR.unpack(body)[0], 1)
        if body[2:] not in {COIL_ON, COIL_OFF}:
            raise _IllegalRequest(ILLEGAL_VALUE)
        self._allow(access, 1)
        self.coil[access.address] = body[2:] == COIL_ON
        self._tell_written(access)
        return body

    def _write_register(self, body: bytes) -> bytes:
        access = Access(Table.HOLDING, _PAIR.unpack(body)[0], 1)
        self._allow(access, 1)
        self.holding.put(access.address, body[2:])
        self._tell_written(access)
        return body

    def _write_coils(self, body: bytes) -> bytes:
        access = Access(Table.COIL, *_PAIR.unpack(body[:4]))
        data = body[5:]
        if body[4:5] != bytes([len(data)]) or len(data) != (access.count + 7) // 8:
            raise _IllegalRequest(ILLEGAL_VALUE)
        self._allow(access, _MAX_COILS_WRITTEN)
        for place in range(access.count):
            self.coil[access.address + place] = bool(data[place // 8] >> place % 8 & 1)
        self._tell_written(access)
        return body[:4]

    def _write_registers(self, body: bytes) -> bytes:
        access = Access(Table.HOLDING, *_PAIR.unpack(body[:4]))
        data = body[5:]
        if body[4:5] != bytes([len(data)]) or len(data) != 2 * access.count:
            raise _IllegalRequest(ILLEGAL_VALUE)
        self._allow(access, MAX_REGISTERS_WRITTEN)
        self.holding.put(access.address, data)
        self._tell_written(access)
        return body[:4]

    def _mask_register(self, body: bytes) -> bytes:
        address, keep, change = struct.unpack(">HHH", body)
        access = Access(Table.HOLDING, address, 1)
        self._allow(access, 1)
        self.holding[address] = self.holding[address] & keep | change & ~keep
        self._tell_written(access)
        return body

    def _tell_written(self, access: Access) -> None:
        if self.on_write:
            self.on_write(access)


class Cell:
    """The place of one value in a unit."""

    def __init__(self, unit: Unit, kind: ValueType, tag: Tag) -> None:
        self._address: Address = tag.address
        table = tag.address.table
        if table.of_bits:
            self._bits = unit.coil if table is Table.COIL else unit.discrete
            return
        self._registers = unit.holding if table is Table.HOLDING else unit.input
        self._field = register_field(kind, tag)
        self._decode = register_decoder([("value", 0, self._field)])

    def set(self, value: Value) -> None:
        """Puts the value there. Raises CodecError if it does not fit."""
        number = self._address.number
        if self._address.table.of_bits:
            self._bits[number] = bool(value)
            return
        data = encode(self._field, value)
        if self._field.kind is ValueType.BOOL:
            mask = int.from_bytes(encode(self._field, True), "big")
            self._registers[number] = self._registers[number] & ~mask | int.from_bytes(data, "big")
        else:
            self._registers.put(number, data)

    def get(self) -> Value:
        """The value there; None where there is none (NaN, no text)."""
        number = self._address.number
        if self._address.table.of_bits:
            return self._bits[number]
        values: dict[str, Value] = {}
        quality: dict[str, QualityStruct] = {}
        self._decode(self._registers.get(number, self._field.words), values, quality)
        return values["value"]
