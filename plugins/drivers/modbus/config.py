"""What a Modbus device adds to a device file: fields of the connection, of a group and of a tag.

Addresses are those of the protocol: counted from 0, per table. Source: Modbus Application Protocol V1.1b3, 4.3 and 4.4.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from contracts.v1.device import ValueType
from plugins.api.duration import Seconds

from .address import ADDRESS, Address, parse_address

MAX_REGISTERS = 125
"""Most registers in one read (V1.1b3, 6.3)."""
MAX_BITS = 2000
"""Most coils or discrete inputs in one read (V1.1b3, 6.1)."""
MAX_REGISTERS_WRITTEN = 123
"""Most registers in one write (V1.1b3, 6.12)."""


class Order(StrEnum):
    """Order of a value's bytes on the wire; A is the highest byte. Vendors differ, the protocol says nothing.

    The names are those of a 32-bit value. For 64 bits the same swaps apply: CDAB is GHEFCDAB, and so on.
    """

    ABCD = "ABCD"
    CDAB = "CDAB"
    BADC = "BADC"
    DCBA = "DCBA"


ORDERS_OF_64_BITS = {
    "ABCDEFGH": Order.ABCD,
    "GHEFCDAB": Order.CDAB,
    "BADCFEHG": Order.BADC,
    "HGFEDCBA": Order.DCBA,
}
RAW_TYPES = frozenset(ValueType) - {ValueType.BOOL, ValueType.STRING, ValueType.ARRAY}


@dataclass(frozen=True, slots=True)
class NamedOrder:
    """An order as the file names it: `bits` is 64 if the name is one of eight letters."""

    order: Order
    bits: int


def parse_order(given: object) -> NamedOrder:
    """The order of this name, of four or eight letters. Raises ValueError with the right names."""
    if isinstance(given, NamedOrder):
        return given
    name = str(given)
    if name in ORDERS_OF_64_BITS:
        return NamedOrder(ORDERS_OF_64_BITS[name], 64)
    if name in Order.__members__:
        return NamedOrder(Order[name], 32)
    raise ValueError(
        f"{name!r} is no byte order; write one of {', '.join(Order)}, or for 64 bits {', '.join(ORDERS_OF_64_BITS)}"
    )


def parse_raw(given: object) -> ValueType:
    """The type of a number in registers. Raises ValueError with the right names."""
    if isinstance(given, str) and given in RAW_TYPES:
        return ValueType(given)
    names = ", ".join(kind for kind in ValueType if kind in RAW_TYPES)
    raise ValueError(f"{given!r} is no type of a number in registers; write one of {names}")


def parse_scale(given: object) -> object:
    """Refuses a factor of 0, which would make every value the same and no write possible."""
    if given == 0:
        raise ValueError("a scale of 0 makes every value the same; write a factor other than 0, such as 0.1")
    return given


UnitId = Annotated[int, Field(ge=0, le=255, strict=True)]


class Transport(StrEnum):
    """How requests travel: MBAP frames over TCP or TLS, or RTU frames over TCP or a serial line."""

    TCP = "tcp"
    TLS = "tls"
    RTU_TCP = "rtu-tcp"
    SERIAL = "serial"

    @property
    def half_duplex(self) -> bool:
        """Whether answers carry no number, so that only one request may be under way."""
        return self in {Transport.RTU_TCP, Transport.SERIAL}


PORTS = {Transport.TCP: 502, Transport.TLS: 802, Transport.RTU_TCP: 502}


class Parity(StrEnum):
    """The parity bit of a serial character."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"


class Serial(BaseModel):
    """A serial line, always of 8 data bits (MODBUS over Serial Line V1.02, 2.5.1; its defaults are ours).

    port: the system's name of it, such as /dev/ttyUSB0 or COM3.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: Annotated[str, Field(min_length=1)]
    baudrate: Annotated[int, Field(ge=50, le=4_000_000, strict=True)] = 19200
    parity: Parity = Parity.EVEN
    stop_bits: Annotated[int, Field(ge=1, le=2, strict=True)] = 1

    @property
    def character_s(self) -> float:
        """How long one character takes, in seconds: a start bit, 8 of data, perhaps a parity bit, stop bits."""
        return (9 + (self.parity is not Parity.NONE) + self.stop_bits) / self.baudrate


class Tls(BaseModel):
    """Files in PEM form for a connection by TLS; the server's certificate is always checked.

    Relative paths begin at the site's folder.

    ca: who signs the server's certificate; without it the system's authorities. certificate, key: our own, for servers
    that ask for one. server_name: the name in the server's certificate, if it is not the host's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None


