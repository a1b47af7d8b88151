"""What is set aside for good, with the reason: messages that keep no contract, points that the database refuses."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

ROW_BYTES = 64
"""What a letter takes beside its texts: without it, empty messages would be kept without bound."""

_FORGET_OLDEST = (
    "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM (SELECT id,"
    " sum(length(payload) + length(topic) + length(detail) + ?) OVER (ORDER BY id DESC) AS held FROM dead_letter)"
    " WHERE held > ?)"
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """reason: one of a few words, for counting. detail: for a person. topic: empty for a point.

    row: of the spool, for a message that was there.
    """

    reason: str
    detail: str
    topic: str
    payload: bytes
    row: int | None = field(default=None, compare=False)


class DeadLetters:
    """The dead letters in the recorder's database: bounded, the oldest go first.

    most_bytes: payloads, topics, details and ROW_BYTES for each; now and then a sixteenth more, since looking for the
    oldest takes reading them all.
    """

    def __init__(self, *, most_bytes: int = 64 << 20) -> None:
        self._most_bytes = most_bytes
        self._added = most_bytes  # by an earlier process: how many is not known

    def put(self, database: sqlite3.Connection, letters: Sequence[DeadLetter], *, now_us: int) -> None:
        """Keeps the letters, as part of the caller's transaction."""
        rows = [(now_us, letter.reason, letter.detail, letter.topic, letter.payload) for letter in letters]
        if not rows:
            return
        database.executemany("INSERT INTO dead_letter (t, reason, detail, topic, payload) VALUES (?, ?, ?, ?, ?)", rows)
        self._added += sum(map(_size, letters))
        if self._added >= self._most_bytes // 16:
            self._added = 0
            database.execute(_FORGET_OLDEST, (ROW_BYTES, self._most_bytes))

    def all(self, database: sqlite3.Connection) -> list[DeadLetter]:
        """Every letter, oldest first."""
        rows = database.execute("SELECT reason, detail, topic, payload FROM dead_letter ORDER BY id")
        return [DeadLetter(*row) for row in rows]


def _size(letter: DeadLetter) -> int:
    return len(letter.payload) + len(letter.topic) + len(letter.detail) + ROW_BYTES
