"""What happens to runs, told as events: one message per step of a run, none longer than the broker takes."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from contracts.v1.command import ErrorCode, Failure
from services.orchestrator.orders import Told
from services.orchestrator.tapes import Tapes
from services.runtime.event_log import EventLog, Subject

RUN_AGGREGATE = "run"
MOST_VALUE_BYTES = 64 << 10
"""A value longer than this is told by its size and digest alone."""
MOST_MESSAGE_BYTES = 512 << 10
"""An event longer than this has more of its values told so, the longest first."""
_CUT_BYTES = 128
"""A value told by its size and digest is about so long itself."""
_FRAMING_BYTES = 400
"""Of an event beside its data, about."""
_LEFT_OVER = Failure(code=ErrorCode.INTERNAL, message="the orchestrator was stopped while it ran")
_ENCODE = msgspec.json.Encoder().encode
_VALUES = ("outputs", "inputs", "values")


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
    """Type and data of the events of each message, and the same as JSON."""
    message: list[tuple[str, dict[str, Any]]] = []
    texts: list[bytes] = []
    room = MOST_MESSAGE_BYTES
    for event in events:
        told = (event.type, event.data)
        text = _ENCODE(told)
        if len(text) > MOST_VALUE_BYTES:
            told = (event.type, shortened(event.data, len(text)))
            text = _ENCODE(told)
        size = len(text) + _FRAMING_BYTES
        if size > room and message:
            yield message, _joined(texts)
            message, texts, room = [], [], MOST_MESSAGE_BYTES
        message.append(told)
        texts.append(text)
        room -= size
    yield message, _joined(texts)


def _joined(texts: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(texts) + b"]"


def shortened(data: dict[str, Any], length: int) -> dict[str, Any]:
    """The data of an event with its longest values told by size and digest alone. length: of all as JSON, in bytes.

    A run carries no more than fits into a message (see carried), so that enough of it can be told so.
    """
    told = {**data, **{field: dict(data[field]) for field in _VALUES if data.get(field)}}
    values = [(_ENCODE(value), field, name) for field in _VALUES for name, value in told.get(field, {}).items()]
    values.sort(key=lambda value: len(value[0]), reverse=True)
    for text, field, name in values:
        if len(text) <= MOST_VALUE_BYTES and (length <= MOST_MESSAGE_BYTES or len(text) <= _CUT_BYTES):
            break
        told[field][name] = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        length -= len(text) - _CUT_BYTES
    return told
