"""Events removed from the beginning of the chain, so that what is left is still provable.

What is removed stands in the chain: an event of the aggregate `event-store` tells the last delivery that went, its link
(which the first one that is left follows) and how many went. The state that the removed events of an aggregate came to
is kept as a sealed snapshot, with its digest in the chain too. All of it is one transaction.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from contracts.v1.command import PLANT
from contracts.v1.event_chain import Removal
from contracts.v1.event_codec import EventsStruct, EventStruct
from services.recorder.events import snapshot
from services.recorder.events.chain import REMOVED, Place, Step, beginning, walk
from services.recorder.events.fold import State, decode_state
from services.recorder.events.seals import FLEETING, RETENTION, STATES_TYPE, ChainBroken, Seals, key_of
from services.recorder.events.snapshot import Base
from services.recorder.events.table import Delivered, put, store_of
from services.runtime.gaps import StreamKey

OWN_STREAM = ("event", RETENTION)
"""Its kind and name: no service owns it, so that none is told what of it is stored."""
STORE_KIND = "event-store"
MOST_DELIVERIES = 200
MOST_EVENTS = 5_000
MOST_BYTES = 8 << 20
"""Of one piece, about: it is one transaction, and what comes in waits for it."""
_REMOVED_TYPE = "events.removed"
_STATES_EACH = 500
_TIMED = "SELECT id, arrived FROM delivery WHERE id >= ? AND arrived BETWEEN ? AND ? ORDER BY id LIMIT 1"
_PLAUSIBLE_US = 1_577_836_800_000_000
"""2020: what arrived before by the recorder's clock came while that clock was not set."""


@dataclass(frozen=True, slots=True)
class Removed:
    """number: the last delivery that went. missing: by how many more, or fewer, versions are missing now."""

    number: int
    deliveries: int
    events: int
    missing: int


def remove_oldest(
    database: sqlite3.Connection,
    *,
    before_us: int,
    now_us: int,
    recorder: str,
    new_id: Callable[[], str],
    reason: str = "age",
) -> Removed | None:
    """Removes a piece of what arrived before that time, as part of the caller's transaction; None if there is nothing.

    recorder: its instance. reason: told in the chain. Raises ChainBroken, having changed nothing.
    """
    piece = _oldest(database, before_us=before_us, now_us=now_us)
    if not piece:
        return None
    end = piece[-1].place
    assert end.row is not None
    seals = Seals(database)
    missing, bases = _cut(database, piece, end.row, seals)
    bases += seals.of_kept(piece, end.row, known={base.aggregate for base in bases})
    removed = Removed(end.number, len(piece), sum(len(step.events) for step in piece), missing)
    record = _Record(database, recorder=recorder, now_us=now_us, new_id=new_id)
    record.tell(_REMOVED_TYPE, {"reason": reason, **_told(database, piece, removed)})
    states = [[*key_of(database, base.aggregate), base.version, snapshot.digest(base.state)] for base in bases]
    parts = range(0, len(bases), _STATES_EACH)
    for at in parts:
        record.tell(STATES_TYPE, {"states": states[at : at + _STATES_EACH]})
    number, link, rows = record.put()
    for at, sealed_by in zip(parts, rows[1:], strict=True):
        snapshot.seal(database, bases[at : at + _STATES_EACH], number=number, link=link, row=sealed_by)
    database.execute("DELETE FROM event WHERE id <= ?", (end.row,))
    database.execute("DELETE FROM delivery WHERE id <= ?", (end.number,))
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (REMOVED, json.dumps([end.number, end.link.hex()])))
    return removed


def last_removal(database: sqlite3.Connection) -> tuple[Removal | None, str, str]:
    """What the chain tells of the last piece that was removed, the link of its last delivery, hex, and the store.

    Raises ChainBroken.
    """
    found = database.execute(
        "SELECT data, t FROM event INDEXED BY event_type JOIN delivery ON delivery.id = delivery"
        " JOIN stream ON stream.id = stream WHERE type = ? AND stream.name = ? ORDER BY event.id DESC LIMIT 1",
        (_REMOVED_TYPE, RETENTION),
    ).fetchone()
    if found is None:
        return None, "", ""
    try:
        data = json.loads(found[0])
        return Removal(number=data["last"], t=found[1], **data["in_all"]), str(data["link"]), str(data["store"])
    except (ValueError, TypeError, KeyError):
        raise ChainBroken("the event that tells of the last removal cannot be read") from None


def _oldest(database: sqlite3.Connection, *, before_us: int, now_us: int) -> Sequence[Step]:
    """The first deliveries that all are old, checked against their links. Those alone that tell of removals stay.

    A time that cannot be true, before 2020 or still to come, says nothing: such a delivery goes with the one after it.
    """
    piece: list[Step] = []
    events = size = 0
    timed = (0, 0)
    for step in walk(database, _start(database)):
        if timed[0] < step.number:
            timed = database.execute(_TIMED, (step.number, _PLAUSIBLE_US, now_us)).fetchone() or (step.number, now_us)
        if timed[1] >= before_us or step.number < 0:
            break
        if step.faults:
            raise ChainBroken(step.faults[0].text)
        piece.append(step)
        events += len(step.events)
        size += sum(len(event.content[-1]) for event in step.events)
        full = len(piece) >= MOST_DELIVERIES or events >= MOST_EVENTS or size >= MOST_BYTES
        if full and (len(piece) > 1 or step.stream != RETENTION):  # one of ours alone would be followed by one like it
            return piece
    return piece if any(step.stream != RETENTION for step in piece) else ()


