"""MQTT 5 clients that cost next to nothing: a connection each and no library between, so that they are no limit.

QoS 1 in both directions, as dinrail's own tools use it; what comes is acknowledged with whatever is sent next.
"""

import asyncio
from collections.abc import Callable
from itertools import cycle
from typing import cast

from services.runtime.mqtt.envelope import Envelope, pack_properties
from services.runtime.mqtt.puback import pack_puback
from services.runtime.mqtt.publication import Publication, read_publication

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
_CLEAN_START_USER_PASSWORD = 0xC2
_KEEP_ALIVE_S = 120
_REFUSED = 0x80

Take = Callable[[Publication], None]
"""Is called with each message; what it publishes leaves together with the acknowledgement."""


class Client(asyncio.Protocol):
    """One connection. open() gives it once it is subscribed. refused: publications that the broker refused."""

    def __init__(self, *, name: str, account: str, password: str, topic_filter: str, take: Take) -> None:
        self.name = name
        self.refused = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._login = (name, account, password)
        self._filter = topic_filter
        self._take = take
        self._mids = cycle(range(1, 1 << 16))
        self._held = b""
        self._out: list[bytes] = []
        self._reading = False
        self._transport: asyncio.WriteTransport | None = None

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Sends a message; never waits."""
        properties = pack_properties(expiry_s, response_topic, correlation)
        envelope = Envelope(topic, kind="bench", retain=retain, properties=properties)
        self._send(envelope.packet(payload, next(self._mids)))

    def close(self) -> None:
        """Takes leave."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.write(b"\xe0\x00")
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Logs in (3.1)."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass of it
        head = _text("MQTT") + bytes((5, _CLEAN_START_USER_PASSWORD)) + _KEEP_ALIVE_S.to_bytes(2) + b"\x00"
        self._send(_packet(_CONNECT, head + b"".join(map(_text, self._login))))

    def connection_lost(self, exc: Exception | None) -> None:
        """Unless we have closed it, that counts as a refusal."""
        self.refused += self._transport is not None
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError(f"{self.name}: the broker ended the connection"))

    def data_received(self, data: bytes) -> None:
        """Takes what is whole, and sends what follows from it in one call."""
        data = self._held + data
        at, end = 0, len(data)
        self._reading = True
        while True:
            begin, length = _length(data, at)
            if not begin or begin + length > end:
                break
            self._read(data[at], data[begin : begin + length])
            at = begin + length
        self._held = data[at:]
        self._reading = False
        if self._out:
            self._send(b"")

    def _read(self, kind: int, body: bytes) -> None:
        if kind & 0xF0 == _PUBLISH:
            found = read_publication(kind, body)
            if found.qos:
                self._out.append(pack_puback(found.mid))
            self._take(found)
        elif kind == _PUBACK:
            self.refused += len(body) > 2 and body[2] >= _REFUSED
        elif kind == _CONNACK:
            if body[1] >= _REFUSED:
                self.ready.set_exception(PermissionError(f"{self.name}: refused with 0x{body[1]:02x}"))
            else:
                self._send(_packet(_SUBSCRIBE, b"\x00\x01\x00" + _text(self._filter) + b"\x01"))
        elif kind == _SUBACK and not self.ready.done():
            self.ready.set_result(None)

    def _send(self, packet: bytes) -> None:
        self._out.append(packet)
        if not self._reading and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()


async def connect(port: int, client: Client, *, within_s: float = 10.0) -> Client:
    """The client, logged in and subscribed. Raises OSError, TimeoutError."""
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", port)
    async with asyncio.timeout(within_s):
        await client.ready
    return client


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2) + data


def _packet(kind: int, body: bytes) -> bytes:
    length = bytearray()
    left = len(body)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes((kind, *length, left)) + body


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where the packet's body begins, and its length; 0 and 0 while that cannot be told."""
    value = 0
    for count in range(4):
        if at + 1 + count >= len(data):
            return 0, 0
        byte = data[at + 1 + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return at + 2 + count, value
    raise ConnectionError("a packet with a malformed length")