class RegisterWrite(IntEnum):
    """The function that writes one register."""

    SINGLE = 6
    MULTIPLE = 16


class CoilWrite(IntEnum):
    """The function that writes a coil."""

    SINGLE = 5
    MULTIPLE = 15


class BitWrite(StrEnum):
    """How a bit in a register is written: by the device itself (function 22), or read, changed and written back."""

    MASK = "mask"
    READ_MODIFY_WRITE = "read-modify-write"


class Connection(BaseModel):
    """Fields of `connection`.

    unit_id: the device behind this address: 1..247, or 0 or 255 for a TCP device that has no units. Needed here or in
        every group.
    timeout: how long one request may take. retries: how often a read without an answer is asked again; a write never.
    pause: shortest silence between two exchanges on a line of RTU frames.
    in_flight: most requests under way at a time on TCP or TLS, not counting those whose answers are overdue.
    max_registers, max_bits: most that one read asks for; lower for devices that cannot do what the protocol allows.
    max_gap: most unused registers that are read along to save a request; sixteen times as many bits. 0 for a device
        that refuses to be read between its registers.
    write_register, write_coil: the function that writes one of them. write_bit: how a bit in a register is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transport: Transport = Transport.TCP
    host: Annotated[str, Field(min_length=1)] | None = None
    port: Annotated[int, Field(ge=1, le=65535, strict=True)] | None = None
    serial: Serial | None = None
    tls: Tls | None = None
    unit_id: UnitId | None = None
    timeout: Annotated[Seconds, Field(gt=0, le=60)] = 1.0
    retries: Annotated[int, Field(ge=0, le=10, strict=True)] = 1
    pause: Annotated[Seconds, Field(ge=0, le=1)] = 0.0
    in_flight: Annotated[int, Field(ge=1, le=16, strict=True)] = 1
    max_registers: Annotated[int, Field(ge=1, le=MAX_REGISTERS, strict=True)] = MAX_REGISTERS
    max_bits: Annotated[int, Field(ge=1, le=MAX_BITS, strict=True)] = MAX_BITS
    max_gap: Annotated[int, Field(ge=0, le=MAX_REGISTERS, strict=True)] = 50
    write_register: RegisterWrite = RegisterWrite.SINGLE
    write_coil: CoilWrite = CoilWrite.SINGLE
    write_bit: BitWrite = BitWrite.MASK


class Group(BaseModel):
    """Fields of a group. unit_id: the unit that its tags are in, if it is not the connection's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit_id: UnitId | None = None


class Tag(BaseModel):
    """Fields of a tag.

    address: table:number, such as holding:10. order: of the bytes in a value of more than eight bits.
    bit: 0 (lowest) to 15, of a bool in a register. length: registers of a string, two bytes each.
    raw, scale, offset: value = raw x scale + offset, where `raw` is the type of the number in the registers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Annotated[
        Address,
        BeforeValidator(parse_address),
        WithJsonSchema({"type": "string", "pattern": ADDRESS.pattern, "examples": ["holding:10", "coil:5"]}),
    ]
    order: Annotated[
        NamedOrder,
        BeforeValidator(parse_order),
        WithJsonSchema({"type": "string", "enum": [*Order, *ORDERS_OF_64_BITS], "default": "ABCD"}),
    ] = NamedOrder(Order.ABCD, 32)
    bit: Annotated[int, Field(ge=0, le=15, strict=True)] | None = None
    length: Annotated[int, Field(ge=1, le=MAX_REGISTERS, strict=True)] | None = None
    raw: Annotated[ValueType, BeforeValidator(parse_raw)] | None = None
    scale: Annotated[float, BeforeValidator(parse_scale), Field(allow_inf_nan=False)] | None = None
    offset: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @property
    def scaled(self) -> bool:
        """Whether the value differs from the number in the registers."""
        return self.raw is not None or self.scale is not None or self.offset is not None
