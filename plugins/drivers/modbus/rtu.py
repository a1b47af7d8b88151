"""A line of RTU frames, over TCP or a serial port: half duplex, one exchange at a time, silence between two.

Answers carry no number. After an answer has failed to come, the unit is asked for something of another length first,
whose answer cannot be mistaken for the late one; only then for what is wanted. So a late answer shifts no value.
Source: MODBUS over Serial Line V1.02, 2.4.1 and 2.5.1.
"""

import asyncio
import math
from collections import deque
from typing import cast

from plugins.api.driver import DeviceError

from .line import Exchange, Silence, connection_lost, silence
from .liveness import Liveness
from .request import EXCEPTION, ReadRequest, Request
from .rtu_frame import OVERHEAD, Debts, find_answer, frame, garbled

_LASTING_S = 10.0
"""How late an answer is still reckoned with."""
_MOST_RECEIVED = 1024
"""Bytes among which an answer is looked for; a frame has 256 at most (V1.02, 2.5.1)."""


class RtuLine(asyncio.Protocol):
    """See line.Line. A protocol of asyncio: of use from connection_made() on.

    silence_s: shortest silence before a request. character_s: how long a character takes on the wire, 0 if unknown:
    a timeout counts from when the last one could have arrived. reopens: whether silence may mean a dead connection.
    """

    def __init__(self, *, place: str, silence_s: float, character_s: float, reopens: bool) -> None:
        self.place = place
        self._silence_s = silence_s
        self._character_s = character_s
        self._reopens = reopens
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._waiting: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._asking: Request | None = None
        self._received = b""
        self._heard_at = 0.0
        self._debts = Debts(lasting_s=_LASTING_S)
        self._liveness = Liveness()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def lost(self) -> bool:
        """See line.Line."""
        return self._transport is None

    def ask(self, request: Request, timeout_s: float, *, by: float = math.inf) -> asyncio.Future[bytes]:
        """See line.Line."""
        if self._transport is None:
            raise connection_lost(self.place)
        exchange = Exchange(request, timeout_s, by=by, loop=self._loop)
        self._waiting.append(exchange)
        if self._current is None:
            self._next()
        return exchange.answer

    def close(self) -> None:
        """See line.Line."""
        if self._transport is not None:
            self._transport.abort()
            self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line is open. Serial transports tell it twice."""
        if not self._closed:
            self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing that is under way will be answered."""
        self._end()

    def data_received(self, data: bytes) -> None:
        """Looks for the answer in what has come since the request was sent."""
        self._heard_at = self._loop.time()
        self._liveness.heard(self._heard_at)
        if self._current is None or self._asking is None:
            return
        self._received = (self._received + data)[-_MOST_RECEIVED:]
        while self._asking and (found := find_answer(self._received, self._asking)):
            answer, end = found
            self._received = self._received[end:]
            self._take(self._current, self._asking, answer)
        if self._asking and garbled(self._received, self._asking):
            self._debts.add(self._asking, self._heard_at)
            message = f"the answer of unit {self._asking.unit} at {self.place} is garbled (checksum)"
            self._done(Silence(message, again=False))

    def _take(self, exchange: Exchange, asked: Request, answer: bytes) -> None:
        """A sound frame of the unit and function that is asked has come."""
        now = self._heard_at
        self._liveness.answered(asked.unit)
        if answer[0] & EXCEPTION:
            if asked is not exchange.request:
                self._in_step(exchange)
                return
            if self._debts.any_of(asked.unit, now):
                self._debts.add(asked, now)
        elif len(answer) == asked.size and answer.startswith(asked.head):
            self._debts.clear(asked.unit)
            if asked is not exchange.request:
                self._in_step(exchange)
                return
        elif self._debts.owed(asked.unit, answer[0], len(answer), now):
            return  # the late one; what was asked for is still to come
        else:
            self._debts.add(asked, now)
        self._done(answer)

    def _in_step(self, exchange: Exchange) -> None:
        """The unit has answered what cannot be mistaken; now for what is wanted."""
        self._debts.clear(exchange.request.unit)
        self._asking = None
        self._stop_timer()
        self._wait_for_silence(exchange)

    def _next(self) -> None:
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.answer.done():  # done: who asked has given up
                self._current = exchange
                self._wait_for_silence(exchange)
                return

    def _wait_for_silence(self, exchange: Exchange) -> None:
        """Sends the request after the silence; on a line that is never silent, after the timeout."""
        self._send_after_silence(self._loop.time() + exchange.timeout_s)

    def _send_after_silence(self, latest: float) -> None:
        self._timer = None
        at = min(self._heard_at + self._silence_s, latest)
        if at <= self._loop.time():
            self._send()
        else:
            self._timer = self._loop.call_at(at, self._send_after_silence, latest)

    def _send(self) -> None:
        exchange = self._current
        assert exchange is not None  # it is sent only while there is one
        assert self._transport is not None  # closing takes the current exchange away
        if exchange.answer.done():  # who asked has given up while the line was not silent yet
            self._done(b"")
            return
        now = self._loop.time()
        asking = self._asking = self._distinct(exchange.request, now)
        if asking is None:
            self._done(silence(exchange, self.place, again=True, why="owes too many answers, and gave none"))
            return
        self._received = b""
        data = frame(asking)
        self._transport.write(data)
        exchange.send(now, extra_s=(len(data) + asking.size + OVERHEAD) * self._character_s)
        self._timer = self._loop.call_at(exchange.expires_at, self._expire)

    def _distinct(self, request: Request, now: float) -> Request | None:
        """The request, or another read whose answer is of a length that the unit does not owe; None if all are owed."""
        if not isinstance(request, ReadRequest) or not self._debts.owes(request, now):
            return request
        return next((other for other in request.others() if not self._debts.owes(other, now)), None)

    def _expire(self) -> None:
        self._timer = None
        exchange, asked = self._current, self._asking
        assert exchange is not None  # the timer is cancelled together with it
        assert asked is not None
        now = self._loop.time()
        self._debts.add(asked, now)
        again = self._liveness.expired(asked.unit, sent_at=exchange.sent_at, now=now)
        why = "answers in pieces or garbled" if self._received else "does not answer"
        self._done(silence(exchange, self.place, again=again, why=why))
        if self._reopens and self._liveness.dead:
            self.close()

    def _done(self, outcome: bytes | DeviceError) -> None:
        exchange, self._current, self._asking = self._current, None, None
        self._stop_timer()
        if exchange is not None:
            if isinstance(outcome, DeviceError):
                exchange.fail(outcome)
            else:
                exchange.succeed(outcome)
        self._next()

    def _end(self) -> None:
        self._transport = None
        self._closed = True
        self._stop_timer()
        exchanges = [*([self._current] if self._current else []), *self._waiting]
        self._current = self._asking = None
        self._waiting.clear()
        for exchange in exchanges:
            exchange.fail(connection_lost(self.place))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
