"""The time that a recorder has lived through: retention counts age by it, and not by the wall clock alone.

A clock that is wrong by years when a recorder starts looks as if all that it keeps were years older. So the clock is
noted again and again; by how much it has gone on beyond a day since the last note, away or set, does not make anything
older. Set right again, it goes back by the same: both leaps stand until what came before them is old by itself.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from plugins.api.clock import Clock
from services.recorder.database import Database
from services.runtime.logs import Log

MOST_LEAP_US = 86_400_000_000
"""By how much the clock may go on, or back, from one note to the next: notes are an hour apart at most."""
MOST_LEAPS = 100

_KEY = "lived"
_NEWEST = "SELECT arrived FROM delivery ORDER BY id DESC LIMIT 1"

Leap = tuple[int, int]
"""The clock (µs) when it was noted before, and by how much it had leapt when it was noted then."""


@dataclass(frozen=True, slots=True)
class Notes:
    """last: the clock (µs) when it was noted last. leaps: oldest first; of very many the oldest are taken together."""

    last: int
    leaps: Sequence[Leap] = ()

    def noted(self, now_us: int) -> "Notes":
        """With the clock as it stands now."""
        leap = now_us - self.last
        if abs(leap) <= MOST_LEAP_US:
            return Notes(now_us, self.leaps)
        leaps = [*self.leaps, (self.last, leap)]
        if len(leaps) > MOST_LEAPS:
            (_, one), (at, other), *later = leaps
            leaps = [(at, one + other), *later]
        return Notes(now_us, leaps)

    def ago(self, now_us: int, span_us: int) -> int:
        """What has come before this time is older than the span; never later than the clock alone would say."""
        time = now_us - span_us - sum(leap for _, leap in self.leaps)
        for at, leap in self.leaps:
            if time <= at:
                break
            time += leap
        return min(time, now_us - span_us)


class LivedTime:
    """Kept in the recorder's file. note() is to be called at each start and then at least once an hour."""

    def __init__(self, *, database: Database, clock: Clock, log: Log) -> None:
        self._database = database
        self._clock = clock
        self._log = log

    async def note(self) -> None:
        """Notes the clock. Raises sqlite3.Error."""
        now_us = self._clock.now_us()
        leap_us = await self._database.transaction(partial(_note, now_us=now_us))
        if leap_us:
            self._log.warning(
                "clock_leapt",
                days=round(leap_us / MOST_LEAP_US, 1),
                consequence="the recorder was away or its clock was set: nothing counts as so much older",
            )

    async def ago(self, span_us: int) -> int:
        """What has come before this time (µs) is older than the span, of time lived through. Raises sqlite3.Error."""
        now_us = self._clock.now_us()
        notes = await self._database.transaction(_read)
        return now_us - span_us if notes is None else notes.ago(now_us, span_us)


def _note(database: sqlite3.Connection, *, now_us: int) -> int:
    """By how much the clock has leapt; 0 if it has not."""
    before = _read(database)
    if before is None:  # a file of before there were notes: its last event tells the clock
        newest = database.execute(_NEWEST).fetchone()
        before = Notes(now_us if newest is None else newest[0])
    after = before.noted(now_us)
    text = json.dumps([after.last, after.leaps])
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, text))
    return now_us - before.last if after.leaps != before.leaps else 0


def _read(database: sqlite3.Connection) -> Notes | None:
    found = database.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    if found is None:
        return None
    last, leaps = json.loads(found[0])
    return Notes(last, [(at, leap) for at, leap in leaps])
