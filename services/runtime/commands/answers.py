"""The answers of commands, kept so that a command that comes twice is executed once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.runtime.mqtt.delivery import Delivery

KEEP_S = 600.0
MOST = 10_000
MOST_BYTES = 16 << 20

Key = tuple[str, str, bytes]
"""What makes two commands the same: command topic (the user is a level of it), response topic, correlation data."""


class KeyTaken(Exception):
    """Another command was sent under this key, which its sender should have used once."""


@dataclass(slots=True)
class _Entry:
    until_s: float
    payload: bytes
    answer: bytes | None = None


class Answers:
    """The commands that have been begun, with their answers, oldest first.

    Kept for keep_s at least, unless there are more than `most` or they fill more than `most_bytes` with their answers:
    then the oldest go, answered ones first, and on_evict is called for each. Times are monotonic seconds.
    """

    def __init__(
        self, *, on_evict: Callable[[], None], most: int = MOST, most_bytes: int = MOST_BYTES, keep_s: float = KEEP_S
    ) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._most = most
        self._most_bytes = most_bytes
        self._keep_s = keep_s
        self._bytes = 0
        self._on_evict = on_evict

    @property
    def answered(self) -> list[tuple[Key, bytes]]:
        """Those that have an answer, with it, oldest first."""
        return [(key, entry.answer) for key, entry in self._entries.items() if entry.answer is not None]

    def begin(self, key: Key, payload: bytes, *, now_s: float, deadline_s: float) -> bool:
        """True if the command is new; it is known from now on."""
        self._forget_expired(now_s)
        if key in self._entries:
            return False
        self._entries[key] = _Entry(until_s=max(deadline_s, now_s + self._keep_s), payload=_digest(payload))
        self._bytes += _size(key)
        self._evict()
        return True

    def knows(self, key: Key, now_s: float) -> bool:
        """Whether a command was begun under this key, and is to be known still."""
        self._forget_expired(now_s)
        return key in self._entries

    def finish(self, key: Key, answer: bytes) -> None:
        """This is the command's answer."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.answer = answer
            self._bytes += len(answer)
            self._evict()

    def answer(self, key: Key, payload: bytes) -> bytes | None:
        """The command's answer; None while it is being executed. Raises KeyTaken."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.payload != _digest(payload):
            raise KeyTaken
        return entry.answer

    def forget(self, key: Key) -> None:
        """The command was not begun after all."""
        if key in self._entries:
            self._pop(key)

    def _forget_expired(self, now_s: float) -> None:
        while self._entries and self._entries[oldest := next(iter(self._entries))].until_s < now_s:
            self._pop(oldest)

    def _evict(self) -> None:
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            answered = (key for key, entry in self._entries.items() if entry.answer is not None)
            self._pop(next(answered, None) or next(iter(self._entries)))
            self._on_evict()

    def _pop(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self._bytes -= _size(key) + len(entry.answer or b"")


def key_of(command: Delivery[Any]) -> Key:
    """The command's key."""
    return command.topic, command.response_topic or "", command.correlation or b""


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def _size(key: Key) -> int:
    """What the sender has chosen: correlation data alone may have 64 kB."""
    return sum(map(len, key))
