"""Which runs of triggers have begun, and which of these are over: a kill loses nothing of it.

What is known here reaches the trigger's progress, and the disk, soon after (see progress.LINGER_S), and is left to it
then: a run that lasts holds no page of the book.
"""

from collections.abc import Sequence
from contextlib import suppress

from services.runtime.commands.answers import Key, key_of
from services.runtime.commands.book import BookError, CommandBook
from services.runtime.mqtt.delivery import Delivery

_OVER, _KEPT = b"over", b"kept"


class BegunRuns:
    """trigger: the name of one that misses nothing; name: of a message of it."""

    def __init__(self, *, book: CommandBook) -> None:
        self._book = book
        self._left: dict[str, set[str]] = {}
        self._ended: dict[str, list[str]] = {}
        for entry in book.left_over:
            self._left.setdefault(entry.topic, set()).add((entry.correlation or b"").decode())
        for (trigger, _, name), answer in book.answered:
            if answer == _OVER:
                self._ended.setdefault(trigger, []).append(name.decode())

    async def begin(self, trigger: str, name: str) -> None:
        """The run for this message begins. Raises BookError: it must not."""
        key = _key(trigger, name)
        if await self._book.begin(key, _entry(trigger, name)) is None and self._book.answer(key, b"") is None:
            raise BookError("one for the same message has begun, and its end is not known")

    def kept(self, trigger: str, name: str) -> None:
        """Progress has on disk that it has begun."""
        self._finish(trigger, name, _KEPT)

    def over(self, trigger: str, name: str) -> None:
        """It is over, or there was none."""
        self._finish(trigger, name, _OVER)

    def is_over(self, trigger: str, name: str) -> bool:
        """Whether that was said here, or in an earlier session a short time before its end."""
        return self._book.answer(_key(trigger, name), b"") == _OVER

    def take_left(self, trigger: str) -> set[str]:
        """What an earlier session had begun, and did not see the end of; told once."""
        left = self._left.pop(trigger, set())
        for name in left:
            self.over(trigger, name)
        return left

    def take_ended(self, trigger: str) -> Sequence[str]:
        """What an earlier session has seen the end of, oldest first; told once."""
        return self._ended.pop(trigger, ())

    def forget_left(self) -> None:
        """Nobody is there any more who would take the rest."""
        self._ended.clear()
        for trigger in tuple(self._left):
            self.take_left(trigger)

    def _finish(self, trigger: str, name: str, how: bytes) -> None:
        key = _key(trigger, name)
        if self._book.answer(key, b"") is None:
            with suppress(BookError):  # progress will tell
                self._book.finish(key, how)


def _entry(trigger: str, name: str) -> Delivery[bytes]:
    return Delivery(topic=trigger, levels={}, payload=b"", correlation=name.encode())


def _key(trigger: str, name: str) -> Key:
    return key_of(_entry(trigger, name))
