"""What is too old leaves the embedded history: raw values first, their minutes much later."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from plugins.api.clock import Clock
from services.recorder.database import Database
from services.recorder.embedded.minutes import HOUR_US
from services.recorder.embedded.raw import keep_raw_from
from services.recorder.lived_time import LivedTime
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.stopping import Stopping

PERIOD_S = 600.0
MOST_ROWS = 1000
"""Rows deleted, and series looked through, in one transaction: what comes in waits for so much at most."""

_SECOND_US = 1_000_000
_DAY_HOURS = 24
_NEWEST = "SELECT max((SELECT max(t) FROM rollup WHERE rollup.series = series.id)) FROM series"
_OLD_CHUNKS = "DELETE FROM chunk WHERE id IN (SELECT id FROM chunk WHERE series = ?1 AND t0 < ?2 AND t1 < ?2 LIMIT ?3)"
_OLD_AXES = "DELETE FROM axis WHERE id IN (SELECT id FROM axis WHERE t1 < ? LIMIT ?)"
_OLD_HOURS = "DELETE FROM rollup WHERE rowid IN (SELECT rowid FROM rollup WHERE series = ?1 AND t < ?2 LIMIT ?3)"
_EMPTY_SERIES = (
    "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM chunk WHERE series = series.id)"
    " AND NOT EXISTS (SELECT 1 FROM rollup WHERE series = series.id)"
)


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes that a day adds, by the last full hour: of raw values and of their minutes."""

    raw: int
    minutes: int


class HistoryRetention:
    """Deletes what is older than keep_s (raw values) and keep_minutes_s (the roll-up), a piece at a time. A Part.

    Age counts from the newest value or from the clock, whichever is earlier, and is time lived through: a clock that
    runs ahead deletes nothing, though it be that of the values too.
    The freed pages are used again by what comes; the file does not shrink.
    """

    name = "history_retention"

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        lived: LivedTime,
        keep_s: float,
        keep_minutes_s: float,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._database = database
        self._clock = clock
        self._lived = lived
        self._keep_us = round(keep_s * _SECOND_US)
        self._keep_minutes_us = round(keep_minutes_s * _SECOND_US)
        self._metrics = metrics
        self._log = log
        self._foretold = False
        self._stopping = Stopping()

    async def run(self) -> None:
        """Looks every ten minutes until stop()."""
        while not self._stopping.is_set():
            try:
                await self._lived.note()
                await self.clear()
                await self._foretell()
            except sqlite3.Error as error:
                self._log.warning("retention_refused", error=str(error), retry_s=PERIOD_S)
            await self._stopping.within(PERIOD_S)

    async def stop(self) -> None:
        """Ends after the piece that is under way; what is left is deleted after the next start."""
        self._stopping.set()

    async def clear(self) -> None:
        """Deletes what is too old now. Raises sqlite3.Error."""
        newest = await self._database.transaction(_newest)
        if newest is None:
            return
        now_us = min(self._clock.now_us(), newest + HOUR_US)
        raw, minutes = [
            min(now_us - span_us, await self._lived.ago(span_us)) for span_us in (self._keep_us, self._keep_minutes_us)
        ]
        # What is deleted is said first: after a kill in between nobody takes what is left of a minute for all of it.
        horizon = await self._database.transaction(lambda database: keep_raw_from(database, raw - raw % HOUR_US))
        chunks = await self._delete(_OLD_CHUNKS, horizon)
        await self._delete_axes(horizon)
        hours = await self._delete(_OLD_HOURS, minutes - minutes % HOUR_US)
        if chunks or hours:
            await self._database.transaction(lambda database: database.execute(_EMPTY_SERIES).rowcount)
            self._log.info("history_deleted", chunks=chunks, hours_of_minutes=hours, raw_from_us=horizon)

    async def _delete(self, statement: str, before_us: int) -> int:
        deleted, series = 0, 0
        while not self._stopping.is_set():
            rows, after = await self._database.transaction(_piece(statement, series, before_us))
            deleted += rows
            if after is None:
                break
            series = after
        return deleted

    async def _delete_axes(self, before_us: int) -> None:
        """Of chunks that are gone: each ends when its times do."""
        deleted = MOST_ROWS
        while deleted == MOST_ROWS and not self._stopping.is_set():
            deleted = await self._database.transaction(
                lambda database: database.execute(_OLD_AXES, (before_us, MOST_ROWS)).rowcount
            )

    async def _foretell(self) -> None:
        growth = await self._database.transaction(_growth)
        if growth is None:
            return
        self._metrics.history_growth.labels("raw").set(growth.raw)
        self._metrics.history_growth.labels("minutes").set(growth.minutes)
        if not self._foretold:
            self._foretold = True
            days, days_of_minutes = (us / (_DAY_HOURS * HOUR_US) for us in (self._keep_us, self._keep_minutes_us))
            self._log.info(
                "history_forecast",
                raw_bytes_per_day=growth.raw,
                minutes_bytes_per_day=growth.minutes,
                bytes_in_the_end=round(growth.raw * days + growth.minutes * days_of_minutes),
            )


def _newest(database: sqlite3.Connection) -> int | None:
    """The last hour (its start in µs) that has values."""
    found: int | None = database.execute(_NEWEST).fetchone()[0]
    return found


def _piece(statement: str, first: int, before_us: int) -> Callable[[sqlite3.Connection], tuple[int, int | None]]:
    def work(database: sqlite3.Connection) -> tuple[int, int | None]:
        """Deletes from series `first` on: how many rows, and the series to go on with, None if there is none left."""
        deleted = 0
        found = database.execute(
            "SELECT id FROM series WHERE id >= ? ORDER BY id LIMIT ?", (first, MOST_ROWS)
        ).fetchall()
        for (series,) in found:
            deleted += database.execute(statement, (series, before_us, MOST_ROWS - deleted)).rowcount
            if deleted >= MOST_ROWS:
                return deleted, int(series)
        return deleted, int(found[-1][0]) + 1 if len(found) == MOST_ROWS else None

    return work


def _growth(database: sqlite3.Connection) -> Growth | None:
    """None while there is no full hour after the first one."""
    newest = _newest(database)
    if newest is None:
        return None
    # CROSS: by the index of each series, not through all chunks.
    raw, minutes = (
        database.execute(
            f"SELECT sum(length(body)) FROM series CROSS JOIN {table} ON {table}.series = series.id"  # noqa: S608 # ours
            f" AND {time} >= ? AND {time} < ?",
            (newest - HOUR_US, newest),
        ).fetchone()[0]
        for table, time in (("chunk", "t0"), ("rollup", "t"))
    )
    (times,) = database.execute(
        "SELECT coalesce(sum(length(body)), 0) FROM axis WHERE t1 >= ? AND t1 < ?", (newest - HOUR_US, newest)
    ).fetchone()
    return None if raw is None or minutes is None else Growth((raw + times) * _DAY_HOURS, minutes * _DAY_HOURS)
