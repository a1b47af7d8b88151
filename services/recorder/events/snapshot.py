"""States of aggregates in the recorder's file, so that not all of their events are gone through again.

One is made each EACH versions where a state is asked for. It names the delivery that was the last by then and its link:
where that is not the chain's link any more, the snapshot is not used. One that stands for events that retention has
removed is sealed: its digest is in an event of the chain (see retention).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from services.recorder.events.fold import Row, State, decode_state

EACH = 10_000
"""Versions between two snapshots of an aggregate."""

SCHEMA = """
CREATE TABLE snapshot (aggregate INTEGER NOT NULL REFERENCES aggregate, version INTEGER NOT NULL,
    number INTEGER NOT NULL, link BLOB NOT NULL, state TEXT NOT NULL, sealed INTEGER,
    PRIMARY KEY (aggregate, version)) WITHOUT ROWID;
CREATE INDEX snapshot_sealed ON snapshot (sealed) WHERE sealed IS NOT NULL;
"""
"""number, link: the delivery that was the last when it was made. sealed: the row of the event that has the digest."""

_ROWS = """
SELECT version, type, t, user, data FROM event INDEXED BY event_aggregate
WHERE aggregate = ? AND version > ? AND version <= ? ORDER BY version, id
"""


class Snapshot(NamedTuple):
    """The state of an aggregate's row after a version. row: the last event's row when it was made."""

    aggregate: int
    version: int
    number: int
    link: bytes
    state: str
    row: int


def rows(database: sqlite3.Connection, aggregate: int, *, after: int, to: int) -> Iterator[Row]:
    """The aggregate's events above the version `after`, up to `to`, by version."""
    return map(Row._make, database.execute(_ROWS, (aggregate, after, to)))


def nearest(database: sqlite3.Connection, aggregate: int, version: int) -> State:
    """The state to go on from toward that version, perhaps the one before the first event. The chain vouches for it."""
    found = database.execute(
        "SELECT version, state FROM snapshot LEFT JOIN delivery ON delivery.id = number"
        " WHERE aggregate = ? AND version <= ? AND (sealed IS NOT NULL OR delivery.link = snapshot.link)"
        " ORDER BY version DESC LIMIT 1",
        (aggregate, version),
    ).fetchone()
    if found is None:
        return State()
    try:
        return decode_state(found[1])
    except ValueError:
        raise sqlite3.DataError(f"the snapshot of version {found[0]} is broken; see `dinrail events verify`") from None


def keep(database: sqlite3.Connection, snapshots: Iterable[Snapshot]) -> None:
    """Adds snapshots that were made beside the recorder, unless an earlier version has come since."""
    for one in snapshots:
        late = database.execute(
            "SELECT 1 FROM event WHERE id > ? AND +aggregate = ? AND version <= ? LIMIT 1",
            (one.row, one.aggregate, one.version),
        ).fetchone()
        kept = database.execute("SELECT cut FROM aggregate WHERE id = ?", (one.aggregate,)).fetchone()
        if late is None and kept is not None and kept[0] < one.version:
            database.execute(
                "INSERT OR IGNORE INTO snapshot (aggregate, version, number, link, state) VALUES (?, ?, ?, ?, ?)",
                one[:5],
            )


def forget(database: sqlite3.Connection, aggregate: int, *, since: int) -> None:
    """An event of this version has come late: states from it on are others now. Sealed ones stay."""
    database.execute("DELETE FROM snapshot WHERE aggregate = ? AND version >= ? AND sealed IS NULL", (aggregate, since))


class Base(NamedTuple):
    """The state of an aggregate's row after the last version that retention has removed."""

    aggregate: int
    version: int
    state: str


def seal(database: sqlite3.Connection, bases: Sequence[Base], *, number: int, link: bytes, row: int) -> None:
    """Puts the bases in the place of all earlier states. row: of the event with their digests, in delivery `number`."""
    for base in bases:
        database.execute("DELETE FROM snapshot WHERE aggregate = ? AND version <= ?", base[:2])
        database.execute(
            "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?)",
            (base.aggregate, base.version, number, link, base.state, row),
        )


def digest(state: str) -> str:
    """SHA-256 of a state as it is kept, hex."""
    return sha256(state.encode()).hexdigest()
