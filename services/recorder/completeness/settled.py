"""What has become of the messages that the spool has let go of: in the history, or set aside.

Numbers as ranges, by stream and epoch, written in the transaction in which a message leaves the spool (or, for events,
in which it comes). So at any moment every number that is had is in exactly one of: the spool, written, dead.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import NamedTuple

from contracts.v1.frame_codec import decode_header
from services.runtime.ranges import Ranges

SCHEMA = """
CREATE TABLE settled (stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL, written TEXT NOT NULL,
    dead TEXT NOT NULL, PRIMARY KEY (stream, epoch)) WITHOUT ROWID;
"""

Number = tuple[int, int, int]
"""Row of the stream, epoch, sequence number."""


class Settled(NamedTuple):
    """Of one epoch of a stream. written: the history, or the event store, has them. dead: no message of any contract.

    A frame of which a database has refused single points is written; those points are dead letters of their own.
    """

    written: Ranges
    dead: Ranges


def read(database: sqlite3.Connection, stream: int, epoch: int) -> Settled:
    """What is settled of the epoch. stream: its row. Raises sqlite3.Error."""
    found = database.execute("SELECT written, dead FROM settled WHERE stream = ? AND epoch = ?", (stream, epoch))
    written, dead = found.fetchone() or ("[]", "[]")
    try:
        return Settled(Ranges(json.loads(written)), Ranges(json.loads(dead)))
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"what is settled of stream {stream}, epoch {epoch}, is damaged: {error}") from None


def leave_spool(database: sqlite3.Connection, first: int, last: int, dead: Collection[int]) -> None:
    """The spool's rows first..last are dealt with, as part of the caller's transaction. dead: those set aside."""
    rows = database.execute("SELECT id, stream, epoch, seq FROM spool WHERE id BETWEEN ? AND ?", (first, last))
    written: list[Number] = []
    aside: list[Number] = []
    for row, *number in rows:
        (aside if row in dead else written).append((number[0], number[1], number[2]))
    book(database, written, aside)


def book(database: sqlite3.Connection, written: Iterable[Number], dead: Iterable[Number] = ()) -> None:
    """These are dealt with, as part of the caller's transaction. One that was set aside may be written later."""
    changed: dict[tuple[int, int], Settled] = {}
    for stream, epoch, seq in written:
        settled = _at(database, changed, stream, epoch)
        settled.written.add(seq, seq)
        settled.dead.remove(seq, seq)
    for stream, epoch, seq in dead:
        settled = _at(database, changed, stream, epoch)
        if not settled.written.covers(seq, seq):
            settled.dead.add(seq, seq)
    database.executemany(
        "INSERT OR REPLACE INTO settled (stream, epoch, written, dead) VALUES (?, ?, ?, ?)",
        [(*key, json.dumps(list(one.written)), json.dumps(list(one.dead))) for key, one in changed.items()],
    )


def adopt(database: sqlite3.Connection) -> None:
    """Of an earlier layout: the spool's rows get their numbers; what is had and not in the spool counts as written."""
    for row, topic, payload in database.execute("SELECT id, topic, payload FROM spool").fetchall():
        header = decode_header(payload, topic=topic)
        database.execute("UPDATE spool SET epoch = ?, seq = ? WHERE id = ?", (header.epoch, header.seq, row))
    for stream, epoch, have in database.execute("SELECT stream, epoch, have FROM mark").fetchall():
        written = Ranges(json.loads(have))
        waiting = database.execute("SELECT seq FROM spool WHERE stream = ? AND epoch = ?", (stream, epoch))
        for (seq,) in waiting:
            written.remove(seq, seq)
        database.execute("INSERT INTO settled VALUES (?, ?, ?, '[]')", (stream, epoch, json.dumps(list(written))))


def _at(database: sqlite3.Connection, changed: dict[tuple[int, int], Settled], stream: int, epoch: int) -> Settled:
    key = (stream, epoch)
    if key not in changed:
        changed[key] = read(database, stream, epoch)
    return changed[key]
