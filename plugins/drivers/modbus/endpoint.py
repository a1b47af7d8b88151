"""Where Modbus devices are reached, and how a line to there is opened."""

import asyncio
import errno
import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import serial
from pymodbus.transport.serialtransport import SerialTransport

from plugins.api.driver import DeviceError

from .config import PORTS, Connection, Parity, Serial, Tls, Transport
from .line import Line
from .mbap import MbapLine
from .rtu import RtuLine

if sys.platform == "win32":
    TerminalError = OSError
else:
    import termios

    TerminalError = termios.error

_CHARACTERS_OF_SILENCE = 3.5
_SHORTEST_SILENCE_S = 0.00175
"""Between two frames, from 19200 baud on (MODBUS over Serial Line V1.02, 2.5.1.1)."""
_PARITIES = {Parity.NONE: serial.PARITY_NONE, Parity.EVEN: serial.PARITY_EVEN, Parity.ODD: serial.PARITY_ODD}
_DEAD_PEER_S = 10.0
"""Sent bytes that the peer's TCP has not confirmed for so long end the connection."""
_KEEPALIVE_S = 30
"""After so long without a byte the peer's TCP is asked whether it is there, so that no firewall forgets a connection
that is polled rarely (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 4.3.2)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line's address, and everything about it that all its devices must agree on."""

    place: str
    transport: Transport
    host: str
    port: int
    serial: Serial | None
    tls: Tls | None
    in_flight: int
    pause_s: float


def endpoint_of(connection: Connection, folder: Path = Path()) -> Endpoint:
    """The endpoint that a connection names, once plugins.drivers.modbus.check has passed it.

    folder: where relative paths of TLS files begin.
    """
    host = connection.host or ""
    port = connection.port or PORTS.get(connection.transport, 0)
    return Endpoint(
        place=connection.serial.port if connection.serial else f"{host}:{port}",
        transport=connection.transport,
        host=host,
        port=port,
        serial=connection.serial,
        tls=_rooted(connection.tls, folder) if connection.tls else None,
        in_flight=connection.in_flight,
        pause_s=connection.pause,
    )


def _rooted(tls: Tls, folder: Path) -> Tls:
    files = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
    return tls.model_copy(update={name: folder / path for name, path in files.items() if path is not None})


async def open_line(endpoint: Endpoint, *, timeout_s: float) -> Line:
    """Connects. Raises DeviceError, cause comm, or config where files or settings are at fault."""
    try:
        async with asyncio.timeout(timeout_s):
            if endpoint.serial is not None:
                return _open_serial(endpoint, endpoint.serial)
            return await _open_network(endpoint)
    except TimeoutError:
        raise DeviceError(f"nothing answers at {endpoint.place} within {timeout_s:g} s") from None
    except ssl.SSLError as error:
        raise DeviceError(f"no TLS with {endpoint.place}: {_reason(error)}", cause="config") from error
    except serial.SerialException as error:
        raise DeviceError(f"{endpoint.place} cannot be opened: {_reason(error)}") from error
    except (OSError, UnicodeError) as error:
        raise DeviceError(f"nothing answers at {endpoint.place}: {_reason(error)}") from error


async def _open_network(endpoint: Endpoint) -> Line:
    tls = endpoint.transport is Transport.TLS
    context = _tls_context(endpoint.tls or Tls()) if tls else None
    name = (endpoint.tls.server_name if endpoint.tls else None) or endpoint.host
    transport, line = await asyncio.get_running_loop().create_connection(
        _line_factory(endpoint), endpoint.host, endpoint.port, ssl=context, server_hostname=name if tls else None
    )
    stream = transport.get_extra_info("socket")
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_DEAD_PEER_S * 1000))
    return line


def _line_factory(endpoint: Endpoint) -> Callable[[], MbapLine | RtuLine]:
    place = endpoint.place
    if endpoint.transport is Transport.RTU_TCP:
        return lambda: RtuLine(place=place, silence_s=endpoint.pause_s, character_s=0.0, reopens=True)
    return lambda: MbapLine(place=place, in_flight=endpoint.in_flight)


def serial_silence_s(port: Serial, pause_s: float) -> float:
    """The silence between two frames on this line, in seconds."""
    return max(_SHORTEST_SILENCE_S, _CHARACTERS_OF_SILENCE * port.character_s, pause_s)


def _open_serial(endpoint: Endpoint, port: Serial) -> Line:
    silence_s = serial_silence_s(port, endpoint.pause_s)
    line = RtuLine(place=endpoint.place, silence_s=silence_s, character_s=port.character_s, reopens=False)
    try:
        transport = SerialTransport(
            asyncio.get_running_loop(),
            line,
            port.port,
            baudrate=port.baudrate,
            bytesize=serial.EIGHTBITS,
            parity=_PARITIES[port.parity],
            stopbits=port.stop_bits,
            timeout=0,
        )
    except ValueError as error:
        raise DeviceError(f"{port.port} cannot be set to {port.baudrate} baud: {error}", cause="config") from error
    except TerminalError as error:  # pulled out while it was set up, which pyserial does not translate
        raise serial.SerialException(*error.args) from error
    transport.setup()
    line.connection_made(transport)
    return line


def _reason(error: Exception) -> str:
    """What went wrong, in few words: without where in a library."""
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "verify_message", "") or error.reason or error)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, serial.SerialException) and number in {errno.EAGAIN, errno.EBUSY}:
        return "another program has it open"
    if number and number > 0:  # below 0: of the name service
        return os.strerror(number)
    return str(error) or "it ends the connection"


def _tls_context(tls: Tls) -> ssl.SSLContext:
    """Checks the server's certificate and name. Raises DeviceError, cause config, where a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # MODBUS/TCP Security Protocol V2.1, 8.1
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (tls.ca, tls.certificate, tls.key) if path)
        raise DeviceError(f"TLS files cannot be used ({files}): {error}", cause="config") from error
    return context
