"""What is set aside for good, with the reason: messages that keep no contract, points that the database refuses."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

ROW_BYTES = 64
"""What a letter takes beside its texts: without it, empty messages would be kept without bound."""

_FORGET_OLDEST = (
    "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM (SELECT id,"
    " sum(length(payload) + length(topic) + length(detail) + ?) OVER (ORDER BY id DESC) AS held FROM dead_letter)"
    " WHERE held > ?) RETURNING reason"
)
_THROWN = "letters_thrown"
"""The key in `meta` of how many were thrown away, by reason, as JSON."""


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


class Choice(NamedTuple):
    """Which letters: those with all that is not None. after, to: after < id <= to. most: the first so many."""

    most: int
    ids: Sequence[int] | None = None
    reason: str | None = None
    after: int = 0
    to: int | None = None


class KeptLetter(NamedTuple):
    """A letter as it is kept. id: its place. t: when it was put here, microseconds since 1970 UTC."""

    id: int
    t: int
    letter: DeadLetter


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
            forgotten = database.execute(_FORGET_OLDEST, (ROW_BYTES, self._most_bytes)).fetchall()
            _count_thrown(database, (reason for (reason,) in forgotten))

    def chosen(self, database: sqlite3.Connection, choice: Choice) -> list[KeptLetter]:
        """The letters that are meant, the oldest first."""
        where, bound = ["id > ?"], list[int | str]([choice.after])
        if choice.to is not None:
            where.append("id <= ?")
            bound.append(choice.to)
        if choice.reason is not None:
            where.append("reason = ?")
            bound.append(choice.reason)
        if choice.ids is not None:
            where.append(f"id IN ({', '.join('?' * len(choice.ids))})")
            bound += choice.ids
        rows = database.execute(
            f"SELECT id, t, reason, detail, topic, payload FROM dead_letter WHERE {' AND '.join(where)}"  # noqa: S608
            " ORDER BY id LIMIT ?",
            (*bound, choice.most),
        )
        return [KeptLetter(at, t, DeadLetter(*rest)) for at, t, *rest in rows]

    def last(self, database: sqlite3.Connection) -> int:
        """The latest one's place; 0 if there is none."""
        ((at,),) = database.execute("SELECT coalesce(max(id), 0) FROM dead_letter").fetchall()
        return int(at)

    def remove(self, database: sqlite3.Connection, ids: Sequence[int]) -> None:
        """Takes letters away that are elsewhere from now on, as part of the caller's transaction."""
        database.executemany("DELETE FROM dead_letter WHERE id = ?", [(at,) for at in ids])

    def throw_away(self, database: sqlite3.Connection, letters: Sequence[KeptLetter]) -> None:
        """Takes letters away for good, and counts them, as part of the caller's transaction."""
        self.remove(database, [one.id for one in letters])
        _count_thrown(database, (one.letter.reason for one in letters))

    def all(self, database: sqlite3.Connection) -> list[DeadLetter]:
        """Every letter, oldest first."""
        rows = database.execute("SELECT reason, detail, topic, payload FROM dead_letter ORDER BY id")
        return [DeadLetter(*row) for row in rows]


def counts(database: sqlite3.Connection) -> dict[str, int]:
    """How many letters there are, by reason."""
    rows = database.execute("SELECT reason, count(*) FROM dead_letter GROUP BY reason ORDER BY reason")
    return {str(reason): int(count) for reason, count in rows}


def thrown(database: sqlite3.Connection) -> dict[str, int]:
    """How many were thrown away since the file was made, by reason."""
    found = database.execute("SELECT value FROM meta WHERE key = ?", (_THROWN,)).fetchone()
    return dict(json.loads(found[0])) if found else {}


def of_reason(database: sqlite3.Connection, reason: str) -> Iterator[DeadLetter]:
    """The letters with this reason, one at a time, the oldest first."""
    rows = database.execute(
        "SELECT reason, detail, topic, payload FROM dead_letter WHERE reason = ? ORDER BY id", (reason,)
    )
    return (DeadLetter(*row) for row in rows)


def _count_thrown(database: sqlite3.Connection, reasons: Iterable[str]) -> None:
    more = Counter(reasons)
    if more:
        total = json.dumps(Counter(thrown(database)) + more)
        database.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_THROWN, total))


def _size(letter: DeadLetter) -> int:
    return len(letter.payload) + len(letter.topic) + len(letter.detail) + ROW_BYTES
