"""A wire to an OPC UA server without security that changes what the server says: what real servers do, but seldom."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from plugins.api.bench import WallClock
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice
from tests.plugins.opcua_bench import Wire, device_of, node
from tests.tcp_proxy import stretched

Change = Callable[[Any], Any]
SPEED = {"speed": node("Speed", "float64", writable=True)}
BOTH = {**SPEED, "load": node("Load", "float64")}

_HEAD = 8
_SEQUENCE = 16
"""Bytes of a message before its own: channel, token, sequence number, request number (OPC 10000-6, 6.7.2)."""


class Tampering(Wire):
    """changes: what becomes of each response, by its class; what they return is sent instead, None leaves it as it is.

    spoil: what becomes of the bytes of any message behind its header. seen: is given each request. largest: bytes of
    the largest request.
    """

    def __init__(self, server_url: str, changes: Mapping[type, Change]) -> None:
        super().__init__(server_url)
        self.changes = dict(changes)
        self.spoil: Callable[[bytes], bytes] = lambda body: body
        self.seen: Callable[[bytes], object] = len
        self.largest = 0

    def _count(self, body: bytes) -> None:
        self.largest = max(self.largest, len(body) + _HEAD)
        self.seen(body)
        super()._count(body)

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await there.readexactly(_HEAD)
                body = self._changed(head, await there.readexactly(int.from_bytes(head[4:], "little") - _HEAD))
                await self.answering.wait()
                writer.write(head[:4] + (len(body) + _HEAD).to_bytes(4, "little") + body)
                await writer.drain()
        writer.close()

    def _changed(self, head: bytes, body: bytes) -> bytes:
        if head[:3] == b"ACK" and ua.Acknowledge in self.changes:
            return struct_to_binary(self.changes[ua.Acknowledge](struct_from_binary(ua.Acknowledge, Buffer(body))))
        if head[:4] == b"OPNF":
            return self._replaced(body, _before_opening(body))
        if head[:4] != b"MSGF":
            return body
        body = self._replaced(body, _SEQUENCE)
        return body[:_SEQUENCE] + self.spoil(body[_SEQUENCE:])

    def _replaced(self, body: bytes, start: int) -> bytes:
        kind = int.from_bytes(body[start + 2 : start + 4], "little")
        for response, change in self.changes.items():
            if response is not ua.Acknowledge and response().TypeId.Identifier == kind:
                changed = change(struct_from_binary(response, Buffer(body[start:])))
                body = body if changed is None else body[:start] + struct_to_binary(changed)
        return body


def _before_opening(body: bytes) -> int:
    """Bytes before the own ones of a message that opens a channel without certificates: channel, policy, no
    certificate, no thumbprint, sequence number, request number (OPC 10000-6, 6.7.2.3).
    """
    policy = int.from_bytes(body[4:8], "little")
    return 4 + 4 + policy + 4 + 4 + 8


def fault(response: Any, code: int) -> ua.ServiceFault:
    """The refusal of a whole request, instead of its response."""
    header = dataclasses.replace(response.ResponseHeader, ServiceResult=ua.StatusCode(ua.UInt32(code)))
    return ua.ServiceFault(ResponseHeader=header)


def tampering(server_url: str, changes: Mapping[type, Change] | None = None) -> AbstractAsyncContextManager[Tampering]:
    """Such a wire to the server; its `url` is the one to connect to."""
    return stretched(Tampering(server_url, changes or {}))


async def browsed(wire: Tampering) -> list[str]:
    """The names of the nodes down to three levels."""
    async with DRIVER.open(device_of(wire, SPEED), clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        return [offer.path[-1] async for offer in device.browse(None, depth=3)]
