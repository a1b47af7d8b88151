"""When the recorder first heard of a number: checkpoints, at most one a minute per stream and epoch.

A row says: in that minute (of the recorder's clock) numbers above `seq` were first heard of. They are those up to the
`seq` of the next row of the epoch. So every number belongs to exactly one minute, also when the clock is set: one that
came late, or is missing, to that in which the stream went beyond it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from services.recorder.embedded.axis import MINUTE_US
from services.recorder.spool.marks import EpochMarks
from services.runtime.gaps import StreamKey
from services.runtime.ranges import Ranges

SCHEMA = """
CREATE TABLE heard (stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    minute INTEGER NOT NULL, PRIMARY KEY (stream, epoch, seq)) WITHOUT ROWID;
CREATE INDEX heard_minute ON heard (stream, epoch, minute);
CREATE INDEX heard_old ON heard (minute);
"""

KEPT_MINUTES = 400 * 24 * 60
"""Older rows are removed: what they told of then belongs to no stretch of time."""

Marks = Mapping[StreamKey, Mapping[int, EpochMarks]]
Row = tuple[StreamKey, int, int, int]
"""Stream, epoch, seq and minute."""


class Heard:
    """Knows which rows are due. Pure."""

    def __init__(self) -> None:
        self._minute = -1
        self._noted: set[tuple[StreamKey, int]] = set()

    def due(self, before: Marks, after: Marks, *, now_us: int) -> list[Row]:
        """The rows that belong to the change from these marks to those."""
        minute = now_us // MINUTE_US
        noted = self._noted if minute == self._minute else set()
        rows: list[Row] = []
        for stream, epochs in after.items():
            for epoch, marks in epochs.items():
                known = before.get(stream, {}).get(epoch)
                top = known.top if known else 0
                if marks.top > top and (stream, epoch) not in noted:
                    rows.append((stream, epoch, top, minute))
        return rows

    def noted(self, rows: Iterable[Row]) -> None:
        """These are on disk."""
        for stream, epoch, _, minute in rows:
            if minute != self._minute:
                self._minute = minute
                self._noted.clear()
            self._noted.add((stream, epoch))


def put(database: sqlite3.Connection, rows: Iterable[Row], streams: Mapping[StreamKey, int]) -> None:
    """Adds the rows, as part of the caller's transaction, and removes those that are too old."""
    values = [(streams[stream], epoch, seq, minute) for stream, epoch, seq, minute in rows]
    if not values:
        return
    database.executemany("INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?)", values)
    database.execute("DELETE FROM heard WHERE minute < ?", (values[0][3] - KEPT_MINUTES,))


def between(
    database: sqlite3.Connection, stream: int, epoch: int, *, top: int, since: int | None, until: int | None
) -> Ranges:
    """The numbers first heard of in since <= minute < until. top: the highest number heard of."""
    found = database.execute(
        "SELECT seq, (SELECT min(seq) FROM heard AS later WHERE later.stream = heard.stream"
        " AND later.epoch = heard.epoch AND later.seq > heard.seq) FROM heard"
        " WHERE stream = ? AND epoch = ? AND minute >= ? AND minute < ? ORDER BY seq",
        (stream, epoch, -1 if since is None else since, 1 << 60 if until is None else until),
    )
    numbers = Ranges(_numbers(found, top))
    if since is None:  # what is older than the oldest row
        oldest = database.execute("SELECT min(seq) FROM heard WHERE stream = ? AND epoch = ?", (stream, epoch))
        (first,) = oldest.fetchone()
        numbers.add(1, top if first is None else first)
    return numbers


def _numbers(rows: Iterable[tuple[int, int | None]], top: int) -> Iterator[tuple[int, int]]:
    for seq, later in rows:
        yield seq + 1, top if later is None else later
