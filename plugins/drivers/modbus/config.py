"""What a Modbus device adds to a device file: fields of the connection, of a group and of a tag.

Addresses are those of the protocol: counted from 0, per table. Source: Modbus Application Protocol V1.1b3, 4.3 and 4.4.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from contracts.v1.device import ValueType
from plugins.api.duration import Seconds

LAST_ADDRESS = 65535
MAX_REGISTERS = 125
"""Most registers in one read (V1.1b3, 6.3)."""
MAX_BITS = 2000
"""Most coils or discrete inputs in one read (V1.1b3, 6.1)."""
MAX_REGISTERS_WRITTEN = 123
"""Most registers in one write (V1.1b3, 6.12)."""


class Table(StrEnum):
    """The four tables of a Modbus device (V1.1b3, 4.3)."""

    HOLDING = "holding"
    INPUT = "input"
    COIL = "coil"
    DISCRETE = "discrete"

    @property
    def of_bits(self) -> bool:
        """Whether an address of this table holds one bit, not one register of 16."""
        return self in {Table.COIL, Table.DISCRETE}

    @property
    def writable(self) -> bool:
        """Whether a client may write to this table."""
        return self in {Table.COIL, Table.HOLDING}


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
class Address:
    """A place in a device, written table:number, such as holding:10. number counts from 0; check.py knows its range."""

    table: Table
    number: int

    def __str__(self) -> str:
        return f"{self.table}:{self.number}"


_ADDRESS = re.compile(r"^(holding|input|coil|discrete):(\d{1,9})$")
_MODICON_TABLES = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}


def parse_address(given: object) -> Address:
    """The address in table:number. Raises ValueError; 40011 and its like are told their name here."""
    if isinstance(given, Address):
        return given
    text = str(given).strip()
    if found := _ADDRESS.match(text):
        return Address(Table(found[1]), int(found[2]))
    modicon = re.match(r"^([0134])(\d{4,5})$", text)
    if modicon and int(modicon[2]) > 0:
        right = Address(_MODICON_TABLES[modicon[1]], int(modicon[2]) - 1)
        raise ValueError(f"{text!r} names no table; write {right} (tables by name, addresses counted from 0)")
    raise ValueError(
        f"{text!r} is no Modbus address; write a table and a number counted from 0: "
        "holding:10, input:3, coil:5 or discrete:7"
    )


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


class Connection(BaseModel):
    """Fields of `connection`.

    unit_id: the device behind this address: 1..247, or 0 or 255 for a TCP device that has no units. Needed here or in
        every group.
    timeout: how long one request may take. retries: how often a read without an answer is asked again; a write never.
    max_registers, max_bits: most that one read asks for; lower for devices that cannot do what the protocol allows.
    max_gap: most unused registers that are read along to save a request; sixteen times as many bits. 0 for a device
        that refuses to be read between its registers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535, strict=True)] = 502
    unit_id: UnitId | None = None
    timeout: Annotated[Seconds, Field(gt=0, le=60)] = 1.0
    retries: Annotated[int, Field(ge=0, le=10, strict=True)] = 1
    max_registers: Annotated[int, Field(ge=1, le=MAX_REGISTERS, strict=True)] = MAX_REGISTERS
    max_bits: Annotated[int, Field(ge=1, le=MAX_BITS, strict=True)] = MAX_BITS
    max_gap: Annotated[int, Field(ge=0, le=MAX_REGISTERS, strict=True)] = 50


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
        WithJsonSchema({"type": "string", "pattern": _ADDRESS.pattern, "examples": ["holding:10", "coil:5"]}),
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
