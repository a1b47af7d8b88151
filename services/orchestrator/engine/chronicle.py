"""What happens to runs, told as events: one message per step of a run, none longer than the broker takes."""

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.v1.command import ErrorCode, Failure
from services.orchestrator.engine.tapes import Tapes
from services.orchestrator.run.carried import MOST_EVENT_BYTES, as_told
from services.orchestrator.run.orders import Told
from services.runtime.event_log import EventLog, Subject

RUN_AGGREGATE = "run"
_FRAMING_BYTES = 400
"""Of an event beside its data, about."""
_LEFT_OVER = Failure(code=ErrorCode.INTERNAL, message="the orchestrator was stopped while it ran")


class Chronicle:
    """Tells in the service's stream of events. tapes: keeps those of the latest runs here."""

    def __init__(self, *, events: EventLog, tapes: Tapes) -> None:
        self._events = events
        self._tapes = tapes

    def tell(
        self, scope: str, run: str, events: Sequence[Told], *, user: str | None, cause: str | None, over: bool
    ) -> str:
        """This has happened to the run, the first of it for that cause. Gives the id of the last event.

        over: nothing more will happen to it. Raises ContractError, or another ValueError: it cannot be told.
        """
        subject = Subject(scope=scope, aggregate=RUN_AGGREGATE, id=run)
        messages = list(_messages(events))
        for at, (message, tape) in enumerate(messages, start=1):
            last = over and at == len(messages)
            cause = self._events.tell_step(subject, message, user=user, cause=cause, over=last)
            self._tapes.record((scope, run), tape, over=last)
        assert cause is not None
        return cause

    def give_up(self, scope: str, run: str) -> None:
        """How the run has ended could not be told: the next session will tell that it did."""
        self._tapes.forget((scope, run))

    def close_left_over(self) -> None:
        """Ends the runs that an earlier session had begun and not ended: they are not taken up again."""
        for subject in self._events.open_of(RUN_AGGREGATE):
            data = {"error": _LEFT_OVER.model_dump(mode="json")}
            self._events.tell_step(subject, [("run.failed", data)], over=True)


def _messages(events: Sequence[Told]) -> Iterator[tuple[list[tuple[str, dict[str, Any]]], bytes]]:
    """Type and data of the events of each message, and the same as a JSON array."""
    message: list[tuple[str, dict[str, Any]]] = []
    texts: list[bytes] = []
    room = MOST_EVENT_BYTES
    for event in events:
        data, text = as_told(event.data)
        size = len(text) + _FRAMING_BYTES
        if size > room and message:
            yield message, _joined(texts)
            message, texts, room = [], [], MOST_EVENT_BYTES
        message.append((event.type, data))
        texts.append(b'["%s",%s]' % (event.type.encode(), text))
        room -= size
    yield message, _joined(texts)


def _joined(texts: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(texts) + b"]"
