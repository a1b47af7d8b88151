"""One device's use of a line: its timeout, its repetition of reads, and no repetition of writes."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from plugins.api.driver import DeviceError

from .line import Line, Silence, not_sent
from .request import ACKNOWLEDGE, Refusal, Request, fault

Opened = Callable[[float], Awaitable[Line]]
"""The line again, after a timeout in seconds at most, where the other end has closed it at rest. Raises DeviceError."""


class Link:
    """timeout_s: how long each request may take. retries: how often a read without an answer is asked again."""

    def __init__(self, *, line: Line, timeout_s: float, retries: int, opened: Opened | None = None) -> None:
        self._line = line
        self._opened = opened
        self._timeout_s = timeout_s
        self._retries = retries

    @property
    def rested(self) -> bool:
        """Whether wake() has something to do."""
        return self._line.rested

    async def wake(self) -> None:
        """Opens the connection again that the other end has closed at rest. Raises DeviceError."""
        if self._line.rested and self._opened is not None:
            try:
                self._line = await self._opened(self._timeout_s)
            except DeviceError as error:
                raise DeviceError(str(error), cause=error.cause, lost=True) from error

    def ask(self, request: Request) -> asyncio.Future[bytes]:
        """Begins to ask, for result(). Raises DeviceError if the line is lost."""
        return self._line.ask(request, self._timeout_s)

    async def result(self, request: Request, answer: asyncio.Future[bytes]) -> bytes:
        """The data in the answer to a read: registers high byte first, or bits packed from the lowest on.

        A unit that gave no answer is asked again, unless it was silent before: its silence costs others their time.
        Raises Refusal if the device answers with an exception, DeviceError if it does not answer, or not to the point.
        """
        attempts = self._retries
        while True:
            try:
                pdu = await answer
            except Silence as silence:
                if not attempts or (silence.again and attempts == self._retries):
                    raise
                attempts -= 1
                answer = self.ask(request)
            else:
                if len(pdu) == request.size and pdu.startswith(request.head):
                    return pdu[len(request.head) :]
                raise fault(request, pdu, self._line.place)

    async def read(self, request: Request) -> bytes:
        """Asks and gives the result. Raises as result() does."""
        return await self.result(request, self.ask(request))

    async def read_before(self, request: Request, by: float) -> bytes:
        """As read(), but raises NotSent if the answer has not come by this time of the loop."""
        try:
            async with asyncio.timeout_at(by if by < math.inf else None):
                return await self.read(request)
        except TimeoutError:
            raise not_sent() from None

    async def write(self, request: Request, *, by: float = math.inf) -> None:
        """Sends it once, whatever happens, by this time of the loop or not at all. Raises NotSent, or as read does.

        A device that acknowledges it (exception 5) has taken it, and needs longer than an answer may: no refusal.
        """
        if by <= asyncio.get_running_loop().time():
            raise not_sent()
        answer = await self._line.ask(request, self._timeout_s, by=by)
        if answer != request.head:
            error = fault(request, answer, self._line.place)
            if not isinstance(error, Refusal) or error.code != ACKNOWLEDGE:
                raise error
