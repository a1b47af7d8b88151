"""The journal: what this service has produced, kept on its disk until every required recorder has stored it.

append() is one write(), so that a SIGKILL loses nothing written; its Part syncs every 100 ms, so that a power cut loses
one interval at most. A segment is removed once all its records are stored by all required recorders, or, oldest first,
when the journal grows over its cap or the segment over its age. What is lost is booked with its reason: cap_bytes,
cap_age, store_replaced, disk_full (never written), damaged (the disk gave it back broken, or not at all), skipped
(numbered but never appended).

Age is the time for which the journal has been open since: the wall clock has no say, since one that is wrong at a start
would throw away what an outage has left.
"""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from contracts.v1.stored import Stored
from plugins.api.clock import Clock
from services.runtime.journal.faults import JournalBroken, JournalFull
from services.runtime.journal.flush import Flush
from services.runtime.journal.holdings import Holdings
from services.runtime.journal.ledger import Ledger, LedgerFile
from services.runtime.journal.lock import lock_folder
from services.runtime.journal.marks import Marks
from services.runtime.journal.record import MOST_PAYLOAD
from services.runtime.journal.segment import SUFFIX
from services.runtime.journal.shelf import Limits, Shelf, Usage, reconcile
from services.runtime.journal.stream import Stream
from services.runtime.metrics import Metrics

_SYNC_S = 0.1
_SAVE_US = 1_000_000
_SAVE_CLOCK_US = 60_000_000
"""After a power cut the journal's clock is behind by this at most."""


