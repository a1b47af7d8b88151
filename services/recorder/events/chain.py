"""The chain of deliveries gone through: whether each fits its link, and what is not where it belongs."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contracts.v1.event_chain import ChainFault, FaultKind
from contracts.v1.message import LAST_SAFE_INTEGER
from services.recorder.events.table import link_of, store_of

REMOVED = "events_removed"
"""The key in `meta` of the last delivery that retention has removed, as JSON [number, link]."""

_LONGEST = 500
"""Characters of a fault's text."""
_DELIVERIES = """
SELECT delivery.id, owner, name, epoch, seq, arrived, link, stream.kind
FROM delivery LEFT JOIN stream ON stream.id = delivery.stream WHERE delivery.id > ? ORDER BY delivery.id
"""
_EVENTS = """
SELECT event.id, delivery, aggregate, scope, kind, name, version, type, t, uuid, user, cause, data
FROM event LEFT JOIN aggregate ON aggregate.id = event.aggregate WHERE event.id > ? ORDER BY event.id
"""


class Place(NamedTuple):
    """Where a walk has come: the last delivery, its link, and the number of its last event's row (None: not known)."""

    number: int
    link: bytes
    row: int | None


class Linked(NamedTuple):
    """An event's row. content: what its delivery's link is made of."""

    row: int
    delivery: Any
    aggregate: int
    content: Sequence[Any]


@dataclass(slots=True)
class Step:
    """A delivery of the chain, its events in their order, and what is wrong up to it. fits: the link is its own."""

    number: int
    arrived: int
    link: bytes
    owner: str
    stream: str
    events: list[Linked]
    fits: bool = True
    faults: list[ChainFault] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """From which a walk goes on."""
        return Place(self.number, self.link, self.events[-1].row if self.events else None)


def beginning(database: sqlite3.Connection) -> Place:
    """What the first delivery follows: the store's UUID, or the last delivery that retention has removed.

    Raises ValueError if the note of what was removed is no such thing.
    """
    found = database.execute("SELECT value FROM meta WHERE key = ?", (REMOVED,)).fetchone()
    if found is None:
        return Place(0, store_of(database).encode(), None)
    number, link = json.loads(found[0])
    return Place(int(number), bytes.fromhex(link), None)


def walk(database: sqlite3.Connection, after: Place) -> Iterator[Step]:
    """The deliveries after the place in their order; a last one with the number -1 is of rows that belong to none.

    On a connection that is not lenient() a text that is none raises sqlite3.OperationalError.
    """
    events = _Events(database, after.row)
    # What the next link may follow: the link as it stands, and as it should be if it was changed itself.
    befores = [after.link]
    number = after.number
    for row in database.execute(_DELIVERIES, (number,)):
        at, owner, stream, epoch, seq, arrived, link, kind = row
        faults = list(events.strays(at))
        rows = list(events.of(at))
        step = Step(at, arrived, link if isinstance(link, bytes) else b"", str(owner), str(stream), rows, faults=faults)
        content = [at, owner, stream, epoch, seq, arrived, [event.content for event in rows]]
        links = [_link(before, content) for before in befores]
        if at != number + 1:
            faults.append(_gone(number + 1, at - 1))
        elif link not in links or kind != "event":
            step.fits = False
            faults.append(_changed(step))
        faults += events.gaps
        events.gaps.clear()
        befores = [step.link] if link in links else [step.link, *(one for one in links[:1] if one is not None)]
        number = at
        yield step
    left = [*events.strays(None), *events.gaps]
    if left:
        yield Step(-1, 0, b"", "", "", [], fits=False, faults=left)


def lenient(database: sqlite3.Connection) -> None:
    """Reads texts that are none as well: such as are not UTF-8."""
    database.text_factory = lambda data: data.decode(errors="surrogateescape")


def fault(kind: FaultKind, text: str, delivery: int | None = None) -> ChainFault:
    """A fault whose text can be told, whatever somebody has written into the rows that it names."""
    told = delivery if delivery is not None and 0 <= delivery <= LAST_SAFE_INTEGER else None  # else the text alone
    return ChainFault(kind=kind, text=plain(text), delivery=told)


def plain(text: str) -> str:
    """The beginning of a text that may be none."""
    return text[:_LONGEST].encode(errors="backslashreplace").decode()


class _Events:
    """The events' rows in their order, taken delivery by delivery. gaps: rows that are missing between those taken."""

    def __init__(self, database: sqlite3.Connection, after: int | None) -> None:
        self.gaps: list[ChainFault] = []
        self._last = after
        self._rows = database.execute(_EVENTS, (after if after is not None else -(1 << 63),))
        self._ahead: list[Linked] = []

    def strays(self, number: int | None) -> Iterator[ChainFault]:
        """Rows before those of this delivery (None: the end), which name none that is there, or stand elsewhere."""
        while (event := self._peek(0)) is not None and (number is None or self._is_stray(event, number)):
            self._take()
            text = f"event row {event.row} names delivery {event.delivery}, but does not stand among its events"
            yield fault("inserted", text, number)

    def of(self, number: int) -> Iterator[Linked]:
        """The rows of this delivery."""
        while (event := self._peek(0)) is not None and event.delivery == number:
            yield self._take()

    def _is_stray(self, event: Linked, number: int) -> bool:
        if not isinstance(event.delivery, int) or event.delivery < number:
            return True
        after = self._peek(1)
        return event.delivery > number and after is not None and after.delivery == number

    def _take(self) -> Linked:
        event = self._ahead.pop(0)
        if self._last is not None and event.row != self._last + 1:
            first, last = self._last + 1, event.row - 1
            rows = f"event row {first} is" if first == last else f"event rows {first} to {last} are"
            self.gaps.append(fault("removed", f"{rows} missing"))
        self._last = event.row
        return event

    def _peek(self, ahead: int) -> Linked | None:
        while len(self._ahead) <= ahead:
            row = self._rows.fetchone()
            if row is None:
                return None
            self._ahead.append(Linked(row[0], row[1], row[2], row[3:]))
        return self._ahead[ahead]


def _link(before: bytes, content: Sequence[object]) -> bytes | None:
    """None for what never was a delivery's content: bytes where a text belongs, for example."""
    try:
        return link_of(before, content)
    except (TypeError, ValueError):
        return None


def _gone(first: int, last: int) -> ChainFault:
    text = f"delivery {first} is missing" if first == last else f"deliveries {first} to {last} are missing"
    return fault("removed", f"{text}; the one after cannot be checked", first)


def _changed(step: Step) -> ChainFault:
    about = f"delivery {step.number} of {step.owner!r}, {len(step.events)} event(s)"
    if step.events:
        _, kind, name, version = step.events[0].content[:4]
        about += f" from {kind} {name} version {version} on, rows {step.events[0].row} to {step.events[-1].row}"
    return fault("changed", f"{about}: a row of it was changed, put in or taken out", step.number)
