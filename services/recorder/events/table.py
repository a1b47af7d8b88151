"""The event store in the recorder's file: every event a row, only ever added to, chained so that a change shows.

A delivery is one message of an owner's stream; its events are the rows that name it. Each delivery has a link: the
SHA-256 of the link before it (of the first: of the store's UUID) followed by the delivery and its events as JSON, see
link(). So a row that is changed, put in or taken out fits its link no more.

An aggregate counts its events' versions from 1. `last` is the highest that came, `held` how many different ones did:
where they differ, versions are missing, lost or still to come. A version that comes again is kept as well. `cut` is the
last one that retention has removed; all up to it count as held, and one that comes after all as repeated.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from contracts.v1.event_codec import EventsStruct, EventStruct
from services.recorder.events import snapshot
from services.runtime.gaps import StreamKey

SCHEMA = """
CREATE TABLE delivery (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, arrived INTEGER NOT NULL, link BLOB NOT NULL);
CREATE TABLE aggregate (id INTEGER PRIMARY KEY, scope TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    held INTEGER NOT NULL, last INTEGER NOT NULL, cut INTEGER NOT NULL DEFAULT 0, UNIQUE (scope, kind, name));
CREATE INDEX aggregate_incomplete ON aggregate (id) WHERE held < last;
CREATE TABLE event (id INTEGER PRIMARY KEY, delivery INTEGER NOT NULL REFERENCES delivery,
    aggregate INTEGER NOT NULL REFERENCES aggregate, version INTEGER NOT NULL, type TEXT NOT NULL, t INTEGER NOT NULL,
    uuid TEXT NOT NULL, user TEXT, cause TEXT, data TEXT NOT NULL);
CREATE INDEX event_aggregate ON event (aggregate, version);
CREATE INDEX event_type ON event (type, t);
CREATE INDEX event_user ON event (user, t) WHERE user IS NOT NULL;
CREATE INDEX event_t ON event (t);
"""
FROM_3 = "ALTER TABLE aggregate ADD COLUMN cut INTEGER NOT NULL DEFAULT 0"
"""Layout 3 had no retention."""

_aggregate_of = attrgetter("scope", "aggregate", "aggregate_id")


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message of events, and the stream that it belongs to."""

    stream: StreamKey
    message: EventsStruct


class Aggregate(NamedTuple):
    """What events happen to; see contracts.v1.event.Event."""

    scope: str
    kind: str
    name: str


class Hole(NamedTuple):
    """Versions of an aggregate that should have come before one that has. stream: of the one that came."""

    aggregate: Aggregate
    first: int
    last: int
    stream: StreamKey


@dataclass(slots=True)
class Findings:
    """What the versions of a batch have shown. missing: by how many more, or fewer, are missing now than before it.

    holes: that it has opened. repeated: aggregates and versions that were there already.
    """

    missing: int = 0
    holes: list[Hole] = field(default_factory=list)
    repeated: list[tuple[Aggregate, int]] = field(default_factory=list)


def put(
    database: sqlite3.Connection, batch: Iterable[Delivered], streams: Mapping[StreamKey, int], *, now_us: int
) -> Findings:
    """Adds the messages' events, as part of the caller's transaction. streams: the numbers of their rows."""
    findings = Findings()
    number, link_before = end(database)
    for one in batch:
        message = one.message
        if not message.events:
            continue  # it says that nothing has happened; the marks tell that it came
        number += 1
        link_before = link(link_before, number, one, arrived=now_us)
        database.execute(
            "INSERT INTO delivery VALUES (?, ?, ?, ?, ?, ?)",
            (number, streams[one.stream], message.epoch, message.seq, now_us, link_before),
        )
        for key, events in groupby(message.events, _aggregate_of):
            _add(database, Aggregate(*key), list(events), number, one.stream, findings)
    return findings


def missing(database: sqlite3.Connection) -> int:
    """How many versions are missing, of all aggregates."""
    # sum() fails beyond 2^63, and the recorder would not start: a service that runs wild may give any versions.
    ((count,),) = database.execute("SELECT total(last - held) FROM aggregate WHERE held < last").fetchall()
    return int(count)


def link(before: bytes, number: int, delivered: Delivered, *, arrived: int) -> bytes:
    """The link of a delivery.

    SHA-256 of the link before and, as JSON in UTF-8 without blanks, [number, owner, stream, epoch, seq, arrived,
    [[scope, aggregate, aggregate_id, version, type, t, id, user, cause, data as it came], ...]].
    """
    message, stream = delivered.message, delivered.stream
    events = [(*_aggregate_of(event), *_fields(event)) for event in message.events]
    return link_of(before, [number, stream.owner, stream.name, message.epoch, message.seq, arrived, events])


def link_of(before: bytes, content: Sequence[object]) -> bytes:
    """See link(). Raises ValueError, TypeError for a content that never was a delivery's."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return sha256(before + text.encode()).digest()


def _fields(event: EventStruct) -> tuple[int, str, int, str, str | None, str | None, str]:
    """The columns from the version on, in the table's order."""
    return (event.version, event.type, event.t, event.id, event.user, event.cause, bytes(event.data).decode())


def end(database: sqlite3.Connection) -> tuple[int, bytes]:
    """Number and link of the last delivery; before the first 0, and the store's name."""
    found = database.execute("SELECT id, link FROM delivery ORDER BY id DESC LIMIT 1").fetchone()
    if found is not None:
        return int(found[0]), bytes(found[1])
    return 0, store_of(database).encode()


def store_of(database: sqlite3.Connection) -> str:
    """The file's UUID, which is the link before the first delivery."""
    ((store,),) = database.execute("SELECT value FROM meta WHERE key = 'store'").fetchall()
    return str(store)


def _add(
    database: sqlite3.Connection,
    aggregate: Aggregate,
    events: Sequence[EventStruct],
    delivery: int,
    stream: StreamKey,
    findings: Findings,
) -> None:
    found = database.execute(
        "SELECT id, held, last, cut FROM aggregate WHERE scope = ? AND kind = ? AND name = ?", aggregate
    ).fetchone()
    row, held, last, cut = found or (None, 0, 0, 0)
    fresh: set[int] = set()
    for event in events:
        version = event.version
        if version <= cut or version in fresh or (version <= last and _is_there(database, row, version)):
            findings.repeated.append((aggregate, version))
        else:
            fresh.add(version)
    beyond = [version for version in fresh if version > last]
    if beyond and min(beyond) > last + 1:
        findings.holes.append(Hole(aggregate, last + 1, min(beyond) - 1, stream))
    now_held, now_last = held + len(fresh), max((last, *beyond))
    findings.missing += (now_last - now_held) - (last - held)
    if row is None:
        ((row,),) = database.execute(
            "INSERT INTO aggregate (scope, kind, name, held, last) VALUES (?, ?, ?, ?, ?) RETURNING id",
            (*aggregate, now_held, now_last),
        ).fetchall()
    else:
        if min(event.version for event in events) <= last:
            snapshot.forget(database, row, since=min(event.version for event in events))
        database.execute("UPDATE aggregate SET held = ?, last = ? WHERE id = ?", (now_held, now_last, row))
    database.executemany(
        "INSERT INTO event (delivery, aggregate, version, type, t, uuid, user, cause, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(delivery, row, *_fields(event)) for event in events],
    )


def _is_there(database: sqlite3.Connection, aggregate: int | None, version: int) -> bool:
    found = database.execute("SELECT 1 FROM event WHERE aggregate = ? AND version = ?", (aggregate, version))
    return found.fetchone() is not None
