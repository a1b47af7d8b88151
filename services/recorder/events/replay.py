"""Aggregates as they were: put together from their events, from the nearest snapshot on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.v1.event_state import AggregateState, ReplayEvents
from services.recorder.events import snapshot
from services.recorder.events.fold import shown
from services.recorder.events.reading import NothingStored, last_version_by, reading
from services.recorder.events.snapshot import EACH, Snapshot
from services.recorder.events.table import end

MOST_S = 2.0
"""How long events are gone through for one answer."""
_LOOK = 1000
"""Events after which the clock is looked at."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """shown: None if the time was over first, at `version`. made: snapshots on the way, to be kept for next time."""

    shown: AggregateState | None
    version: int
    made: Sequence[Snapshot]


class EventReplay:
    """Reads a recorder's events, from any thread, while the recorder adds some. path: of its database."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def replay(self, asked: ReplayEvents) -> Replayed:
        """The state that was asked for. Raises NothingStored, TooLong, sqlite3.Error."""
        what = f"the {asked.aggregate} {asked.aggregate_id!r} in {asked.scope!r}"
        end_s = time.monotonic() + MOST_S
        with reading(self._path) as database:
            found = database.execute(
                "SELECT id, last, cut FROM aggregate WHERE scope = ? AND kind = ? AND name = ?",
                (asked.scope, asked.aggregate, asked.aggregate_id),
            ).fetchone()
            if found is None:
                raise NothingStored(f"nothing is stored of {what}")
            row, to, cut = found
            if asked.to_t is not None:
                to = max(last_version_by(database, row, asked.to_t), cut)
            if asked.to_version is not None:
                to = min(to, asked.to_version)
            state = snapshot.nearest(database, row, to)
            if to < cut or (asked.to_t is not None and state.version == cut == to and state.t > asked.to_t):
                raise NothingStored(f"of {what} nothing is known so early{_since(cut)}")
            number, link = end(database)
            (last_row,) = database.execute("SELECT max(id) FROM event").fetchone()
            made: list[Snapshot] = []
            kept = state.events
            for event in snapshot.rows(database, row, after=state.version, to=to):
                if state.events - kept >= _LOOK and event.version != state.version:
                    over = time.monotonic() > end_s
                    if over or state.events - kept >= EACH:
                        made.append(Snapshot(row, state.version, number, link, state.encode(), last_row))
                        kept = state.events
                    if over:
                        return Replayed(None, state.version, made)
                state.add(event, kind=asked.aggregate)
        if not state.version:
            raise NothingStored(f"of {what} nothing is known so early")
        view = shown(state, scope=asked.scope, kind=asked.aggregate, name=asked.aggregate_id, cut=cut)
        return Replayed(view, state.version, made)


def _since(cut: int) -> str:
    return f"; it begins with version {cut}, what was before has been removed" if cut else ""