def _start(database: sqlite3.Connection) -> Place:
    try:
        return beginning(database)
    except (ValueError, TypeError):
        raise ChainBroken("the note of what was removed last cannot be read") from None


def _cut(database: sqlite3.Connection, piece: Sequence[Step], row: int, seals: Seals) -> tuple[int, list[Base]]:
    """Cuts the aggregates of the piece, whose last event has this row: the change of `missing`, the states to keep."""
    highest: dict[int, int] = {}
    for step in piece:
        for event in step.events:
            highest[event.aggregate] = max(highest.get(event.aggregate, 0), event.content[3])
    missing = 0
    bases: list[Base] = []
    for aggregate, version in highest.items():
        kind, held, last, cut = _counted(database, aggregate)
        missing -= last - held
        more = database.execute(
            "SELECT 1 FROM event WHERE aggregate = ? AND id > ? LIMIT 1", (aggregate, row)
        ).fetchone()
        if kind in FLEETING and more is None:
            database.execute("DELETE FROM snapshot WHERE aggregate = ?", (aggregate,))
            database.execute("DELETE FROM aggregate WHERE id = ?", (aggregate,))
            continue
        if version > cut:
            begun = decode_state(seals.state(aggregate, cut)[0]) if cut else State()
            state, found = _state_at(database, aggregate, version, begun=begun, kind=kind)
            bases.append(Base(aggregate, version, state))
            held += version - cut - found
            database.execute("UPDATE aggregate SET held = ?, cut = ? WHERE id = ?", (held, version, aggregate))
        missing += last - held
    return missing, bases


def _counted(database: sqlite3.Connection, aggregate: int) -> tuple[str, int, int, int]:
    """Kind, held, last and cut of the aggregate's row. Raises ChainBroken: they are not what was written."""
    kind, *counts = database.execute(
        "SELECT kind, held, last, cut FROM aggregate WHERE id = ?", (aggregate,)
    ).fetchone()
    if not all(isinstance(number, int) for number in counts):
        raise ChainBroken(f"the counts of the aggregate in row {aggregate} cannot be read")
    held, last, cut = counts
    return kind, held, last, cut


def _state_at(
    database: sqlite3.Connection, aggregate: int, version: int, *, begun: State, kind: str
) -> tuple[str, int]:
    """The state to keep, and how many different versions have come since `begun` up to this version."""
    before = begun.versions
    for event in snapshot.rows(database, aggregate, after=begun.version, to=version):
        begun.add(event, kind=kind)
    return begun.encode(), begun.versions - before


def _told(database: sqlite3.Connection, piece: Sequence[Step], removed: Removed) -> dict[str, Any]:
    """The data of the event that tells of it."""
    before, _, _ = last_removal(database)
    return {
        "store": store_of(database),
        "first": piece[0].number,
        "last": removed.number,
        "link": piece[-1].link.hex(),
        "arrived": [piece[0].arrived, piece[-1].arrived],
        "deliveries": removed.deliveries,
        "events": removed.events,
        "in_all": {
            "deliveries": removed.deliveries + (before.deliveries if before else 0),
            "events": removed.events + (before.events if before else 0),
        },
    }


class _Record:
    """The delivery, of the recorder's own, that tells of a removal."""

    def __init__(self, database: sqlite3.Connection, *, recorder: str, now_us: int, new_id: Callable[[], str]) -> None:
        self._database = database
        kind, name = OWN_STREAM
        self._stream = StreamKey(kind, recorder, name)
        self._now_us = now_us
        self._new_id = new_id
        self._events: list[EventStruct] = []

    def tell(self, type_: str, data: dict[str, Any]) -> None:
        """Adds an event."""
        found = self._database.execute(
            "SELECT last FROM aggregate WHERE scope = ? AND kind = ? AND name = ?",
            (PLANT, STORE_KIND, self._stream.owner),
        ).fetchone()
        event = EventStruct(
            id=self._new_id(),
            aggregate=STORE_KIND,
            aggregate_id=self._stream.owner,
            scope=PLANT,
            version=(found[0] if found else 0) + len(self._events) + 1,
            type=type_,
            t=self._now_us,
            data=msgspec.Raw(msgspec.json.encode(data)),
        )
        self._events.append(event)

    def put(self) -> tuple[int, bytes, Sequence[int]]:
        """Puts it at the end of the chain; gives its number, its link, and the rows of its events."""
        database = self._database
        database.execute("INSERT OR IGNORE INTO stream (kind, owner, name) VALUES (?, ?, ?)", self._stream)
        (stream,) = database.execute(
            "SELECT id FROM stream WHERE kind = ? AND owner = ? AND name = ?", self._stream
        ).fetchone()
        seq = self._events[0].version  # counts up, which is all that is asked of it
        message = EventsStruct(owner=self._stream.owner, epoch=1, seq=seq, events=self._events)
        put(database, [Delivered(self._stream, message)], {self._stream: stream}, now_us=self._now_us)
        number, link = database.execute("SELECT id, link FROM delivery ORDER BY id DESC LIMIT 1").fetchone()
        (last,) = database.execute("SELECT max(id) FROM event").fetchone()
        return number, link, range(last - len(self._events) + 1, last + 1)
