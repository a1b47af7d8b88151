"""What the lines to Modbus devices have in common: an exchange, its deadline, and how its failures are told.

A line belongs to whoever asks on it: several devices may share one. An exchange that has been sent is the line's own:
if who asked gives up, its answer is still waited for, and thrown away, so that it is taken for no other.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol, cast

from plugins.api.driver import DeviceError, NotSent

from .request import Request

RESTED_S = 5.0
"""After so long without a request, an end of the connection is no sign of a fault: many devices and gateways close one
that nobody uses."""


class Silence(DeviceError):
    """A unit gave no sound answer within the timeout. again: nor had it answered the request before."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class Line(Protocol):
    """An open connection to one or more units."""

    place: str

    @property
    def lost(self) -> bool:
        """Whether it is of no use any more."""
        ...

    @property
    def rested(self) -> bool:
        """Whether the other end has closed it after RESTED_S without a request."""
        ...

    def ask(self, request: Request, timeout_s: float, *, by: float = math.inf) -> asyncio.Future[bytes]:
        """The unit's answer to the request, function code and data, whatever it says.

        It fails with Silence if no sound one comes within the timeout, counted from the sending; with DeviceError if
        the line is lost (raised at once if it is lost already), or another unit answers; with NotSent if its turn has
        not come by this time of the loop. Cancelled before its turn, it is never sent; later, the line stays in step.
        """
        ...

    def close(self) -> None:
        """Closes it. Whoever waits for an answer gets a DeviceError. Nothing happens if it is closed."""
        ...


class Exchange:
    """A request on its way to an answer. The times are those of the loop; 0 until it is sent."""

    __slots__ = ("answer", "asked_at", "expires_at", "overdue", "request", "sent", "sent_at", "timeout_s")

    def __init__(self, request: Request, timeout_s: float, *, by: float, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.timeout_s = timeout_s
        self.asked_at = loop.time()
        self.answer: asyncio.Future[bytes] = loop.create_future()
        if by < math.inf:
            loop.call_at(by, self._give_up)
        self.sent = False
        self.sent_at = 0.0
        self.expires_at = 0.0
        self.overdue = False

    @property
    def unit(self) -> int:
        """Who is asked."""
        return self.request.unit

    @property
    def over(self) -> bool:
        """Whether it is answered, has failed, or nobody wants it any more."""
        return self.answer.done()

    def send(self, now: float, *, extra_s: float = 0.0) -> None:
        """It is sent now. extra_s: how long its bytes and those of the answer take on the wire, beside the timeout."""
        self.sent = True
        self.sent_at = now
        self.expires_at = now + self.timeout_s + extra_s

    def succeed(self, answer: bytes) -> None:
        """Gives the answer to who asked, unless it has given up."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: DeviceError) -> None:
        """Tells who asked, unless it has given up."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # who asked may be cancelled before it looks: that is no error to report

    def _give_up(self) -> None:
        if not self.sent:
            self.fail(not_sent())


class Wire(asyncio.Protocol, ABC):
    """What every line does with its transport, a protocol of asyncio: of use from connection_made() on."""

    def __init__(self, *, place: str) -> None:
        self.place = place
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._rested = False
        self._asked_at = self._loop.time()

    @property
    def lost(self) -> bool:
        """See Line."""
        return self._transport is None

    @property
    def rested(self) -> bool:
        """See Line."""
        return self._rested

    def close(self) -> None:
        """See Line."""
        if self._transport is not None:
            self._transport.abort()
            self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line is open. Serial transports tell it twice."""
        if not self._closed:
            self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing that is under way will be answered."""
        if not self._closed:
            self._rested = not self._end() and self._loop.time() - self._asked_at >= RESTED_S

    def _exchange(self, request: Request, timeout_s: float, *, by: float) -> Exchange:
        """A request that is asked now. Raises DeviceError if the line is lost."""
        if self._transport is None:
            raise connection_lost(self.place)
        self._asked_at = self._loop.time()
        return Exchange(request, timeout_s, by=by, loop=self._loop)

    def _end(self) -> bool:
        """Whether anything was under way."""
        self._transport = None
        self._closed = True
        exchanges = list(self._forget())
        for exchange in exchanges:
            exchange.fail(connection_lost(self.place))
        return bool(exchanges)

    @abstractmethod
    def _forget(self) -> Iterable[Exchange]:
        """Ends all timers and all that is under way or waits: these exchanges."""


def silence(exchange: Exchange, place: str, *, again: bool, why: str = "does not answer") -> Silence:
    """The error of an exchange that has expired."""
    message = f"unit {exchange.request.unit} at {place} {why} within {exchange.timeout_s:g} s"
    return Silence(message, again=again)


def not_sent() -> NotSent:
    """The error of an exchange whose turn has not come in time."""
    return NotSent("it waited for its turn on the line")


def connection_lost(place: str) -> DeviceError:
    """The error of everything that was under way or is asked later."""
    return DeviceError(f"the connection to {place} is lost", lost=True)
