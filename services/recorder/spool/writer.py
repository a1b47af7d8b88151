"""From the spool into the history: in order, and out of the spool only once the history has it."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Sequence

from plugins.api.clock import Clock
from services.recorder.spool.deadletters import DeadLetter
from services.recorder.spool.frames import FrameReader
from services.recorder.spool.spool import Spool
from services.recorder.spool.store import Store, StoreUnavailable
from services.runtime.health import Health
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff

_PART = "store"
BEHIND = 4
"""So many full batches of fresh messages are a backlog: what comes after them is written beside them."""


class Writer:
    """Takes batches from the spool and feeds them to the store, for as long as it takes. A Part.

    In the order of arrival, as long as the store keeps up. Once more waits, as after an outage, all of that is the
    backlog, and its batches and those of fresh messages take turns: new values do not wait for hours of old ones.
    """

    name = "writer"

    def __init__(
        self, *, spool: Spool, store: Store, clock: Clock, backoff: Backoff, health: Health, metrics: Metrics, log: Log
    ) -> None:
        self._spool = spool
        self._store = store
        self._clock = clock
        self._backoff = backoff
        self._health = health
        self._metrics = metrics
        self._log = log
        self._reader = FrameReader()
        self._stopping = False
        self._away = False
        self._backlog_next = False
        self._wake = asyncio.Event()
        spool.listen(self._wake.set)

    async def run(self) -> None:
        """Writes until stop(), then what is fresh, if the store takes it: the spool keeps what is left."""
        try:
            while await self._due():
                await self.write_batch()
        finally:
            await self._store.close()

    async def stop(self) -> None:
        """Writes what is fresh at once, if the store takes it, and ends; a backlog waits for the next start."""
        self._stopping = True
        self._wake.set()

    async def _due(self) -> bool:
        """Waits until a batch is due; False once the writer is to end."""
        while True:
            self._wake.clear()
            if self._stopping:
                return self._spool.fresh_rows > 0 and not self._away
            wait_s = self._wait_s()
            if wait_s is not None and wait_s <= 0:
                return True
            await self._woken_within(wait_s)

    def _wait_s(self) -> float | None:
        """Seconds until a batch is due; None while there is nothing to write."""
        if self._spool.oldest_s is None:
            return None
        if self._backlog_rows or self._spool.fresh_bytes >= self._store.batch_bytes:
            return 0.0
        return self._spool.oldest_s + self._store.flush_s - self._clock.monotonic()

    async def _woken_within(self, wait_s: float | None) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    @property
    def _backlog_rows(self) -> int:
        return self._spool.rows - self._spool.fresh_rows

    def _takes_backlog(self) -> bool:
        """Whether the next batch is one of the backlog."""
        if not self._store.in_order and self._spool.fresh_bytes > BEHIND * self._store.batch_bytes:
            self._spool.set_back()
        self._backlog_next = self._backlog_rows > 0 and (self._backlog_next or not self._spool.fresh_rows)
        return self._backlog_next

    async def write_batch(self) -> None:
        """Writes one batch: the spool is not empty. Waits if the store is away."""
        backlog = self._takes_backlog()
        try:
            rows = await self._spool.head(most_bytes=self._store.batch_bytes, backlog=backlog)
            frames, dead = await asyncio.to_thread(self._reader.read_all, rows)
            written = await self._store.write(frames)
            dead += written.dead
            await self._spool.settle(rows, dead, written.also)
        except StoreUnavailable as error:
            await self._back_off(str(error), error.reason, error.retry_after_s)
        except sqlite3.Error as error:
            await self._back_off(f"the disk refuses: {error}", "disk", 0.0)
        else:
            self._backlog_next = not backlog
            self._count(written.values, dead)

    async def _back_off(self, detail: str, reason: str, at_least_s: float) -> None:
        wait_s = max(self._backoff.next(), at_least_s)
        if not self._away:
            self._log.warning("store_unavailable", store=self._store.name, detail=detail, retry_s=round(wait_s, 1))
        self._away = True
        self._metrics.store_errors.labels(self._store.name, reason).inc()
        self._health.report(_PART, ok=False, detail=f"{detail}; {self._spool.rows} messages wait on disk")
        until_s = self._clock.monotonic() + wait_s
        while not self._stopping and (left_s := until_s - self._clock.monotonic()) > 0:
            self._wake.clear()
            await self._woken_within(left_s)

    def _count(self, values: int, dead: Sequence[DeadLetter]) -> None:
        if self._away:
            self._log.info("store_back", store=self._store.name)
        self._away = False
        self._backoff.reset()
        self._metrics.stored_values.labels(self._store.name).inc(values)
        for reason, count in Counter(letter.reason for letter in dead).items():
            self._metrics.dead_letters.labels(reason).inc(count)
            first = next(letter for letter in dead if letter.reason == reason)
            self._log.warning("set_aside", reason=reason, count=count, first=first.detail)
        self._health.report(_PART, ok=True, detail=self._store.name)
