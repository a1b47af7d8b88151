"""PUBACK, the answer to a publication with QoS 1 (OASIS MQTT 5.0, 3.4): that to ours, and ours."""

import asyncio
import struct
from collections.abc import Callable

LINGER_S = 0.005
"""How long an answer of ours may wait for something to go with."""
MOST_WAITING = 8
"""Answers that wait; a broker may send no more than 20 publications before it has them."""
_PUBACK = 0x40
_PUBACK_BYTE = bytes((_PUBACK,))
_MID, _MID_AND_REASON = struct.Struct("!2xH"), struct.Struct("!2xHB")
_MORE = 0x80
_SHORTEST = 4
"""Bytes of an answer: its kind, its length, the packet identifier."""
_LONGEST_LENGTH = 4
"""Bytes that tell a packet's length, at most (2.1.4)."""
_ENDLESS = 1 << 62
"""Stands for a length that is malformed: it and all that follows are for whoever ends the connection for it."""


def pack_puback(mid: int) -> bytes:
    """The answer that a publication has been taken. mid: its packet identifier."""
    return bytes((_PUBACK, 2, *mid.to_bytes(2)))


class Pubacks:
    """Our answers: each goes with whatever is sent next, the reply if a command has come; alone it costs as much.

    gather: takes a packet that goes out with the next one. flush: sends what has been gathered.
    """

    def __init__(
        self, *, gather: Callable[[bytes], object], flush: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._gather = gather
        self._flush = flush
        self._loop = loop
        self._waiting = 0
        self._timer: asyncio.Handle | None = None

    def add(self, mid: int) -> None:
        """This publication has been taken. mid: its packet identifier."""
        self._gather(pack_puback(mid))
        self._waiting += 1
        if self._timer is None:
            self._timer = self._loop.call_later(LINGER_S, self._flush)
        elif self._waiting == MOST_WAITING:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._flush)

    def sent(self) -> None:
        """All that had been gathered has gone."""
        self._waiting = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PubackSieve:
    """Takes the answers out of what the broker sends, in whatever pieces it comes; the rest is another's to read.

    settle: called with the packet identifiers and reason codes of those that came together; 0x80 and above are refusals
    (2.4).
    """

    def __init__(self, settle: Callable[[list[tuple[int, int]]], None]) -> None:
        self._settle = settle
        self._held = b""  # the begin of a packet: it is not known yet which, or it is an answer that is not whole
        self._left = 0  # bytes still to come of a packet that is another's

    def sift(self, data: bytes) -> bytes:
        """What of the data is not for us, in its order."""
        if self._held:
            data, self._held = self._held + data, b""
        if not self._left and (alike := _alike(data)):  # a lot's: the usual case
            self._settle(alike)
            return b""
        rest: list[bytes] = []
        answers: list[tuple[int, int]] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                until = min(end, at + self._left)
                rest.append(data[at:until])
                self._left -= until - at
                at = until
                continue
            size = _packet_size(data, at)
            if size is None or (data[at] == _PUBACK and end < at + size < _ENDLESS):
                self._held = data[at:]
                break
            if data[at] == _PUBACK and _SHORTEST <= size < _ENDLESS:  # a shorter one is for paho to refuse
                answers += _answer(data, at, size)
                at += size
            else:
                self._left = size
        if answers:
            self._settle(answers)
        return b"".join(rest)


def _alike(data: bytes) -> list[tuple[int, int]]:
    """The answers, if there is nothing in it but those without a reason, which means that all is well; or nothing but
    those with a reason and no more, as where nobody has subscribed."""
    size = 2 + data[1] if len(data) >= _SHORTEST else 0
    if size not in {_SHORTEST, _SHORTEST + 1} or len(data) % size:
        return []
    count = len(data) // size
    if data[::size] != _PUBACK_BYTE * count or data[1::size] != data[1:2] * count:
        return []
    if size == _SHORTEST:
        return [(mid, 0) for (mid,) in _MID.iter_unpack(data)]
    return list(_MID_AND_REASON.iter_unpack(data))


def _answer(data: bytes, at: int, size: int) -> tuple[tuple[int, int], ...]:
    """The answer that begins here; none if it is too short for one."""
    while data[at + 1] >= _MORE:
        at, size = at + 1, size - 1
    if size < _SHORTEST:
        return ()
    return ((data[at + 2] << 8 | data[at + 3], data[at + 4] if size > _SHORTEST else 0),)


def _packet_size(data: bytes, at: int) -> int | None:
    """The bytes of the packet that begins here; None while they cannot be known."""
    if at + 1 < len(data) and data[at + 1] < _MORE:
        return 2 + data[at + 1]
    length = 0
    for count in range(1, _LONGEST_LENGTH + 1):
        if at + count >= len(data):
            return None
        byte = data[at + count]
        length |= (byte & ~_MORE) << 7 * (count - 1)
        if byte < _MORE:
            return 1 + count + length
    return _ENDLESS
