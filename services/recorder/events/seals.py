"""The states that stand for events which retention has removed, each sealed by its digest in an event of the chain."""

import json
import sqlite3
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from services.recorder.events import snapshot
from services.recorder.events.chain import Step
from services.recorder.events.snapshot import Base

RETENTION = "retention"
"""The name of the recorder's own stream in its event store."""
STATES_TYPE = "states.kept"
FLEETING = frozenset({"run"})
"""Kinds whose aggregates are over some day and never named again: with its last event goes such an aggregate."""


class ChainBroken(Exception):
    """What is to be removed is not as it was stored: it stays, to be looked at."""


class KeptState(NamedTuple):
    """Of an aggregate: the last version that was removed, and the digest of its state after it."""

    scope: str
    kind: str
    name: str
    version: int
    digest: str


def kept_states(step: Step) -> Iterator[KeptState]:
    """The states that a delivery of the recorder's own says are kept."""
    for event in step.events:
        if event.content[4] == STATES_TYPE:
            yield from _states(event.content[-1])


def states_in(database: sqlite3.Connection, row: int) -> Iterator[KeptState]:
    """The states that the event of this row says are kept. Raises ValueError, TypeError for a row that was changed."""
    found = database.execute("SELECT data FROM event WHERE id = ? AND type = ?", (row, STATES_TYPE)).fetchone()
    return _states(found[0]) if found else iter(())


def _states(data: str) -> Iterator[KeptState]:
    return (KeptState(*one) for one in json.loads(data)["states"])


class Seals:
    """The states at the cuts, each held against its digest in the chain before anything is made of it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._kept = cache(lambda row: frozenset(states_in(database, row)))

    def state(self, aggregate: int, cut: int) -> tuple[str, int]:
        """The state at the cut and the row of the event that has its digest. Raises ChainBroken."""
        key = key_of(self._database, aggregate)
        found = self._database.execute(
            "SELECT state, sealed FROM snapshot WHERE aggregate = ? AND version = ? AND sealed IS NOT NULL",
            (aggregate, cut),
        ).fetchone()
        with suppress(ValueError, TypeError, AttributeError):  # one of the two was changed
            if found is not None and KeptState(*key, cut, snapshot.digest(found[0])) in self._kept(found[1]):
                return found[0], found[1]
        scope, kind, name = key
        raise ChainBroken(f"the state of {kind} {name} in {scope} at version {cut} is not the one that was sealed")

    def of_kept(self, piece: Sequence[Step], row: int, *, known: Container[int]) -> Iterator[Base]:
        """The states that are to be sealed anew: their digests are in the piece, which ends with this row.

        known: aggregates that have a later one. Raises ChainBroken.
        """
        kept = {one[:3] for step in piece if step.stream == RETENTION for one in kept_states(step)}
        for scope, kind, name in sorted(kept):
            found = self._database.execute(
                "SELECT id, cut FROM aggregate WHERE scope = ? AND kind = ? AND name = ?", (scope, kind, name)
            ).fetchone()
            if found is None and kind not in FLEETING:
                raise ChainBroken(f"{kind} {name} in {scope}, whose state was kept, is not there")
            begun_anew = kind in FLEETING and found is not None and found[1] == 0  # it went, and something came late
            if found is not None and not begun_anew and found[0] not in known:
                state, sealed = self.state(*found)
                if sealed <= row:
                    yield Base(found[0], found[1], state)


def key_of(database: sqlite3.Connection, aggregate: int) -> tuple[str, str, str]:
    """Scope, kind and name of the aggregate's row."""
    scope, kind, name = database.execute(
        "SELECT scope, kind, name FROM aggregate WHERE id = ?", (aggregate,)
    ).fetchone()
    return scope, kind, name
