"""Whether the event store is as it was written: the chain, what is counted of it, and the states made of it."""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.v1.event_chain import Anchor, ChainCheck, ChainFault, FaultKind, Removal, VerifyEvents
from contracts.v1.message import LAST_SAFE_INTEGER
from services.recorder.events import snapshot
from services.recorder.events.chain import Place, Step, beginning, fault, lenient, plain, walk
from services.recorder.events.fold import State, decode_state
from services.recorder.events.removal import last_removal
from services.recorder.events.seals import FLEETING, RETENTION, ChainBroken, KeptState, kept_states, states_in
from services.runtime.sqlite_file import one_moment

MOST_S = 1.0
"""How long one answer may take, about."""
MOST_FAULTS = 50
"""Of one answer, about."""
_HIGHEST = (1 << 63) - 1
"""SQLite's highest integer."""
_CHAIN, _COUNTS, _STATES = "c", "n", "s"
"""What is checked, in this order; the first letter of a place."""

_COUNTED = """
SELECT id, scope, kind, name, held, last, cut,
    (SELECT count(DISTINCT version) FROM event WHERE aggregate = aggregate.id AND version > cut),
    (SELECT max(version) FROM event WHERE aggregate = aggregate.id),
    cut = 0 OR EXISTS (SELECT 1 FROM snapshot WHERE aggregate = aggregate.id AND version = cut AND sealed IS NOT NULL)
FROM aggregate WHERE id > ? ORDER BY id
"""
_NO_NUMBER = """
SELECT 'event', id FROM event WHERE id < 1 UNION ALL SELECT 'aggregate', id FROM aggregate WHERE id < 1 UNION ALL
SELECT 'snapshot of', aggregate FROM snapshot WHERE aggregate < 1 OR typeof(aggregate) <> 'integer' LIMIT 10
"""
_KEPT = """
SELECT snapshot.aggregate, version, number, snapshot.link, state, sealed, scope, kind, name, cut, delivery.link
FROM snapshot LEFT JOIN aggregate ON aggregate.id = snapshot.aggregate LEFT JOIN delivery ON delivery.id = number
WHERE (snapshot.aggregate, version) > (?, ?) ORDER BY snapshot.aggregate, version
"""


