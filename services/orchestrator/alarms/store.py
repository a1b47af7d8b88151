"""Alarms in the orchestrator's database, so that one that is not acknowledged outlives the process."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from contracts.v1.message import Value
from services.orchestrator.alarms.alarm import Condition
from services.orchestrator.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSpec:
    """An alarm as a pipeline's node defines it.

    source: the pipeline. priority: 1 (act at once) to 4 (to know). limit: shown beside the value. delay_ms: so long
    must its condition hold.
    """

    scope: str
    source: str
    alarm: str
    priority: int
    text: str
    title: str | None = None
    limit: Value = None
    delay_ms: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from all others."""
        return self.scope, self.source, self.alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAlarm:
    """What is remembered of an alarm. value: what raised it."""

    spec: AlarmSpec
    condition: Condition
    value: Value = None


_FORM = TypeAdapter(KeptAlarm)


class AlarmStore:
    """The alarms on disk. Raises sqlite3.Error, DatabaseError."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def all(self) -> list[KeptAlarm]:
        """Every alarm kept; one that cannot be read, of another version of dinrail, is left out."""
        rows = await self._database.transaction(_rows)
        found = []
        for (body,) in rows:
            try:
                found.append(_FORM.validate_json(body))
            except ValidationError:
                continue
        return found

    async def keep(self, alarms: Iterable[KeptAlarm], *, gone: Iterable[AlarmSpec] = ()) -> None:
        """Returns once they are on disk, and those that are gone are not; one that is both was made anew."""
        rows = [(*kept.spec.key, _FORM.dump_json(kept).decode()) for kept in alarms]
        keys = [spec.key for spec in gone]

        def work(database: sqlite3.Connection) -> None:
            """One transaction: those gone, and those kept."""
            database.executemany("DELETE FROM alarm WHERE scope = ? AND source = ? AND alarm = ?", keys)
            database.executemany("INSERT OR REPLACE INTO alarm VALUES (?, ?, ?, ?)", rows)

        await self._database.transaction(work)


def _rows(database: sqlite3.Connection) -> Sequence[tuple[str]]:
    return database.execute("SELECT body FROM alarm ORDER BY scope, source, alarm").fetchall()
