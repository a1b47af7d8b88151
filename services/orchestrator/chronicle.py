"""What happens to runs, told as events: one message per step of a run, none longer than the broker takes."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import JsonValue

from contracts.v1.command import ErrorCode, Failure
from services.orchestrator.orders import Told
from services.orchestrator.tapes import Tapes
from services.runtime.event_log import EventLog, Subject

RUN_AGGREGATE = "run"
MOST_VALUE_BYTES = 64 << 10
"""A value longer than this is told by its size and digest alone."""
_MOST_MESSAGE_BYTES = 512 << 10
_FRAMING_BYTES = 400
"""Of an event beside its data, about."""
_LEFT_OVER = Failure(code=ErrorCode.INTERNAL, message="the orchestrator was stopped while it ran")
_VALUES = ("outputs", "inputs")


class Chronicle:
    """Tells in the service's stream of events. tapes: keeps those of the latest runs here."""

    def __init__(self, *, events: EventLog, tapes: Tapes) -> None:
        self._events = events
        self._tapes = tapes

    def tell(
        self, scope: str, run: str, events: Sequence[Told], *, user: str | None, cause: str | None, over: bool
    ) -> str:
        """This has happened to the run, the first of it for that cause. Gives the id of the last event.

        over: nothing more will happen to it.
        """
        subject = Subject(scope=scope, aggregate=RUN_AGGREGATE, id=run)
        messages = list(_messages(events))
        for at, message in enumerate(messages, start=1):
            last = over and at == len(messages)
            cause = self._events.tell_step(subject, message, user=user, cause=cause, over=last)
            self._tapes.record((scope, run), message, over=last)
        assert cause is not None
        return cause

    def close_left_over(self) -> None:
        """Ends the runs that an earlier session had begun and not ended: they are not taken up again."""
        for subject in self._events.open_of(RUN_AGGREGATE):
            data = {"error": _LEFT_OVER.model_dump(mode="json")}
            self._events.tell_step(subject, [("run.failed", data)], over=True)


def _messages(events: Sequence[Told]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    message: list[tuple[str, dict[str, Any]]] = []
    room = _MOST_MESSAGE_BYTES
    for event in events:
        data, size = event.data, _FRAMING_BYTES
        for name in _VALUES:
            if name in data:
                values, length = bounded(data[name])
                data = {**data, name: values}
                size += length
        if size > room and message:
            yield message
            message, room = [], _MOST_MESSAGE_BYTES
        message.append((event.type, data))
        room -= size
    yield message


def bounded(values: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], int]:
    """The values as they are told: a long one by its size and digest alone. And about how long that is as JSON."""
    total = 0
    told = values
    for name, value in values.items():
        length = weight(value)
        if length > MOST_VALUE_BYTES:
            text = json.dumps(value, separators=(",", ":"))
            digest = hashlib.sha256(text.encode()).hexdigest()
            told = {**told, name: {"bytes": len(text), "sha256": digest}}
            length = _FRAMING_BYTES
        total += length
    return told, total


def weight(value: JsonValue) -> int:
    """About how many bytes of JSON the value is."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, list):
        return 2 + sum(map(weight, value))
    if isinstance(value, dict):
        return 2 + sum(len(name) + 4 + weight(item) for name, item in value.items())
    return 12
