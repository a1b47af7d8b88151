"""Requests on TCP are numbered; the numbers come round after 65,536."""

import asyncio
import struct
from typing import cast

from plugins.api.soundness import expect_device_error
from plugins.drivers.modbus.address import Table
from plugins.drivers.modbus.mbap import MbapLine
from plugins.drivers.modbus.request import read_request

NUMBERS = 65536
ROUND = read_request(2, Table.HOLDING, 0, 1)
WANTED = read_request(1, Table.HOLDING, 0, 1)


class Wire:
    """Stands for a transport: keeps the number of the last request."""

    number = 0

    def write(self, data: bytes) -> None:
        (self.number,) = struct.unpack_from(">H", data)

    def abort(self) -> None:
        pass


def answer(number: int, unit: int, value: int) -> bytes:
    return struct.pack(">HHHBBBH", number, 0, 5, unit, 3, 2, value)


def open_line(wire: Wire) -> MbapLine:
    line = MbapLine(place="plc:502", in_flight=1)
    line.connection_made(cast("asyncio.Transport", wire))
    return line


def ask_round(line: MbapLine, wire: Wire, times: int) -> None:
    """Asks unit 2 and has it answer."""
    for value in range(times):
        asked = line.ask(ROUND, timeout_s=60.0)
        line.data_received(answer(wire.number, 2, value & 0xFFFF))
        assert asked.result() == struct.pack(">BBH", 3, 2, value & 0xFFFF)


async def test_the_number_of_a_request_that_expired_is_not_given_again_before_its_answer_has_come() -> None:
    wire = Wire()
    line = open_line(wire)
    expired = line.ask(WANTED, timeout_s=0.001)
    late = wire.number
    await expect_device_error(expired)
    ask_round(line, wire, NUMBERS - 1)

    asked = line.ask(WANTED, timeout_s=60.0)
    line.data_received(answer(late, 1, 7))
    assert not asked.done(), "that was the late one"
    line.data_received(answer(wire.number, 1, 8))

    assert asked.result() == struct.pack(">BBH", 3, 2, 8)
    line.close()


async def test_the_number_of_a_request_that_is_under_way_is_not_given_again() -> None:
    wire = Wire()
    line = open_line(wire)
    await expect_device_error(line.ask(WANTED, timeout_s=0.001))
    asked = line.ask(WANTED, timeout_s=3600.0)  # its unit is away: others go ahead
    number = wire.number
    ask_round(line, wire, NUMBERS)

    line.data_received(answer(number, 1, 8))

    assert asked.result() == struct.pack(">BBH", 3, 2, 8)
    line.close()