class EventVerifier:
    """Checks a recorder's file piece by piece, from any thread, while the recorder writes. path: of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def verify(self, asked: VerifyEvents) -> ChainCheck:
        """The next piece. Raises sqlite3.Error."""
        stage, *numbers = asked.after.split(".") if asked.after else (_CHAIN, "0", "0")
        first, second = (min(int(number), _HIGHEST) for number in numbers)
        with one_moment(self._path) as database:
            lenient(database)
            piece = _Piece(database)
            if stage == _CHAIN:
                if asked.after is None:
                    piece.begin(asked.anchors)
                piece.chain(first, second or None)
            elif stage == _COUNTS:
                piece.counts(first)
            else:
                piece.states(first, second)
            return piece.answer()


class _Piece:
    """One answer in the making."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._end_s = time.monotonic() + MOST_S
        self._faults: list[ChainFault] = []
        self._unknown: list[int] = []
        self._removed: Removal | None = None
        self._checked = self._events = self._number = 0
        self._next: str | None = None

    def begin(self, anchors: list[Anchor]) -> None:
        """What is checked once: the note of what was removed, and links that were kept elsewhere."""
        start = self._beginning()
        self._note(start)
        for anchor in anchors:
            self._compare(anchor, start)

    def chain(self, number: int, row: int | None) -> None:
        """The deliveries after this one, whose last event has this row; 0: from the beginning."""
        place = self._beginning()
        if number > place.number:
            found = self._database.execute("SELECT link FROM delivery WHERE id = ?", (number,)).fetchone()
            place = Place(number, found[0] if found else b"", row or None)
        self._number = place.number
        for step in walk(self._database, place):
            self._faults += step.faults
            if step.number < 0:
                break
            self._checked += 1
            self._events += len(step.events)
            self._number = step.number
            if step.events:
                row = step.events[-1].row
            if step.stream == RETENTION and not step.faults:
                self._look_up(step)
            if self._full():
                self._next = f"{_CHAIN}.{step.number}.{row or 0}"
                return
        self._next = f"{_COUNTS}.0.0"

    def counts(self, after: int) -> None:
        """What the aggregates after this row say of their versions."""
        for row, scope, kind, name, held, last, cut, found, highest, based in self._database.execute(
            _COUNTED, (after,)
        ):
            about = f"{kind} {name} in {scope}"
            numbers = isinstance(cut, int) and isinstance(highest, int | None)
            there = (cut + found, max(cut, highest or 0)) if numbers else None
            if (held, last) != there or (highest is None and not cut):
                text = f"{about}: {held} versions up to {last} were stored, {found} up to {highest} are there"
                self._tell("removed", f"{text} besides {cut} that retention has removed" if cut else text)
            if not based:
                self._tell("removed", f"{about}: its state at version {cut} is not there")
            if self._full():
                self._next = f"{_COUNTS}.{row}.0"
                return
        self._next = f"{_STATES}.0.0"

    def states(self, aggregate: int, version: int) -> None:
        """The snapshots after this one: each follows from the one before and the events between, or is sealed."""
        for row in self._database.execute(_KEPT, (aggregate, version)):
            wrong = _state_fault(self._database, row)
            if wrong is not None:
                self._tell("changed", f"the snapshot of {row[7]} {row[8]} at version {row[1]} {wrong}")
            if self._full():
                self._next = f"{_STATES}.{row[0]}.{row[1]}"
                return

    def answer(self) -> ChainCheck:
        """What was found."""
        return ChainCheck(
            store=self._store(),
            faults=self._faults,
            checked=self._checked,
            events=self._events,
            number=min(self._number, LAST_SAFE_INTEGER),
            head=self._head(),
            removed=self._removed,
            unknown=self._unknown,
            next=self._next,
        )

    def _store(self) -> str:
        stores = self._rows("SELECT value FROM meta WHERE key = 'store'")
        return plain(str(stores[0][0])) if stores else ""

    def _head(self) -> Anchor | None:
        found = self._rows("SELECT id, link FROM delivery ORDER BY id DESC LIMIT 1")
        number, link = (found[0][0], _hex(found[0][1])) if found else (0, "")
        return Anchor(number=number, link=link) if number > 0 and len(link) == 64 else None

    def _beginning(self) -> Place:
        try:
            return beginning(self._database)
        except (ValueError, TypeError):
            self._tell("changed", "the store's name, or its note of what was removed, is none")
            return Place(0, b"", None)

    def _note(self, start: Place) -> None:
        """What the chain itself tells of what was removed last must be what the note says."""
        try:
            removed, link, store = last_removal(self._database)
        except ChainBroken as error:
            self._tell("changed", str(error))
            return
        self._removed = removed
        if (removed.number if removed else 0, link) != (start.number, start.link.hex() if removed else ""):
            told = f"up to delivery {removed.number}" if removed else "nothing"
            self._tell("changed", f"removed is {told}, as the chain tells; the note says {start.number}")
        if removed and store != self._store():
            self._tell("changed", f"this was the store {store}, as the chain tells")
        for (number,) in self._rows("SELECT id FROM delivery WHERE id <= ? LIMIT 10", start.number):
            self._tell("inserted", f"delivery {number} stands before the chain's beginning")
        for table, row in self._rows(_NO_NUMBER):
            self._tell("inserted", f"{table} {row}: no row has this number")

    def _compare(self, anchor: Anchor, start: Place) -> None:
        number = anchor.number
        if number < start.number:
            self._unknown.append(number)
            return
        found = self._rows("SELECT link FROM delivery WHERE id = ?", number)
        link = start.link if number == start.number else found[0][0] if found else None
        if link is None:
            self._tell("cut", f"delivery {number}, whose link was kept elsewhere, is not there")
        elif _hex(link) != anchor.link:
            self._tell("cut", f"delivery {number} has another link than the one that was kept elsewhere", number)

    def _look_up(self, step: Step) -> None:
        """Of the states that the chain says are kept, none is gone."""
        for one in kept_states(step):
            query = "SELECT 1 FROM aggregate WHERE scope = ? AND kind = ? AND name = ? AND cut >= ?"
            if one.kind not in FLEETING and not self._rows(query, *one[:4]):
                self._tell("removed", f"{one.kind} {one.name} in {one.scope}, whose state was kept, is not there")

    def _rows(self, query: str, *values: object) -> Sequence[Any]:
        return self._database.execute(query, values).fetchall()

    def _tell(self, kind: FaultKind, text: str, delivery: int | None = None) -> None:
        self._faults.append(fault(kind, text, delivery))

    def _full(self) -> bool:
        return len(self._faults) >= MOST_FAULTS or time.monotonic() > self._end_s


def _state_fault(database: sqlite3.Connection, row: Sequence[Any]) -> str | None:
    """What is wrong with a snapshot; None if nothing is. row: of _KEPT."""
    aggregate, version, _, link, state, sealed, scope, kind, name, cut, link_there = row
    if kind is None:
        return "is of nothing that is there"
    try:
        if sealed is not None:
            wanted = KeptState(scope, kind, name, version, snapshot.digest(state))
            fits = version == cut and link == link_there and wanted in states_in(database, sealed)
            return None if fits else "is not the one that was sealed"
        if version <= cut or link != link_there:
            return "does not belong to this chain"
        before = database.execute(
            "SELECT state FROM snapshot WHERE aggregate = ? AND version < ? ORDER BY version DESC LIMIT 1",
            (aggregate, version),
        ).fetchone()
        begun = decode_state(before[0]) if before else State()
        for event in snapshot.rows(database, aggregate, after=begun.version, to=version):
            begun.add(event, kind=kind)
        return None if begun.version == version and begun.encode() == state else "is not what its events come to"
    except (ValueError, TypeError, AttributeError):
        return "cannot be read"


def _hex(link: object) -> str:
    return link.hex() if isinstance(link, bytes) else ""
