"""One TCP connection to a Modbus device: reads bytes, writes once, and says whose fault it was if it could not.

pymodbus carries the requests; what is done here is what it leaves open. Its own repetition is off, since it repeats
writes too. It would wait out the timeout of a request whose connection is gone, and it would reconnect behind the
gateway's back. Its register answers unpack each register by itself; ours keep the bytes for the compiled codec.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from plugins.api.driver import DeviceError

from .config import Connection, Table

# pymodbus logs each request that fails, with its bytes over several lines; a DeviceError says it to who can act on it.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

_READS: Mapping[Table, type[ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE: ReadDiscreteInputsRequest,
    Table.HOLDING: ReadHoldingRegistersRequest,
    Table.INPUT: ReadInputRegistersRequest,
}
_GATEWAY_CODES = frozenset({10, 11})
"""A gateway's word that the unit behind it is not reached (V1.1b3, 7): no answer of the device."""

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


class _RawAnswer(ModbusPDU):
    """An answer to a read, its bytes left as they are: the count of bytes, then the data."""

    rtu_byte_count_pos = 2
    data = b""

    def decode(self, data: bytes) -> None:
        self.data = data


class _Coils(_RawAnswer):
    function_code = 1


class _Discretes(_RawAnswer):
    function_code = 2


class _Holdings(_RawAnswer):
    function_code = 3


class _Inputs(_RawAnswer):
    function_code = 4


class Link:
    """An open connection, from `connect` to `close`. One request at a time; every one has the connection's timeout."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting = False
        self._client = AsyncModbusTcpClient(
            connection.host,
            port=connection.port,
            timeout=connection.timeout,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._on_connection,
        )
        for answer in (_Coils, _Discretes, _Holdings, _Inputs):
            self._client.register(answer)

    async def connect(self) -> None:
        """Raises DeviceError if there is no connection within the timeout."""
        if not await self._client.connect():
            raise DeviceError(f"nothing answers at {self._place} within {self._connection.timeout:g} s")
        stream = self._client.ctx.transport.get_extra_info("socket")
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Closes the connection; nothing happens if it is closed."""
        self._client.close()

    async def read(self, table: Table, unit: int, start: int, count: int) -> bytes:
        """The bytes of `count` registers or bits, asked again up to `retries` times while nothing answers.

        Raises Refusal if the device answers with an exception, DeviceError if it does not answer, or not to the point.
        """
        attempts = self._connection.retries
        while True:
            try:
                answer = await self._ask(_READS[table](address=start, count=count, dev_id=unit))
            except ModbusIOException as error:
                if not attempts or not self._client.connected:
                    raise self._silence(unit) from error
                attempts -= 1
            else:
                return self._data_of(answer, 2 * count if not table.of_bits else (count + 7) // 8)

    async def write_coil(self, unit: int, address: int, *, on: bool) -> None:
        """Function 5. Like every write it is sent once. Raises Refusal or DeviceError."""
        await self._write(WriteSingleCoilRequest(dev_id=unit, address=address, bits=[on]))

    async def write_registers(self, unit: int, address: int, registers: list[int]) -> None:
        """Function 6 for one register, 16 for more (at most 123). Raises Refusal or DeviceError."""
        request = WriteSingleRegisterRequest if len(registers) == 1 else WriteMultipleRegistersRequest
        await self._write(request(dev_id=unit, address=address, registers=registers))

    async def write_register_bit(self, unit: int, address: int, mask: int, *, on: bool) -> None:
        """Sets or clears the masked bits by function 22: the device itself keeps the others. Raises as the others."""
        change = mask if on else 0
        await self._write(MaskWriteRegisterRequest(address, 0xFFFF ^ mask, change, dev_id=unit))

    async def _write(self, request: ModbusPDU) -> None:
        try:
            await self._ask(request)
        except ModbusIOException as error:
            raise self._silence(request.dev_id) from error

    async def _ask(self, request: ModbusPDU) -> ModbusPDU:
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        self._waiting = True
        try:
            answer: ModbusPDU = await self._client.execute(False, request)
        except ConnectionException as error:
            raise DeviceError(f"the connection to {self._place} is lost") from error
        finally:
            self._waiting = False
        # wait_for of Python 3.11, inside pymodbus, drops a cancellation that comes together with the answer.
        if task and task.cancelling() > cancelled_before:
            raise asyncio.CancelledError
        if answer.isError():
            self._raise_exception_code(answer.exception_code)
        if answer.function_code != request.function_code:
            message = f"{self._place} answered function {request.function_code} with {answer.function_code}"
            raise DeviceError(message, cause="device")
        return answer

    def _raise_exception_code(self, code: int) -> None:
        if code in _GATEWAY_CODES:
            raise DeviceError(f"{self._place}: {EXCEPTION_NAMES[code]}", code=code)
        raise Refusal(code)

    def _data_of(self, answer: ModbusPDU, expected: int) -> bytes:
        data = answer.data if isinstance(answer, _RawAnswer) else b""
        if len(data) != expected + 1 or data[0] != expected:
            message = f"{self._place} answered with {len(data) - 1} bytes where {expected} were asked for"
            raise DeviceError(message, cause="device")
        return data[1:]

    def _silence(self, unit: int) -> DeviceError:
        if not self._client.connected:
            return DeviceError(f"the connection to {self._place} is lost")
        return DeviceError(f"unit {unit} at {self._place} does not answer within {self._connection.timeout:g} s")

    def _on_connection(self, connected: bool) -> None:
        pending = self._client.ctx.response_future
        if not connected and self._waiting and not pending.done():
            pending.set_exception(ConnectionException("connection lost"))

    @property
    def _place(self) -> str:
        return f"{self._connection.host}:{self._connection.port}"
