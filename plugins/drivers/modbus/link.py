"""One device's use of a line: its timeout, its repetition of reads, and no repetition of writes."""

from .line import Line, Silence
from .request import Request, fault


class Link:
    """timeout_s: how long each request may take. retries: how often a read without an answer is asked again."""

    def __init__(self, *, line: Line, timeout_s: float, retries: int) -> None:
        self._line = line
        self._timeout_s = timeout_s
        self._retries = retries

    async def read(self, request: Request) -> bytes:
        """The answer's data: registers high byte first, or bits packed from the lowest on.

        A unit that did not answer the request before either is asked once: its silence costs others their time.
        Raises Refusal if the device answers with an exception, DeviceError if it does not answer, or not to the point.
        """
        attempts = self._retries
        while True:
            try:
                answer = await self._line.ask(request, self._timeout_s)
            except Silence as silence:
                if not attempts or (silence.again and attempts == self._retries):
                    raise
                attempts -= 1
            else:
                if len(answer) == request.size and answer.startswith(request.head):
                    return answer[len(request.head) :]
                raise fault(request, answer, self._line.place)

    async def write(self, request: Request) -> None:
        """Sends it once, whatever happens. Raises as read does."""
        answer = await self._line.ask(request, self._timeout_s)
        if answer != request.head:
            raise fault(request, answer, self._line.place)
