"""The event store read: what has happened to one aggregate, and what by a user, of a type, in a stretch of time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from contracts.policy import USER, WHOLE, sees_all
from contracts.v1.command import PLANT
from contracts.v1.event import Event
from contracts.v1.event_store import AggregateEvents, AuditEvents, FoundEvents, ReadEvents
from contracts.v1.policy import Rights
from services.recorder.events.reading import NothingStored, last_version_by, reading
from services.recorder.events.table import Aggregate

MOST_BYTES = 512 << 10
"""Of the events in one answer, but for the first: a message on the bus has at most twice that."""

_BY_VERSION = """
SELECT event.id, scope, kind, name, version, type, t, uuid, user, cause, data
FROM event INDEXED BY event_aggregate JOIN aggregate ON aggregate.id = event.aggregate
WHERE aggregate = ? AND (version, event.id) > (?, ?) AND version <= ? ORDER BY version, event.id LIMIT ?
"""
_LATEST_FIRST = """
SELECT event.id, scope, kind, name, version, type, t, uuid, user, cause, data
FROM event INDEXED BY {index} JOIN aggregate ON aggregate.id = event.aggregate
WHERE {conditions} ORDER BY t DESC, event.id DESC LIMIT ?
"""


class _Row(NamedTuple):
    """An event with the number of its row. size: its bytes in an answer."""

    number: int
    event: Event
    size: int


class EventArchive:
    """Reads a recorder's events, from any thread, while the recorder adds some. path: of its database."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, asked: ReadEvents) -> AggregateEvents:
        """The events of one aggregate by version. Raises NothingStored, TooLong, sqlite3.Error."""
        aggregate = Aggregate(asked.scope, asked.aggregate, asked.aggregate_id)
        with reading(self._path) as database:
            found = database.execute(
                "SELECT id, last, cut FROM aggregate WHERE scope = ? AND kind = ? AND name = ?", aggregate
            ).fetchone()
            if found is None:
                raise NothingStored(f"nothing is stored of the {aggregate.kind} {aggregate.name!r} in {asked.scope!r}")
            row, last, cut = found
            if asked.to_t is not None:
                last = last_version_by(database, row, asked.to_t)
            version, number = _place(asked.after) or (asked.from_version, -1)
            to_version = last if asked.to_version is None else min(last, asked.to_version)
            rows = database.execute(_BY_VERSION, (row, version, number, to_version, asked.limit + 1))
            events, more = _page(rows, asked.limit)
        versions = [one.event.version for one in events]
        known = max(version if asked.after else asked.from_version - 1, cut)
        end = versions[-1] if more else to_version
        return AggregateEvents(
            events=[one.event for one in events],
            next=f"{versions[-1]}.{events[-1].number}" if more else None,
            missing=list(_holes(known, versions, end)),
            repeated=_repeated(([version] if asked.after else []) + versions),
            first=cut + 1 if asked.from_version <= cut else None,
        )

    def audit(self, asked: AuditEvents, rights: Rights = WHOLE) -> FoundEvents:
        """Events by user, type and time, the latest first, within these rights. Raises TooLong, sqlite3.Error."""
        conditions: dict[str, int | str | Sequence[int | str] | None] = {
            "user = ?": asked.user,
            "type = ?": asked.type,
            "t >= ?": asked.since,
            "t < ?": asked.until,
            "(t, event.id) < (?, ?)": _place(asked.after),
            f"(scope != '{PLANT}' OR kind != 'device' OR name IN ({_marks(rights.devices)}))": rights.devices,
            f"(scope = '{PLANT}' OR scope IN ({_marks(rights.workspaces)}))": rights.workspaces,
        }
        if not sees_all(rights):
            conditions[f"(scope != '{PLANT}' OR kind != ?)"] = USER
        wanted = {condition: value for condition, value in conditions.items() if value is not None}
        values = [one for value in wanted.values() for one in (value if isinstance(value, tuple | list) else (value,))]
        index = "event_user" if asked.user else "event_type" if asked.type else "event_t"
        query = _LATEST_FIRST.format(index=index, conditions=" AND ".join(wanted) or "TRUE")
        with reading(self._path) as database:
            events, more = _page(database.execute(query, (*values, asked.limit + 1)), asked.limit)
        end = f"{events[-1].event.t}.{events[-1].number}" if more else None
        return FoundEvents(events=[one.event for one in events], next=end)


def _marks(names: Sequence[str] | None) -> str:
    return ", ".join("?" * len(names or ()))


def _place(after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    one, _, other = after.partition(".")
    return int(one), int(other)


def _page(rows: Iterable[Sequence[Any]], limit: int) -> tuple[list[_Row], bool]:
    """As many of the rows as an answer holds, at least one if there is any; and whether there are more."""
    taken: list[_Row] = []
    room = MOST_BYTES
    for row in rows:
        one = _row(row)
        room -= one.size
        if taken and (len(taken) == limit or room < 0):
            return taken, True
        taken.append(one)
    return taken, False


def _row(row: Sequence[Any]) -> _Row:
    number, scope, kind, name, version, type_, t, uuid, user, cause, data = row
    event = Event(
        id=uuid,
        aggregate=kind,
        aggregate_id=name,
        scope=scope,
        version=version,
        type=type_,
        t=t,
        user=user,
        cause=cause,
        data=from_json(data),
    )
    return _Row(number, event, len(event.model_dump_json().encode()))


def _holes(known: int, versions: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    """What is not there above `known` and up to `end`. versions: that are there, ascending."""
    for version in (*versions, end + 1):
        if version > known + 1:
            yield known + 1, version - 1
        known = max(known, version)


def _repeated(versions: Sequence[int]) -> list[int]:
    """Those that stand there more than once. versions: ascending."""
    return sorted({one for one, other in pairwise(versions) if one == other})
