"""Lets go of old events, piece by piece, while the recorder works; and tells the chain's last link where it is kept."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from plugins.api.clock import Clock
from services.recorder.database import Database
from services.recorder.events import removal
from services.recorder.events.anchor_file import AnchorFile
from services.recorder.events.extent import bytes_of
from services.recorder.events.removal import Removed
from services.recorder.events.seals import ChainBroken
from services.recorder.events.table import end
from services.recorder.lived_time import LivedTime
from services.recorder.spool.spool import Spool
from services.runtime.identifier import uuid7
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.stopping import Stopping

PERIOD_S = 3600.0
PAUSE_S = 0.2
"""Between two pieces: what came in meanwhile is stored first."""
MOST_STEP_S = 60.0
"""By how much the clock may have been set within a period; beyond it nothing is removed before the next one."""
_EVER_US = 1 << 62
"""Later than all that has come."""


class EventRetention:
    """A Part: looks each PERIOD_S for events that arrived longer ago than keep_s, then whether the others take more
    than most_bytes, about; the oldest go first. recorder: its instance.

    Age is time lived through: a clock that is wrong by years lets nothing go.

    keep_s, most_bytes: None sets no bound. At the start and each time the log gets the chain's last link, in which all
    before it is contained: whoever keeps the log elsewhere can show later that nothing was written anew. So can who
    keeps the anchors, one a day.
    """

    name = "event_retention"

    def __init__(
        self,
        *,
        database: Database,
        spool: Spool,
        lived: LivedTime,
        keep_s: float | None,
        most_bytes: int | None,
        anchors: AnchorFile | None,
        recorder: str,
        clock: Clock,
        random: Random,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._database = database
        self._spool = spool
        self._lived = lived
        self._keep_s = keep_s
        self._most_bytes = most_bytes
        self._anchors = anchors
        self._recorder = recorder
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._log = log
        self._stopping = Stopping()

    async def run(self) -> None:
        """Looks until stop(), first after a period: a clock that is wrong at the start has been set by then."""
        offset_s = self._offset_s()
        await self._attempt(self._lived.note())
        await self._attempt(self._tell_end())
        while not await self._stopping.within(PERIOD_S):
            before_s, offset_s = offset_s, self._offset_s()
            await self._attempt(self._lived.note())
            if abs(offset_s - before_s) > MOST_STEP_S:
                self._log.warning("event_retention_waits", reason="the clock was set", by_s=round(offset_s - before_s))
                continue
            await self._attempt(self._tell_end())
            await self._attempt(self.look())

    async def stop(self) -> None:
        """Ends run(), after the piece that it is at."""
        self._stopping.set()

    async def look(self) -> int:
        """Removes what is too old or too much, piece by piece; how many events that were.

        Raises ChainBroken, sqlite3.Error.
        """
        return await self._remove("age", self._older) + await self._remove("size", self._beyond)

    async def _remove(self, reason: str, before: Callable[[], Awaitable[int | None]]) -> int:
        """before: gives the time (µs) before which the next piece has come, None if nothing is to go any more."""
        count = 0
        while not self._stopping.is_set() and (before_us := await before()) is not None:
            removed = await self._piece(before_us, reason)
            if removed is None:
                break
            count += removed.events
            self._metrics.events_removed.labels(reason).inc(removed.events)
            await self._stopping.within(PAUSE_S)
        if count:
            self._log.info("events_removed", events=count, reason=reason)
        return count

    async def _older(self) -> int | None:
        return None if self._keep_s is None else await self._lived.ago(round(self._keep_s * 1e6))

    async def _beyond(self) -> int | None:
        if self._most_bytes is None or await self._database.transaction(bytes_of) <= self._most_bytes:
            return None
        return _EVER_US

    async def _tell_end(self) -> None:
        number, link = await self._database.transaction(end)
        if number:
            self._log.info("event_chain", number=number, link=link.hex())
        if number and self._anchors is not None:
            try:
                await asyncio.to_thread(self._anchors.put, number, link, now_us=self._clock.now_us())
            except OSError as error:
                self._log.error("anchor_not_written", file=str(self._anchors.path), error=str(error))

    async def _attempt(self, work: Awaitable[object]) -> None:
        """What the disk refuses, or the chain forbids, is told, and tried again after a period."""
        try:
            await work
        except ChainBroken as error:
            self._log.error("event_chain_broken", error=str(error), mend="see `dinrail events verify`")
        except sqlite3.Error as error:
            self._log.error("events_not_removed", error=str(error))

    async def _piece(self, before_us: int, reason: str) -> Removed | None:
        now_us = self._clock.now_us()
        removed = await self._database.transaction(
            partial(
                removal.remove_oldest,
                before_us=before_us,
                now_us=now_us,
                reason=reason,
                recorder=self._recorder,
                new_id=lambda: str(uuid7(now_us, self._random)),
            )
        )
        if removed is not None:
            self._spool.versions_missing += removed.missing
        return removed

    def _offset_s(self) -> float:
        return self._clock.now_us() / 1e6 - self._clock.monotonic()
