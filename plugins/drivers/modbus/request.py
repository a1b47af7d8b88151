"""Requests to a Modbus unit and what a right answer to each looks like, both without header or checksum. Pure.

pymodbus encodes the requests, once per plan. Source: Modbus Application Protocol V1.1b3, 6 and 7.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from plugins.api.driver import DeviceError

from .address import LAST_ADDRESS, Table
from .config import MAX_BITS, MAX_REGISTERS, CoilWrite, RegisterWrite

_READS: Mapping[Table, type[ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE: ReadDiscreteInputsRequest,
    Table.HOLDING: ReadHoldingRegistersRequest,
    Table.INPUT: ReadInputRegistersRequest,
}
EXCEPTION = 0x80
"""Set in the function code of an answer that refuses."""
_MOST_LONGER = 8
_HEAD_OF_MULTIPLE = 5
"""A write of several is answered with function, address and count (V1.1b3, 6.11 and 6.12)."""
_GATEWAY_CODES = frozenset({10, 11})
"""A gateway's word that the unit behind it is not reached (V1.1b3, 7): no answer of the device."""
ILLEGAL_FUNCTION = 1
ACKNOWLEDGE = 5
"""The device does what it was asked for, which takes long (V1.1b3, 7)."""
BUSY = 6
"""The device takes nothing just now, but will (V1.1b3, 7)."""
ILLEGAL_ADDRESS_CODES = frozenset({2, 3})
"""What devices answer where a read touches an address that they do not have, or is longer than they can do."""

EXCEPTION_NAMES: Mapping[int, str] = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
"""Modbus exception codes (V1.1b3, 7)."""


class Refusal(Exception):
    """The device answered a request with an exception. code: see EXCEPTION_NAMES."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{EXCEPTION_NAMES.get(code, 'exception')} (Modbus exception {code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """unit: who is asked. pdu: function code and data. size, head: length and first bytes of a right answer."""

    unit: int
    pdu: bytes
    size: int
    head: bytes

    @property
    def function(self) -> int:
        """The function code."""
        return self.pdu[0]


@dataclass(frozen=True, slots=True)
class ReadRequest(Request):
    """A read of `count` registers or bits of a table from `start` on."""

    table: Table
    start: int
    count: int

    def others(self) -> Iterator["ReadRequest"]:
        """Reads at the same start whose answers have other lengths, shorter ones first, then a few longer ones."""
        step, most = (8, MAX_BITS) if self.table.of_bits else (1, MAX_REGISTERS)
        longest = min(most, LAST_ADDRESS + 1 - self.start, self.count + _MOST_LONGER * step)
        shorter, longer = range(self.count - step, 0, -step), range(self.count + step, longest + 1, step)
        for count in (*shorter, *longer):
            yield read_request(self.unit, self.table, self.start, count)


def read_request(unit: int, table: Table, start: int, count: int) -> ReadRequest:
    """Functions 1 to 4. Its answer without the head is the registers, or bits packed from the lowest on."""
    pdu = _pdu(_READS[table](address=start, count=count))
    data = (count + 7) // 8 if table.of_bits else 2 * count
    return ReadRequest(unit, pdu, 2 + data, bytes([pdu[0], data]), table, start, count)


def write_coil_request(unit: int, address: int, *, on: bool, function: CoilWrite) -> Request:
    """Function 5, or 15 with a count of one."""
    if function is CoilWrite.SINGLE:
        return _repeated(unit, WriteSingleCoilRequest(address=address, bits=[on]))
    return _counted(unit, WriteMultipleCoilsRequest(address=address, bits=[on]))


def write_registers_request(unit: int, address: int, registers: list[int], *, function: RegisterWrite) -> Request:
    """Function 16 for several registers (at most 123), and for one the function that is asked for."""
    if len(registers) == 1 and function is RegisterWrite.SINGLE:
        return _repeated(unit, WriteSingleRegisterRequest(address=address, registers=registers))
    return _counted(unit, WriteMultipleRegistersRequest(address=address, registers=registers))


def mask_request(unit: int, address: int, mask: int, *, on: bool) -> Request:
    """Function 22: sets or clears the masked bits of a register; the device itself keeps the others."""
    return _repeated(unit, MaskWriteRegisterRequest(address, 0xFFFF ^ mask, mask if on else 0))


def not_reached(answer: bytes) -> bool:
    """Whether it is a gateway's word that it does not reach the unit."""
    return len(answer) == 2 and answer[0] & EXCEPTION != 0 and answer[1] in _GATEWAY_CODES


def fault(request: Request, answer: bytes, place: str) -> DeviceError | Refusal:
    """What an answer says that is not the right one: a refusal, a gateway's word, or nothing to the point."""
    if len(answer) == 2 and answer[0] == request.function | EXCEPTION:
        code = answer[1]
        if not_reached(answer):
            return DeviceError(f"unit {request.unit} at {place}: {EXCEPTION_NAMES[code]}", code=code)
        return Refusal(code)
    unit = f"unit {request.unit} at {place}"
    if answer[0] & ~EXCEPTION != request.function:
        return DeviceError(f"{unit} answered function {request.function} with {answer[0]}", cause="device")
    if len(answer) != request.size:
        message = f"{unit} answered with {len(answer)} bytes where {request.size} were asked for"
        return DeviceError(message, cause="device")
    return DeviceError(f"{unit} answered {answer[:6].hex(' ')} where {request.head.hex(' ')} was due", cause="device")


def _pdu(request: ModbusPDU) -> bytes:
    return bytes([request.function_code]) + request.encode()


def _repeated(unit: int, request: ModbusPDU) -> Request:
    pdu = _pdu(request)
    return Request(unit, pdu, len(pdu), pdu)


def _counted(unit: int, request: ModbusPDU) -> Request:
    pdu = _pdu(request)
    return Request(unit, pdu, _HEAD_OF_MULTIPLE, pdu[:_HEAD_OF_MULTIPLE])
