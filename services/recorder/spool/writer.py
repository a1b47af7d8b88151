"""From the spool into the history, and out of the spool only once the history has it."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Sequence

from plugins.api.clock import Clock
from services.recorder.spool.deadletters import DeadLetter
from services.recorder.spool.frames import FrameReader, Spooled
from services.recorder.spool.spool import Spool
from services.recorder.spool.store import Store, StoreUnavailable
from services.runtime.health import Health
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff

_PART = "store"
BEHIND = 4
"""So many full batches of fresh messages are a backlog: what comes after them is written beside them."""
LANES = 3
"""So many batches are under way at once: one is read, lines are made of one, the store takes one."""


class Writer:
    """Takes batches from the spool and feeds them to the store, for as long as it takes. A Part.

    In the order of arrival, as long as the store keeps up. Once more waits, as after an outage, all of that is the
    backlog, and its batches and those of fresh messages take turns: new values do not wait for hours of old ones.
    A batch leaves the spool when the store has it, whatever becomes of the others that are under way. After a failure
    none begins before the store may be asked again, and then one alone until it takes something.
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
        metrics.stored_values.labels(store.name)
        self._log = log
        self._reader = FrameReader()
        self._stopping = False
        self._away = False
        self._backlog_next = False
        self._not_before_s = 0.0
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        spool.listen(self._wake.set)

    async def run(self) -> None:
        """Writes until stop(), then what is fresh, if the store takes it: the spool keeps what is left."""
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(1 if self._store.in_order else LANES):
                    lanes.create_task(self._lane(), name="writer.lane")
        finally:
            await self._store.close()

    async def _lane(self) -> None:
        """Batch by batch until stop()."""
        while True:
            async with self._turn:
                if not await self._due():
                    return
                if self._away:
                    await self.write_batch()
                    continue
                rows = await self._taken()
            await self._write(rows)

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
        now_s = self._clock.monotonic()
        if self._spool.backlog_rows or self._spool.fresh_bytes >= self._store.batch_bytes:
            due_s = now_s
        elif self._spool.oldest_s is not None:
            due_s = self._spool.oldest_s + self._store.flush_s
        else:
            return None
        return max(due_s, self._not_before_s) - now_s

    async def _woken_within(self, wait_s: float | None) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _takes_backlog(self) -> bool:
        """Whether the next batch is one of the backlog."""
        if not self._store.in_order and self._spool.fresh_bytes > BEHIND * self._store.batch_bytes:
            self._spool.set_back()
        backlog = self._spool.backlog_rows > 0 and (self._backlog_next or not self._spool.fresh_rows)
        self._backlog_next = not backlog
        return backlog

    async def write_batch(self) -> None:
        """Takes and writes one batch: something waits in the spool."""
        await self._write(await self._taken())

    async def _taken(self) -> Sequence[Spooled]:
        """A batch, which is under way now; none if the disk refuses."""
        try:
            return await self._spool.head(most_bytes=self._store.batch_bytes, backlog=self._takes_backlog())
        except sqlite3.Error as error:
            self._back_off(f"the disk refuses: {error}", "disk", 0.0)
            return ()

    async def _write(self, rows: Sequence[Spooled]) -> None:
        if not rows:
            return
        try:
            dead: list[DeadLetter] = []
            written = await self._store.write(self._reader.read_all(rows, dead))
            dead += written.dead
            await self._spool.settle(rows, dead, written.also)
        except StoreUnavailable as error:
            self._back_off(str(error), error.reason, error.retry_after_s)
            self._spool.give_back(rows)
        except sqlite3.Error as error:
            self._back_off(f"the disk refuses: {error}", "disk", 0.0)
            self._spool.give_back(rows)
        else:
            self._count(written.values, dead)

    def _back_off(self, detail: str, reason: str, at_least_s: float) -> None:
        """No batch begins for a while. Of several that fail side by side only the first makes it longer."""
        now_s = self._clock.monotonic()
        wait_s = at_least_s if self._away and now_s < self._not_before_s else max(self._backoff.next(), at_least_s)
        if not self._away:
            self._log.warning("store_unavailable", store=self._store.name, detail=detail, retry_s=round(wait_s, 1))
        self._away = True
        self._not_before_s = max(self._not_before_s, now_s + wait_s)
        self._metrics.store_errors.labels(self._store.name, reason).inc()
        self._health.report(_PART, ok=False, detail=f"{detail}; {self._spool.rows} messages wait on disk")

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
