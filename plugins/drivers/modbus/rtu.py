"""A line of RTU frames, over TCP or a serial port: half duplex, one exchange at a time, silence between two.

Answers carry no number. After an answer has failed to come, the unit is asked for something of another length first,
whose answer cannot be mistaken for the late one; only then for what is wanted. So a late answer shifts no value.
Whose turn it is, turns.py says. A unit that is away holds the line for a moment only: then others are asked, while its
answer is still listened for until the timeout. If one comes, the unit lives, and is asked again.
Source: MODBUS over Serial Line V1.02, 2.4.1 and 2.5.1.
"""

import asyncio
import math

from plugins.api.driver import DeviceError

from .line import Exchange, Silence, Wire, silence
from .liveness import Liveness
from .request import EXCEPTION, ReadRequest, Request
from .rtu_frame import OVERHEAD, Debts, find_answer, frame, garbled
from .turns import LONGEST_WAIT_S, Turns, hold_s

_LASTING_S = 10.0
"""How late an answer is still reckoned with."""
_MOST_RECEIVED = 1024
"""Bytes among which an answer is looked for; a frame has 256 at most (V1.02, 2.5.1)."""


class _Talk:
    """An exchange whose turn has come.

    asked: what was sent, and is listened for. yields: its unit was away when it began, or had been lately.
    holds_until: until when that one has the line if others wait, and by answer_s longer, which the answer takes on the
    wire, if that has begun.
    """

    __slots__ = ("answer_s", "asked", "exchange", "holds_until", "timer", "yields")

    def __init__(self, exchange: Exchange, *, yields: bool) -> None:
        self.exchange = exchange
        self.yields = yields
        self.asked: Request | None = None
        self.holds_until = math.inf
        self.answer_s = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        """Nothing more happens by time alone."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class RtuLine(Wire):
    """See line.Line and line.Wire.

    silence_s: shortest silence before a request. character_s: how long a character takes on the wire, 0 if unknown:
    a timeout counts from when the last one could have arrived. reopens: whether silence may mean a dead connection.
    """

    def __init__(self, *, place: str, silence_s: float, character_s: float, reopens: bool) -> None:
        super().__init__(place=place)
        self._silence_s = silence_s
        self._character_s = character_s
        self._reopens = reopens
        self._liveness = Liveness()
        self._turns: Turns[Exchange] = Turns(away=self._liveness.away)
        self._talk: _Talk | None = None
        self._aside: dict[int, _Talk] = {}
        self._received = b""
        self._heard_at = 0.0
        self._debts = Debts(lasting_s=_LASTING_S)
        self._waker: asyncio.TimerHandle | None = None

    def ask(self, request: Request, timeout_s: float, *, by: float = math.inf) -> asyncio.Future[bytes]:
        """See line.Line."""
        exchange = self._exchange(request, timeout_s, by=by)
        self._turns.put(exchange)
        self._move_on()
        if not exchange.sent and self._liveness.away(request.unit):
            self._loop.call_later(LONGEST_WAIT_S, self._tire_of, exchange)
        return exchange.answer

    def data_received(self, data: bytes) -> None:
        """Looks for the answers that are listened for in what has come."""
        self._heard_at = self._loop.time()
        self._liveness.heard(self._heard_at)
        listening = {talk.exchange.unit: talk for talk in self._talks()}
        asked = {unit: talk.asked for unit, talk in listening.items() if talk.asked}
        if not asked:
            return
        self._received = (self._received + data)[-_MOST_RECEIVED:]
        answers: list[tuple[_Talk, bytes]] = []
        while found := find_answer(self._received, asked):
            unit, answer, end = found
            self._received = self._received[end:]
            answers.append((listening[unit], answer))
        for talk, answer in answers:
            if talk in self._talks():  # else it is over: this answer came twice
                self._take(talk, answer)
        self._look_for_garbled()

    def _look_for_garbled(self) -> None:
        if self._talk and (asked := self._talk.asked) and garbled(self._received, asked):
            self._debts.add(asked, self._heard_at)
            message = f"the answer of unit {asked.unit} at {self.place} is garbled (checksum)"
            self._done(self._talk, Silence(message, again=False))

    def _talks(self) -> list[_Talk]:
        return [*self._aside.values(), *([self._talk] if self._talk else [])]

    def _take(self, talk: _Talk, answer: bytes) -> None:
        """A sound frame of the unit and function that is asked has come."""
        exchange, asked, now = talk.exchange, talk.asked, self._heard_at
        assert asked is not None  # nothing is listened for before it is asked for
        self._liveness.answered(asked.unit)
        # Values are taken only while no other unit may answer; that this one has answered is enough to ask it again.
        sign_of_life = talk is not self._talk and isinstance(asked, ReadRequest)
        if answer[0] & EXCEPTION:
            if self._debts.any_of(asked.unit, now):  # it may be the late one of an older request
                self._debts.refused(asked.unit)
                self._debts.add(asked, now)
            if sign_of_life or asked is not exchange.request:
                self._ask_again(talk)
                return
        elif len(answer) == asked.size and answer.startswith(asked.head):
            self._liveness.took(asked.unit, now - exchange.sent_at)
            self._debts.clear(asked.unit)
            if sign_of_life or asked is not exchange.request:
                self._in_step(talk)
                return
        elif self._debts.owed(asked.unit, answer[0], len(answer), now):
            return  # the late one; what was asked for is still to come
        else:
            self._debts.add(asked, now)
        self._done(talk, answer)

    def _in_step(self, talk: _Talk) -> None:
        """The unit has answered what cannot be mistaken; now for what is wanted."""
        self._debts.clear(talk.exchange.unit)
        self._ask_again(talk)

    def _ask_again(self, talk: _Talk) -> None:
        self._turns.put_first(talk.exchange)
        self._leave(talk)

    def _move_on(self) -> None:
        """Begins the next exchange, now or when it may begin."""
        if self._waker is not None:
            self._waker.cancel()
            self._waker = None
        now = self._loop.time()
        if self._talk is not None and not self._gives_way(self._talk, now):
            return
        exchange = self._turns.take(now, engaged=self._aside)
        if exchange is not None:
            self._talk = _Talk(exchange, yields=self._liveness.doubted(exchange.unit, now))
            self._send_after_silence(self._talk, now + exchange.timeout_s)
        elif self._turns and self._turns.again_at > now:
            self._waker = self._loop.call_at(self._turns.again_at, self._move_on)

    def _gives_way(self, talk: _Talk, now: float) -> bool:
        """Whether others may be asked, while the answer of a unit that may be away is still listened for."""
        unit = talk.exchange.unit
        if talk.asked is None or not talk.yields:
            return False
        if self._turns.first(now, engaged={unit, *self._aside}) is None:
            return False
        holds_until = talk.holds_until + (talk.answer_s if self._received else 0.0)
        if now < holds_until:
            self._waker = self._loop.call_at(holds_until, self._move_on)
            return False
        self._turns.charge(talk.exchange.sent_at, now)
        self._talk = None
        self._aside[unit] = talk
        return True

    def _send_after_silence(self, talk: _Talk, latest: float) -> None:
        """Sends the request after the silence; on a line that is never silent, after the timeout."""
        talk.timer = None
        at = min(self._heard_at + self._silence_s, latest)
        if at <= self._loop.time():
            self._send(talk)
        else:
            talk.timer = self._loop.call_at(at, self._send_after_silence, talk, latest)

    def _send(self, talk: _Talk) -> None:
        exchange, now = talk.exchange, self._loop.time()
        assert self._transport is not None  # closing stops the timer
        if exchange.over:  # who asked has given up while the line was not silent yet
            self._leave(talk)
            return
        asking = talk.asked = self._distinct(exchange.request, now)
        if asking is None:
            self._done(talk, silence(exchange, self.place, again=True, why="owes too many answers, and gave none"))
            return
        self._received = b""
        data = frame(asking)
        self._transport.write(data)
        request_s, talk.answer_s = (size * self._character_s for size in (len(data), asking.size + OVERHEAD))
        exchange.send(now, extra_s=request_s + talk.answer_s)
        talk.timer = self._loop.call_at(exchange.expires_at, self._expire, talk)
        if talk.yields:
            unit = exchange.unit
            talk.holds_until = now + request_s + hold_s(self._liveness.usual_s(unit), away=self._liveness.away(unit))
            self._move_on()

    def _distinct(self, request: Request, now: float) -> Request | None:
        """The request, or another read whose answer is of a length that the unit does not owe; None if all are owed."""
        if not isinstance(request, ReadRequest) or not self._debts.owes(request, now):
            return request
        return next((other for other in request.others() if not self._debts.owes(other, now)), None)

    def _expire(self, talk: _Talk) -> None:
        exchange, asked, now = talk.exchange, talk.asked, self._loop.time()
        assert asked is not None  # the timer runs from the sending on
        self._debts.add(asked, now)
        if talk is self._talk and talk.yields:
            self._turns.charge(exchange.sent_at, now)
        again = self._liveness.expired(asked.unit, sent_at=exchange.sent_at, now=now)
        why = "answers in pieces or garbled" if self._received and talk is self._talk else "does not answer"
        self._done(talk, silence(exchange, self.place, again=again, why=why))
        if self._reopens and self._liveness.dead:
            self.close()

    def _tire_of(self, exchange: Exchange) -> None:
        if not exchange.sent:
            why = "has not answered lately, and others need the line: it was not asked"
            exchange.fail(silence(exchange, self.place, again=True, why=why))

    def _done(self, talk: _Talk, outcome: bytes | DeviceError) -> None:
        if isinstance(outcome, DeviceError):
            talk.exchange.fail(outcome)
        else:
            talk.exchange.succeed(outcome)
        self._leave(talk)

    def _leave(self, talk: _Talk) -> None:
        """Nothing is listened for any more."""
        talk.stop_timer()
        if talk is self._talk:
            self._talk = None
        else:
            del self._aside[talk.exchange.unit]
        self._move_on()

    def _forget(self) -> list[Exchange]:
        if self._waker is not None:
            self._waker.cancel()
            self._waker = None
        talks = self._talks()
        self._talk = None
        self._aside.clear()
        for talk in talks:
            talk.stop_timer()
        return [*(talk.exchange for talk in talks), *self._turns.clear()]
