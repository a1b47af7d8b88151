"""A line of MBAP frames, over TCP or TLS: each request carries a number that its answer repeats.

So an answer that comes late, twice or out of order is known for what it is. Ordinarily no more than `in_flight`
requests are under way (one, if not configured: simple devices take no more). But a request that has waited for much
longer than its unit's answers have taken lately lets others go ahead, except to its own unit, and one to a unit that is
away does so from the beginning: a silent unit behind a gateway does not hold up the rest.
Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3 and 4.4.
"""

import asyncio
import math
import struct
from collections import Counter, deque

from plugins.api.driver import DeviceError

from .line import Exchange, Wire, silence
from .liveness import Liveness
from .request import Request, not_reached

_HEADER = struct.Struct(">HHHB")
_MIN_LENGTH, _MAX_LENGTH = 2, 254
"""Bytes after the length field: unit, function and at most 252 of data (V1.0b, 3.1.3)."""
_LAST_NUMBER = 0xFFFF
_MOST_ABANDONED = 1000
"""Numbers of expired requests that are not used again before their answers have come."""
_SHORTEST_PATIENCE_S = 0.02


class MbapLine(Wire):
    """See line.Line and line.Wire."""

    def __init__(self, *, place: str, in_flight: int) -> None:
        super().__init__(place=place)
        self._in_flight = in_flight
        self._rest = b""
        self._gathered: list[bytes] = []
        self._number = 0
        self._busy = 0
        self._pending: dict[int, Exchange] = {}
        self._waiting: deque[Exchange] = deque()
        self._abandoned: dict[int, None] = {}
        self._overdue_units: Counter[int] = Counter()
        self._liveness = Liveness()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0

    def ask(self, request: Request, timeout_s: float, *, by: float = math.inf) -> asyncio.Future[bytes]:
        """See line.Line."""
        exchange = self._exchange(request, timeout_s, by=by)
        if not self._waiting and self._may_send(exchange):
            self._send(exchange)
        else:
            self._waiting.append(exchange)
            self._send_waiting()
        return exchange.answer

    def data_received(self, data: bytes) -> None:
        """Takes every whole answer in what has come so far. Whoever speaks something else is cut off."""
        if self._rest:
            data = self._rest + data
        now = self._loop.time()
        self._liveness.heard(now)
        start, size = 0, len(data)
        while size - start > _HEADER.size:
            number, protocol, length, unit = _HEADER.unpack_from(data, start)
            if protocol or not _MIN_LENGTH <= length <= _MAX_LENGTH:
                self.close()
                return
            end = start + 6 + length
            if end > size:
                break
            self._take(number, unit, data[start + 7 : end], now)
            start = end
        self._rest = data[start:]
        if self._waiting:
            self._send_waiting()

    def _take(self, number: int, unit: int, answer: bytes, now: float) -> None:
        exchange = self._pending.pop(number, None)
        if exchange is None:
            self._abandoned.pop(number, None)
            return
        self._settle(exchange)
        if unit != exchange.request.unit:
            message = f"unit {unit} at {self.place} answered in the place of unit {exchange.request.unit}"
            exchange.fail(DeviceError(message, cause="device"))
            return
        if not_reached(answer):
            self._liveness.missed(unit, now=now)  # how long the gateway has tried tells nothing of answers
        else:
            self._liveness.answered(unit)
            self._liveness.took(unit, now - exchange.sent_at)
        exchange.succeed(answer)

    def _may_send(self, exchange: Exchange) -> bool:
        return self._busy < self._in_flight and exchange.request.unit not in self._overdue_units

    def _send_waiting(self) -> None:
        """In the order of asking, but for units that are overdue."""
        held: deque[Exchange] = deque()
        while self._waiting and self._busy < self._in_flight:
            exchange = self._waiting.popleft()
            if exchange.answer.done():
                continue  # who asked has given up
            if self._may_send(exchange):
                self._send(exchange)
            else:
                held.append(exchange)
        held.extend(self._waiting)
        self._waiting = held

    def _send(self, exchange: Exchange) -> None:
        request = exchange.request
        number = self._number = self._free_number()
        self._pending[number] = exchange
        if self._liveness.away(request.unit):
            self._let_others_go_ahead_of(exchange)
        else:
            self._busy += 1
        now = self._loop.time()
        exchange.send(now)
        self._gathered.append(_HEADER.pack(number, 0, len(request.pdu) + 1, request.unit) + request.pdu)
        if self._in_flight == 1:
            self._write()
        elif len(self._gathered) == 1:
            self._loop.call_soon(self._write)
        self._wake_at(exchange.expires_at if exchange.overdue else now + self._patience(exchange))

    def _let_others_go_ahead_of(self, exchange: Exchange) -> None:
        exchange.overdue = True
        self._overdue_units[exchange.request.unit] += 1

    def _write(self) -> None:
        """What was sent in this turn of the loop goes out in one call: the calls were a quarter of the costs."""
        if self._transport is not None:
            self._transport.write(b"".join(self._gathered))
        self._gathered.clear()

    def _free_number(self) -> int:
        number = self._number
        while True:
            number = number + 1 & _LAST_NUMBER
            if number not in self._pending and number not in self._abandoned:
                return number

    def _patience(self, exchange: Exchange) -> float:
        """How long others wait for this exchange: twice as long as its unit's answers have taken lately."""
        longest_s, usual_s = exchange.timeout_s / 4, self._liveness.usual_s(exchange.unit)
        return longest_s if usual_s is None else min(longest_s, max(_SHORTEST_PATIENCE_S, 2 * usual_s))

    def _wake_at(self, when: float) -> None:
        """One timer, that looks after all that is pending: most requests are answered without a timer of their own."""
        if self._timer is not None:
            if self._wakes_at <= when:
                return
            self._timer.cancel()
        self._wakes_at = when  # uvloop's handle of what is due at once does not know
        self._timer = self._loop.call_at(when, self._look_after)

    def _look_after(self) -> None:
        self._timer = None
        now = self._loop.time()
        for number, exchange in list(self._pending.items()):
            if exchange.expires_at <= now:
                self._expire(number, exchange)
            elif not exchange.overdue and exchange.sent_at + self._patience(exchange) <= now:
                self._busy -= 1
                self._let_others_go_ahead_of(exchange)
        for exchange in self._pending.values():
            overdue_at = exchange.sent_at + self._patience(exchange)
            self._wake_at(exchange.expires_at if exchange.overdue else max(overdue_at, now))
        if self._liveness.dead:
            self.close()
        elif self._waiting:
            self._send_waiting()

    def _expire(self, number: int, exchange: Exchange) -> None:
        del self._pending[number]
        self._settle(exchange)
        self._abandoned[number] = None
        if len(self._abandoned) > _MOST_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]
        again = self._liveness.expired(exchange.request.unit, sent_at=exchange.sent_at, now=self._loop.time())
        exchange.fail(silence(exchange, self.place, again=again))

    def _settle(self, exchange: Exchange) -> None:
        if exchange.overdue:
            self._overdue_units -= Counter((exchange.request.unit,))
        else:
            self._busy -= 1

    def _forget(self) -> list[Exchange]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        exchanges = [*self._pending.values(), *self._waiting]
        self._pending.clear()
        self._waiting.clear()
        return exchanges
