"""The broker's answers that are awaited on one connection: a PUBACK for each publication (OASIS MQTT 5.0, 3.4)."""

import asyncio
from dataclasses import dataclass

from services.runtime.delivery import BusError, BusUnavailable, PublishRefused

_REFUSED = 0x80  # and above: MQTT 5.0, 2.4


@dataclass(frozen=True, slots=True)
class _Awaited:
    answer: asyncio.Future[None]
    topic: str
    since_s: float


class Acknowledgements:
    """By packet identifier, oldest first."""

    def __init__(self) -> None:
        self._awaited: dict[int, _Awaited] = {}

    def expect(self, mid: int, answer: asyncio.Future[None], *, topic: str, now_s: float) -> None:
        """The publication with this packet identifier has been handed over; `answer` is set when the broker answers."""
        self._awaited[mid] = _Awaited(answer, topic, now_s)

    def settle(self, mid: int, reason: int, text: str) -> None:
        """The broker has answered: the future gets its result, or PublishRefused."""
        awaited = self._awaited.pop(mid, None)
        if awaited is None or awaited.answer.done():
            return
        if reason >= _REFUSED:
            fail(awaited.answer, PublishRefused(awaited.topic, reason, text))
        else:
            awaited.answer.set_result(None)

    def oldest_s(self, now_s: float) -> float:
        """For how long the oldest has been awaited; 0 if none is."""
        oldest = next(iter(self._awaited.values()), None)
        return now_s - oldest.since_s if oldest else 0.0

    def give_up(self) -> None:
        """The connection is over: nothing more will be answered."""
        for awaited in self._awaited.values():
            if not awaited.answer.done():
                fail(awaited.answer, BusUnavailable("the connection broke before the broker had answered"))
        self._awaited.clear()

    def __len__(self) -> int:
        """How many are awaited."""
        return len(self._awaited)


def fail(answer: asyncio.Future[None], error: BusError) -> None:
    """The future raises the error, if somebody waits for it."""
    answer.set_exception(error)
    answer.exception()  # counts as looked at, should nobody wait for it any more