class Journal(Holdings):
    """The records of all streams of one service, used by the tasks of one event loop. A Part, among the last sinks."""

    name = "journal"

    def __init__(
        self, folder: Path, *, limits: Limits, required_recorders: Iterable[str], clock: Clock, metrics: Metrics
    ) -> None:
        """Raises what open() raises."""
        self._folder = folder
        self._clock = clock
        self._metrics = metrics
        self._lock = lock_folder(folder)
        with ExitStack() as undo:
            undo.callback(os.close, self._lock)
            self._ledger_file = LedgerFile(folder / "ledger.json")
            self._ledger = _load(self._ledger_file.path)
            self._began_us = self._ledger.clock_us - int(clock.monotonic() * 1e6)
            self._saved_version = self._ledger.version
            self._asked_version = self._ledger.version
            self._saved_us = self._now_us() - _SAVE_US
            self._counted = Counter(self._ledger.lost)
            self._lost_before = Counter(self._ledger.lost)
            self._marks = Marks(required_recorders)
            self._shelf = Shelf(folder, limits=limits, ledger=self._ledger, marks=self._marks)
            super().__init__(shelf=self._shelf, ledger=self._ledger, marks=self._marks)
            self._shelf.recover(now_us=self._now_us())
            reconcile(self._shelf, self._ledger)
            undo.pop_all()
        self._stopping = asyncio.Event()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        cap_bytes: int = 2 << 30,
        max_age_s: float = 7 * 86400,
        segment_bytes: int = 16 << 20,
        required_recorders: Iterable[str] = ("recorder",),
        clock: Clock,
        metrics: Metrics,
    ) -> "Journal":
        """The journal in the folder, made if there is none; as it was at the last append() if the process was killed.

        Raises JournalBroken if another process has it open or its ledger is unreadable, OSError if the disk refuses.
        """
        folder.mkdir(parents=True, exist_ok=True)
        limits = Limits(cap_bytes=cap_bytes, max_age_us=int(max_age_s * 1e6), segment_bytes=segment_bytes)
        return cls(folder, limits=limits, required_recorders=required_recorders, clock=clock, metrics=metrics)

    def open_stream(self, kind: str, owner: str, stream: str) -> Stream:
        """A new epoch of the stream. A Stream of it from before is void.

        The epoch is on the disk before the first record of it is: epochs begun together, as at a start, are one write.
        """
        entry = self._ledger.entry((kind, owner, stream))
        previous = (entry.epoch, entry.last) if entry.epoch else None
        self._live.discard((entry.number, entry.epoch))
        self._ledger.begin_epoch(entry, epoch=max(self._clock.now_us(), entry.epoch + 1))
        opened = Stream(kind, owner, stream, entry=entry, previous=previous, version=self._ledger.version)
        self._live.add(opened.key)
        return opened

    def end_stream(self, stream: Stream) -> None:
        """Nothing more is appended to it in this epoch."""
        self._live.discard(stream.key)

    def append(self, stream: Stream, seq: int, payload: bytes) -> None:
        """Writes the record; a kill after this loses nothing. Raises JournalFull if the disk does not take it.

        seq: as next_seq() gave it; one that was left out is booked as lost, `skipped`. Raises ValueError for a number
        that is not above the last, for a payload over 16 MiB, for a Stream that is void and after close().
        """
        entry = stream.entry
        if stream.epoch != entry.epoch or seq <= entry.last or len(payload) > MOST_PAYLOAD or self._lock < 0:
            state = f"{len(payload)} bytes as {stream.epoch}:{seq} after {entry.epoch}:{entry.last}"
            raise ValueError(f"{stream.kind}/{stream.owner}/{stream.name}: cannot append {state}")
        if seq > entry.last + 1:
            self._ledger.book(stream.key, entry.last + 1, seq - 1, "skipped")
        entry.last = seq
        if stream.version > self._saved_version and not self._save_epochs(stream.version):
            self._ledger.book(stream.key, seq, seq, "disk_full")
            raise JournalFull(errno.ENOSPC, "the stream's epoch is not on the disk yet", str(self._folder))
        try:
            self._shelf.append(stream.key, seq, payload, now_us=self._now_us())
        except OSError as error:
            self._ledger.book(stream.key, seq, seq, "disk_full")
            raise self._refused(error) from error

    def stored(self, recorder: str, kind: str, owner: str, stream: str, message: Stored, *, old: bool = False) -> bool:
        """A recorder says what it has of the stream: segments that nobody needs any more are removed.

        Returns True if the recorder has a new database: it has lost what was removed (booked), and what is held is to
        be offered to it again. old: the message was retained, so that one with another database may be older than what
        is known, and changes nothing. What a recorder says that is not required changes nothing.
        """
        if recorder not in self._marks or (old and self._ledger.stores.get(recorder, message.store) != message.store):
            return False
        replaced = self._ledger.check_store(recorder, message.store)
        if replaced:
            self._marks.forget(recorder)
            self._shelf.want_all()
        entry = self._ledger.streams.get((kind, owner, stream))
        if entry is not None:
            self._marks.add(recorder, entry.number, message)
            self._shelf.release(entry.number)
        return replaced

    @property
    def usage(self) -> Usage:
        """How full the journal is and what it has lost."""
        return self._shelf.usage

    @property
    def lost(self) -> Counter[str]:
        """How many records were lost since it was opened, by reason; what was found damaged then counts too."""
        return self._ledger.lost - self._lost_before

    async def run(self) -> None:
        """Syncs every 100 ms until stop(), then closes the journal."""
        try:
            while not self._stopping.is_set():
                try:
                    async with asyncio.timeout(_SYNC_S):
                        await self._stopping.wait()
                except TimeoutError:
                    await self.sync()
        finally:
            self.close()

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    async def sync(self) -> None:
        """Brings what was appended to the disk, in a thread, and removes what is too old or not needed."""
        self._shelf.keep_age(now_us=self._now_us())
        flush = self._flush(now=False)
        with self._metrics.journal_sync_seconds.time():
            await asyncio.to_thread(flush.run)
        self._settle(flush)

    def close(self) -> None:
        """Syncs and closes; nothing can be appended any more. Idempotent."""
        if self._lock < 0:
            return
        self._shelf.seal()
        self._ledger.version += 1  # for the last numbers, which alone are not worth a write
        flush = self._flush(now=True)
        flush.run()
        self._settle(flush)
        os.close(self._lock)
        self._lock = -1

    def _save_epochs(self, version: int) -> bool:
        """Whether the disk has the epochs now. It is asked once for each; where it refuses, sync() asks again."""
        if version > self._asked_version:
            self._asked_version = self._ledger.version
            try:
                self._ledger_file.write(self._dump(), version=self._ledger.version)
            except OSError as error:
                self._refused(error)
                return False
            self._saved_version = self._ledger.version
        return version <= self._saved_version

    def _dump(self) -> bytes:
        self._ledger.clock_us = self._now_us()
        return self._ledger.dump()

    def _now_us(self) -> int:
        """The journal's own clock, see Ledger.clock_us."""
        return self._began_us + int(self._clock.monotonic() * 1e6)

    def _flush(self, *, now: bool) -> Flush:
        """The next round. The ledger goes with it when a segment is to be removed, else at most once a second.

        Where nothing but the clock has changed, it goes once a minute: a machine that is switched off hard each day,
        before a segment is full, would else never grow old what it holds.
        """
        ledger = self._ledger
        unsaved_us = self._now_us() - self._saved_us
        if unsaved_us >= _SAVE_CLOCK_US:
            ledger.version += 1
        due = now or ledger.doomed or unsaved_us >= _SAVE_US
        write = bool(due) and ledger.version != self._saved_version
        if write:
            self._saved_us = self._now_us()
        fds, errors = list[int](), list[OSError]()
        try:
            fds = self._shelf.unsynced()
        except OSError as error:  # no file descriptor is left: the next round has them
            errors.append(error)
        return Flush(
            folder=self._folder,
            fds=fds,
            errors=errors,
            ledger_file=self._ledger_file,
            ledger=self._dump() if write else None,
            version=ledger.version,
            doomed=sorted(ledger.doomed),
        )

    def _settle(self, flush: Flush) -> None:
        """Takes over what came of a flush, and brings the metrics up to date."""
        self._ledger.doomed -= flush.removed
        if flush.written:
            self._saved_version = max(self._saved_version, flush.version)
        for error in flush.errors:
            self._metrics.journal_errors.labels(_reason(error)).inc()
        for reason, count in self._ledger.lost.items():
            self._metrics.journal_lost.labels(reason).inc(count - self._counted[reason])
            self._counted[reason] = count
        usage = self.usage
        self._metrics.journal_bytes.set(usage.bytes)
        self._metrics.journal_records.set(usage.records)
        self._metrics.journal_alarm.set(usage.alarm)

    def _refused(self, error: OSError) -> JournalFull:
        self._metrics.journal_errors.labels(_reason(error)).inc()
        return JournalFull(error.errno, f"{error.strerror}: the journal cannot grow", str(self._folder))


def _reason(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown").lower()


def _load(path: Path) -> Ledger:
    if not path.exists() and any(path.parent.glob(f"*{SUFFIX}")):
        raise JournalBroken(f"{path} is missing; move the folder away to begin a new journal")
    return Ledger.load(path)
