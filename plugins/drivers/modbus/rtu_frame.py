"""RTU frames, and which answers may still come late. Pure; times are the caller's seconds.

A frame is unit, function, data and a checksum, low byte first; nothing says where it begins or which request it
answers. Source: MODBUS over Serial Line V1.02, 2.5.1 and 6.2.2; the checksum itself is pymodbus's.
"""

from collections.abc import Mapping

from pymodbus.framer.rtu import FramerRTU

from .request import EXCEPTION, Request

OVERHEAD = 3
"""Bytes of a frame around function and data: unit and checksum."""
_SIZE_OF_EXCEPTION = 2
_READS = frozenset({1, 2, 3, 4})


def frame(request: Request) -> bytes:
    """The request as it travels."""
    data = bytes([request.unit]) + request.pdu
    return data + _checksum(data)


def find_answer(data: bytes, requests: Mapping[int, Request]) -> tuple[int, bytes, int] | None:
    """The first sound frame of a unit and function that is asked: the unit, function and data, and where it ends.

    requests: by unit. Whatever stands before the frame is noise: a converter's echo, an answer that nobody waits for
    any more. None: not here, or not yet.
    """
    for start in range(len(data) - OVERHEAD):
        request = requests.get(data[start])
        if request is None:
            continue
        size = _size(data, start + 1, request)
        end = start + size + OVERHEAD
        if size and end <= len(data) and data[end - 2 : end] == _checksum(data[start : end - 2]):
            return data[start], data[start + 1 : end - 2], end
    return None


def garbled(data: bytes, request: Request) -> bool:
    """Whether these bytes are as long and begin as the answer would; find_answer() has found no sound frame in them.

    A converter's echo of the request, whole or not yet, is no answer, though it may begin as one.
    """
    begin = bytes([request.unit]) + request.head[:2]
    if not data.startswith(begin):
        return False
    own = frame(request)
    if own.startswith(data[: len(own)]):
        data = data[len(own) :]
    return len(data) >= request.size + OVERHEAD and data.startswith(begin)


def _size(data: bytes, place: int, request: Request) -> int:
    """Length of function and data of the answer whose function would stand here; 0 if none of the request's does."""
    function = data[place]
    if function == request.function | EXCEPTION:
        return _SIZE_OF_EXCEPTION
    if function != request.function:
        return 0
    return 2 + data[place + 1] if function in _READS else request.size


def _checksum(data: bytes) -> bytes:
    return FramerRTU.compute_CRC(data).to_bytes(2, "big")


class Debts:
    """The answers that units still owe: requests that expired, whose answers may come yet.

    An answer is known only by its function and its length. While one of the same kind is owed, the next may be that
    one; one of another kind proves that the debt is over, since a unit answers in the order of the requests.
    lasting_s: how late an answer may be, at most.
    """

    def __init__(self, *, lasting_s: float) -> None:
        self._lasting_s = lasting_s
        self._owed: dict[int, dict[tuple[int, int], float]] = {}

    def add(self, request: Request, now: float) -> None:
        """The answer to this request may still come."""
        owed = self._owed.setdefault(request.unit, {})
        owed.pop((request.function, request.size), None)
        owed[request.function, request.size] = now + self._lasting_s

    def owes(self, request: Request, now: float) -> bool:
        """Whether an answer of the kind that this request asks for may still come from its unit."""
        return self.owed(request.unit, request.function, request.size, now)

    def owed(self, unit: int, function: int, size: int, now: float) -> bool:
        """Whether an answer of this function and length may still come from the unit."""
        return self._owed.get(unit, {}).get((function, size), 0.0) > now

    def any_of(self, unit: int, now: float) -> bool:
        """Whether the unit owes anything."""
        return any(until > now for until in self._owed.get(unit, {}).values())

    def refused(self, unit: int) -> None:
        """The unit has refused something: the oldest that it owed, or what came after it. So that one is over."""
        owed = self._owed.get(unit, {})
        if owed:
            del owed[next(iter(owed))]

    def clear(self, unit: int) -> None:
        """The unit is in step again."""
        self._owed.pop(unit, None)
