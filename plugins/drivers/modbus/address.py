"""Places in a Modbus device: four tables, addresses counted from 0 in each.

Source: Modbus Application Protocol V1.1b3, 4.3 and 4.4.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

LAST_ADDRESS = 65535


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


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a device, written table:number, such as holding:10. number counts from 0; check.py knows its range."""

    table: Table
    number: int

    def __str__(self) -> str:
        return f"{self.table}:{self.number}"


ADDRESS = re.compile(r"^(holding|input|coil|discrete):(\d{1,9})$")
_MODICON_TABLES = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}


def parse_address(given: object) -> Address:
    """The address in table:number. Raises ValueError; 40011 and its like are told their name here."""
    if isinstance(given, Address):
        return given
    text = str(given).strip()
    if found := ADDRESS.match(text):
        return Address(Table(found[1]), int(found[2]))
    modicon = re.match(r"^([0134])(\d{4,5})$", text)
    if modicon and int(modicon[2]) > 0:
        right = Address(_MODICON_TABLES[modicon[1]], int(modicon[2]) - 1)
        raise ValueError(f"{text!r} names no table; write {right} (tables by name, addresses counted from 0)")
    raise ValueError(
        f"{text!r} is no Modbus address; write a table and a number counted from 0: "
        "holding:10, input:3, coil:5 or discrete:7"
    )
