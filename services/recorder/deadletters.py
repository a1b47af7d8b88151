"""What is set aside for good, with the reason: messages that keep no contract, points that the database refuses."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """reason: one of a few words, for counting. detail: for a person. topic: empty for a point."""

    reason: str
    detail: str
    topic: str
    payload: bytes


class DeadLetters:
    """The dead letters in the recorder's database: bounded, the oldest go first."""

    def __init__(self, *, most_bytes: int = 64 << 20) -> None:
        self._most_bytes = most_bytes

    def put(self, database: sqlite3.Connection, letters: Iterable[DeadLetter], *, now_us: int) -> None:
        """Keeps the letters, as part of the caller's transaction."""
        rows = [(now_us, letter.reason, letter.detail, letter.topic, letter.payload) for letter in letters]
        if not rows:
            return
        database.executemany("INSERT INTO dead_letter (t, reason, detail, topic, payload) VALUES (?, ?, ?, ?, ?)", rows)
        database.execute(
            "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM"
            " (SELECT id, sum(length(payload)) OVER (ORDER BY id DESC) AS held FROM dead_letter) WHERE held > ?)",
            (self._most_bytes,),
        )

    def all(self, database: sqlite3.Connection) -> list[DeadLetter]:
        """Every letter, oldest first."""
        rows = database.execute("SELECT reason, detail, topic, payload FROM dead_letter ORDER BY id")
        return [DeadLetter(*row) for row in rows]
