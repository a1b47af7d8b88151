"""From the broker onto the disk: what has been committed is acknowledged, and nothing else."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from services.recorder.completeness.incidents import Incidents
from services.recorder.events.table import Aggregate, Findings
from services.recorder.spool.admission import CONTRACT, Admission, Incoming, admit
from services.recorder.spool.spool import Spool
from services.runtime.gaps import Gaps, StreamKey
from services.runtime.health import Health
from services.runtime.intake import IntakeClosed
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff
from services.runtime.stopping import Stopping
from services.runtime.throttle import Throttle

MOST_MESSAGES = 500
SLOW_S = 10.0
"""A commit that takes longer is told of: a disk that hangs refuses nothing, and yet nothing is acknowledged."""
LONG_BYTES = 2 << 20
"""A batch that is longer is looked through in a thread: an event of 1 MB alone may take 0.1 s."""


class Batch(Protocol):
    """Messages that came together."""

    @property
    def messages(self) -> Sequence[Incoming]:
        """In the order of arrival."""
        ...

    def ack(self) -> None:
        """Tells the broker that it may forget them."""
        ...


class Source(Protocol):
    """A durable session with the broker."""

    async def batch(self, *, most: int, linger_s: float) -> Batch:
        """The messages that are there, at least one, at most `most`. Raises IntakeClosed after its stop."""
        ...


class Recorder:
    """Takes batches from the intake, commits them to the spool, then acknowledges. A Part.

    spool_bytes: while the spool holds more, nothing is taken, so that nothing is acknowledged and the broker keeps it.
    """

    name = "recorder"

    def __init__(
        self,
        *,
        intake: Source,
        spool: Spool,
        gaps: Gaps,
        incidents: Incidents,
        site: str,
        spool_bytes: int,
        linger_s: float,
        backoff: Backoff,
        health: Health,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._intake = intake
        self._spool = spool
        self._gaps = gaps
        self._incidents = incidents
        self._site = site
        self._spool_bytes = spool_bytes
        self._linger_s = linger_s
        self._backoff = backoff
        self._health = health
        self._metrics = metrics
        metrics.spool_limit.set(spool_bytes)
        self._log = log
        self._dead_throttle = Throttle()
        self._gap_throttle = Throttle()
        self._hole_throttle = Throttle()
        self._repetition_throttle = Throttle()
        self._stopping = Stopping()
        self._changed = asyncio.Event()
        self._committing_s: float | None = None
        spool.listen(self._on_change)

    async def run(self) -> None:
        """Records until stop(). What was taken but not committed by then comes again at the next start."""
        while await self._room():
            batch = await self._next()
            if batch is None or not await self._keep(batch.messages):
                return
            batch.ack()

    def look(self) -> None:
        """Says so if the disk has had messages for long; to be called about once a second."""
        if self._committing_s is None:
            return
        waited_s = asyncio.get_running_loop().time() - self._committing_s
        if waited_s >= SLOW_S:
            detail = f"the disk has not taken for {waited_s:.0f} s what came from the broker"
            self._health.report("spool", ok=False, detail=detail)

    async def stop(self) -> None:
        """Takes nothing more. The intake has been stopped before: it is further up the data's way."""
        self._stopping.set()
        self._changed.set()

    def _on_change(self) -> None:
        self._metrics.spool_rows.set(self._spool.rows)
        self._metrics.spool_bytes.set(self._spool.bytes)
        self._changed.set()

    async def _room(self) -> bool:
        """Waits until the spool has room; False once the recorder is to stop."""
        if self._full():
            detail = f"full: {self._spool.bytes} bytes wait for the history; nothing is taken from the broker"
            self._log.error("spool_full", bytes=self._spool.bytes, most=self._spool_bytes)
            self._health.report("spool", ok=False, detail=detail)
            self._incidents.spool(full=True, now_s=asyncio.get_running_loop().time())
            while self._full() and not self._stopping.is_set():
                self._changed.clear()
                await self._changed.wait()
            self._incidents.spool(full=self._full(), now_s=asyncio.get_running_loop().time())
        self._health.report("spool", ok=not self._full(), detail=f"{self._spool.bytes} bytes wait for the history")
        return not self._stopping.is_set()

    def _full(self) -> bool:
        return self._spool.bytes >= self._spool_bytes

    async def _next(self) -> Batch | None:
        """The next batch, or None once the recorder is to stop."""
        try:
            return await self._intake.batch(most=MOST_MESSAGES, linger_s=self._linger_s)
        except IntakeClosed:
            await self._stopping.wait()
            return None

    async def _keep(self, messages: Sequence[Incoming]) -> bool:
        """Commits the messages, trying until the disk takes them; False if it did not before the stop."""
        while True:
            self._committing_s = asyncio.get_running_loop().time()
            try:
                async with self._spool.turn:
                    admission = await self._admitted(messages)
                    findings = await self._spool.commit(admission)
            except sqlite3.Error as error:
                self._committing_s = None
                wait_s = self._backoff.next()
                self._log.error("spool_refused", error=str(error), retry_s=round(wait_s, 1))
                self._health.report("spool", ok=False, detail=f"the disk refuses: {error}")
                if await self._stopping.within(wait_s):
                    return False
            else:
                self._committing_s = None
                self._backoff.reset()
                self._gaps.note(admission.marks, admission.announced)
                self._count(admission)
                self._count_versions(findings)
                return True

    async def _admitted(self, messages: Sequence[Incoming]) -> Admission:
        """To be called in the spool's turn, in which the marks do not change."""
        work = partial(admit, messages, self._spool.marks, self._gaps, site=self._site)
        if sum(len(message.payload) for message in messages) <= LONG_BYTES:
            return work()
        return await asyncio.to_thread(work)

    def _count(self, admission: Admission) -> None:
        self._metrics.intake_commits.inc()
        self._metrics.backfill_stored.inc(admission.late)
        self._metrics.frame_duplicates.inc(admission.duplicates)
        self._metrics.frames_lost.labels(CONTRACT).inc(admission.refused)
        for reason, count in Counter(letter.reason for letter in admission.dead).items():
            self._metrics.dead_letters.labels(reason).inc(count)
        self._metrics.frame_gaps.inc(sum(missing.last - missing.first + 1 for _, missing in admission.missing))
        for stream, missing in admission.missing:
            self._incidents.found(stream, missing)
        for stream, count in admission.repeated.items():
            self._incidents.repeated(stream, count)
        now_s = asyncio.get_running_loop().time()
        if admission.dead and self._dead_throttle.passes(now_s):
            first = admission.dead[0]
            self._log.warning(
                "message_set_aside", reason=first.reason, detail=first.detail, others=len(admission.dead) - 1
            )
        if admission.missing and self._gap_throttle.passes(now_s):
            stream, missing = admission.missing[0]
            self._log.warning(
                "frames_missing",
                owner=stream.owner,
                stream=stream.name,
                epoch=missing.epoch,
                first=missing.first,
                last=missing.last,
                others=len(admission.missing) - 1,
            )

    def _count_versions(self, findings: Findings) -> None:
        """A hole is no news while messages of its stream are missing too: they will come, or be booked as lost."""
        self._metrics.event_versions_missing.set(self._spool.versions_missing)
        self._metrics.event_versions_repeated.inc(len(findings.repeated))
        now_s = asyncio.get_running_loop().time()
        gappy = {stream for stream in {hole.stream for hole in findings.holes} if self._is_gappy(stream)}
        holes = [hole for hole in findings.holes if hole.stream not in gappy]
        if holes and self._hole_throttle.passes(now_s):
            aggregate, first, last, _ = holes[0]
            others = len(holes) - 1
            self._log.warning("event_versions_missing", **_named(aggregate), first=first, last=last, others=others)
        if findings.repeated and self._repetition_throttle.passes(now_s):
            aggregate, version = findings.repeated[0]
            others = len(findings.repeated) - 1
            self._log.warning("event_versions_repeated", **_named(aggregate), version=version, others=others)

    def _is_gappy(self, stream: StreamKey) -> bool:
        return any(marks.holes for marks in self._spool.marks[stream].values())


def _named(aggregate: Aggregate) -> dict[str, str]:
    return {"scope": aggregate.scope, "aggregate": aggregate.kind, "id": aggregate.name}
