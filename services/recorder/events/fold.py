"""What the events of an aggregate come to: its state after a version. Pure.

A state is made of the events in the order of their versions; going on from one that was kept gives the same as going
through all of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from pydantic_core import from_json

from contracts.v1.device import DeviceStatus
from contracts.v1.event_state import AggregateState, Happening, TypeSum

MOST_TYPES = 50
MOST_PARTS = 200
MOST_DATA = 1000
"""Bytes of an event's JSON that a state holds."""
_LONGEST_PART = 200
_STATUSES: Mapping[str, frozenset[str]] = {"device": frozenset(status.value for status in DeviceStatus)}
"""Types that tell how an aggregate itself is, by kind; of other kinds those that begin with the kind and a dot."""


class Row(NamedTuple):
    """An event as the table has it. data: its JSON."""

    version: int
    type: str
    t: int
    user: str | None
    data: str


class Told(msgspec.Struct, array_like=True):
    """An event in short. data: its JSON, None if it is too long; size: then its bytes."""

    version: int
    type: str
    t: int
    user: str | None
    data: str | None
    size: int = 0


class Sum(msgspec.Struct, array_like=True):
    """How many of one type, and the latest."""

    count: int
    last: Told


class State(msgspec.Struct):
    """After `version`; 0: nothing has happened. versions: how many different ones; see AggregateState for the rest.

    types, parts: the latest told last.
    """

    version: int = 0
    t: int = 0
    events: int = 0
    versions: int = 0
    status: Told | None = None
    types: dict[str, Sum] = {}
    parts: dict[str, Told] = {}
    omitted: int = 0

    def add(self, row: Row, *, kind: str) -> None:
        """The next event, in the order of versions. kind: of the aggregate."""
        version, type_, t, user, data = row
        told = Told(version, type_, t, user, data)
        if len(data) > MOST_DATA or not data.isascii():
            size = len(data.encode())
            if size > MOST_DATA:
                told.data, told.size = None, size
        self.versions += version != self.version
        self.events += 1
        self.version, self.t = version, t
        if _is_status(kind, type_):
            self.status = told
        before = self.types.pop(type_, None)
        self.types[type_] = Sum(before.count + 1 if before else 1, told)
        if len(self.types) > MOST_TYPES:
            self._omit(self.types)
        part = _part(data)
        if part is not None:
            self.parts.pop(part, None)
            self.parts[part] = told
            if len(self.parts) > MOST_PARTS:
                self._omit(self.parts)

    def encode(self) -> str:
        """As JSON, the same for the same state."""
        return msgspec.json.encode(self).decode()

    def _omit(self, of: dict[str, Sum] | dict[str, Told]) -> None:
        del of[next(iter(of))]
        self.omitted += 1


def decode_state(text: str) -> State:
    """What encode() gave. Raises msgspec.DecodeError (a ValueError)."""
    return msgspec.json.decode(text, type=State)


def shown(state: State, *, scope: str, kind: str, name: str, cut: int) -> AggregateState:
    """The state as it is answered. cut: the last version that retention has removed, 0 for none."""
    return AggregateState(
        scope=scope,
        aggregate=kind,
        aggregate_id=name,
        version=state.version,
        t=state.t,
        events=state.events,
        missing=state.version - state.versions,
        status=_happening(state.status) if state.status else None,
        types={name: TypeSum(count=one.count, last=_happening(one.last)) for name, one in state.types.items()},
        parts={name: _happening(told) for name, told in state.parts.items()},
        omitted=state.omitted,
        first=cut + 1 if cut else None,
    )


def _happening(told: Told) -> Happening:
    return Happening(
        version=told.version,
        type=told.type,
        t=told.t,
        user=told.user,
        data=None if told.data is None else from_json(told.data),
        size=told.size or None,
    )


def _is_status(kind: str, type_: str) -> bool:
    statuses = _STATUSES.get(kind)
    return type_ in statuses if statuses is not None else type_.startswith(f"{kind}.")


class _About(msgspec.Struct):
    """The fields of an event's data that name a part of the aggregate."""

    node: str | None = None
    tag: str | None = None
    function: str | None = None


_ABOUT = msgspec.json.Decoder(_About)


def _part(data: str) -> str | None:
    """What the event is about: `node scaled`; None if it is about the aggregate as a whole."""
    if data == "{}":
        return None
    try:
        about = _ABOUT.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None  # a field of another type, which names nothing
    for field, value in (("node", about.node), ("tag", about.tag), ("function", about.function)):
        if value is not None:
            return f"{field} {value}"[:_LONGEST_PART]
    return None
