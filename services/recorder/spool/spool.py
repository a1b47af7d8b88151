"""Messages between the broker and the history: on disk before they are acknowledged, until the history has them."""

import asyncio
import json
import math
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from plugins.api.clock import Clock
from services.recorder.completeness import heard, settled
from services.recorder.completeness.heard import Heard
from services.recorder.database import Database
from services.recorder.events import table as event_table
from services.recorder.events.removal import OWN_STREAM
from services.recorder.events.table import Findings
from services.recorder.spool.admission import Admission
from services.recorder.spool.deadletters import DeadLetter, DeadLetters
from services.recorder.spool.frames import Spooled
from services.recorder.spool.marks import EpochMarks, Lost, marks_in_file
from services.runtime.gaps import StreamKey

T = TypeVar("T")


class Spool:
    """The write-ahead log of the history, in the order of arrival, and the marks of every stream.

    rows, bytes: what it holds now. Of these wait, which is: are not under way to the history, see head(): backlog_rows,
    see set_back(); and fresh_rows of fresh_bytes, the oldest one since oldest_s, a monotonic time.
    turn: held by whoever makes new marks from those that are here and then puts them on disk. Events are kept beside
    the spool, for good (see events.table); versions_missing: how many of theirs are not there.
    """

    def __init__(self, *, database: Database, letters: DeadLetters, clock: Clock) -> None:
        self.rows = 0
        self.bytes = 0
        self.backlog_rows = 0
        self.fresh_rows = 0
        self.fresh_bytes = 0
        self.versions_missing = 0
        self.oldest_s: float | None = None
        self.marks: dict[StreamKey, dict[int, EpochMarks]] = {}
        self._database = database
        self._letters = letters
        self._clock = clock
        self._touched: dict[StreamKey, set[int]] = {}
        self._streams: dict[StreamKey, int] = {}
        self._last_id = 0  # SQLite itself would give the ids of removed rows again
        self._backlog_to = 0
        self._under_way: list[tuple[int, int]] = []
        self.turn = asyncio.Lock()
        self._heard = Heard()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls the listener after each change of what the spool holds."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Reads marks and fill from the database; to be called once, before everything else."""
        self.rows, self.bytes, self._last_id = await self._database.transaction(_fill)
        self.fresh_rows, self.fresh_bytes = self.rows, self.bytes
        self._streams, self.marks = await self._database.transaction(_loaded)
        self.versions_missing = await self._database.transaction(event_table.missing)
        self._touched = {stream: set() for stream in self.marks}
        self._changed()

    async def commit(
        self, admission: Admission, *, also: Callable[[sqlite3.Connection], None] | None = None
    ) -> Findings:
        """Puts a batch on disk, with its marks and dead letters; gives what the versions of its events have shown.

        also: what must become durable in the same moment. To be called in the spool's turn if it keeps messages. A
        caller that is cancelled hears of it only once what is on disk is known here: the next commit builds on it.
        Raises sqlite3.Error, having written nothing.
        """
        return await _to_its_end(self._committed(admission, also))

    async def _committed(self, admission: Admission, also: Callable[[sqlite3.Connection], None] | None) -> Findings:
        now_us = self._clock.now_us()
        news = self._heard.due(self.marks, admission.marks, now_us=now_us)

        def work(database: sqlite3.Connection) -> tuple[Mapping[StreamKey, int], Findings]:
            """The one transaction of it. Raises sqlite3.Error, and what also() raises."""
            if also is not None:
                also(database)
            return self._write(database, admission, news, now_us)

        streams, findings = await self._database.transaction(work)
        self._heard.noted(news)
        self._streams.update(streams)
        self.versions_missing += findings.missing
        for stream, epochs in admission.marks.items():
            self.marks.setdefault(stream, {}).update(epochs)
            self._touched.setdefault(stream, set()).update(epochs)
        for stream, known in admission.known.items():
            self._touched.setdefault(stream, set()).update(known)
        self._last_id += len(admission.kept)
        self.rows += len(admission.kept)
        self.bytes += admission.bytes
        self.fresh_rows += len(admission.kept)
        self.fresh_bytes += admission.bytes
        self._changed()
        return findings

    async def book_lost(self, stream: StreamKey, epoch: int, lost: Iterable[Lost]) -> EpochMarks:
        """The owner has said that these will not come. Raises sqlite3.Error, having written nothing."""
        async with self.turn:
            before = self.marks.get(stream, {}).get(epoch) or EpochMarks(epoch)
            after = before.with_lost(lost)
            await self.commit(Admission(marks={stream: {epoch: after}}))
        return after

    def take_touched(self) -> dict[StreamKey, set[int]]:
        """The epochs by stream of which there is news for the owner since the last call; after load() all streams."""
        touched, self._touched = self._touched, {}
        return touched

    def set_back(self) -> None:
        """All that is here becomes the backlog: what comes from now on can be taken beside it."""
        self._backlog_to = self._last_id
        self.backlog_rows += self.fresh_rows
        self.fresh_rows = self.fresh_bytes = 0
        self.oldest_s = None

    async def head(self, *, most_bytes: int, backlog: bool = False) -> list[Spooled]:
        """The oldest messages that wait in the backlog, or of the fresh ones: as many as fit into most_bytes, at least
        one. They are under way until settle() or give_back(). To be called by one at a time.
        """
        first, last = (0, self._backlog_to) if backlog else (self._backlog_to + 1, self._last_id)
        apart = tuple(self._under_way)
        rows = await self._database.transaction(lambda database: _head(database, first, last, most_bytes, apart))
        if rows:
            self._under_way.append((rows[0].id, rows[-1].id))
            self._waiting(rows, -1)
        return rows

    def give_back(self, rows: Sequence[Spooled]) -> None:
        """Messages that head() gave wait again, and have waited long enough."""
        self._under_way.remove((rows[0].id, rows[-1].id))
        self._waiting(rows, 1)
        if self.fresh_rows:
            self.oldest_s = -math.inf
        self._changed()

    def _waiting(self, rows: Sequence[Spooled], sign: int) -> None:
        if rows[0].id <= self._backlog_to:
            self.backlog_rows += sign * len(rows)
            return
        self.fresh_rows += sign * len(rows)
        self.fresh_bytes += sign * sum(len(row.payload) for row in rows)
        self.oldest_s = self._clock.monotonic() if self.fresh_rows else None

    async def settle(
        self, rows: Sequence[Spooled], dead: Sequence[DeadLetter], also: Callable[[sqlite3.Connection], None]
    ) -> None:
        """Removes messages that head() gave. also: what must become durable in the same moment, or not at all."""
        now_us = self._clock.now_us()

        def work(database: sqlite3.Connection) -> None:
            """The one transaction of it. Raises sqlite3.Error, and what also() raises."""
            also(database)
            self._letters.put(database, dead, now_us=now_us)
            aside = {letter.row for letter in dead if letter.row is not None}
            settled.leave_spool(database, rows[0].id, rows[-1].id, aside)
            # head() leaves nothing out, so all between the first and the last one goes.
            database.execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", (rows[0].id, rows[-1].id))

        await self._database.transaction(work)
        self._under_way.remove((rows[0].id, rows[-1].id))
        self.rows -= len(rows)
        self.bytes -= sum(len(row.payload) for row in rows)
        self._changed()

    def _changed(self) -> None:
        if self.fresh_rows and self.oldest_s is None:
            self.oldest_s = self._clock.monotonic()
        for listener in self._listeners:
            listener()

    def _write(
        self, database: sqlite3.Connection, admission: Admission, news: Sequence[heard.Row], now_us: int
    ) -> tuple[Mapping[StreamKey, int], Findings]:
        new = {stream: _new_stream(database, stream) for stream in admission.marks if stream not in self._streams}
        ids = {**self._streams, **new}
        database.executemany(
            "INSERT INTO spool (id, stream, topic, payload, epoch, seq) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (at, ids[kept.stream], kept.topic, kept.payload, kept.epoch, kept.seq)
                for at, kept in enumerate(admission.kept, self._last_id + 1)
            ],
        )
        findings = event_table.put(database, admission.events, ids, now_us=now_us)
        settled.book(database, [(ids[one.stream], one.message.epoch, one.message.seq) for one in admission.events])
        heard.put(database, news, ids)
        database.executemany(
            "INSERT OR REPLACE INTO mark (stream, epoch, last, have, lost) VALUES (?, ?, ?, ?, ?)",
            [
                (ids[stream], marks.epoch, marks.last, json.dumps(marks.have), json.dumps(marks.lost))
                for stream, epochs in admission.marks.items()
                for marks in epochs.values()
            ],
        )
        self._letters.put(database, admission.dead, now_us=now_us)
        return new, findings


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What it gives; a cancellation waits until it has ended."""
    task = asyncio.create_task(work, name="spool.commit")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # which nobody hears of any more
        raise


def spooled(database: sqlite3.Connection, device: str | None = None) -> Iterator[Spooled]:
    """The messages that the spool holds, or those of one device, oldest first."""
    # CROSS: in the spool's own order, so that no payload is sorted and a reader holds one at a time.
    rows = database.execute(
        "SELECT spool.id, owner, name, topic, payload FROM spool CROSS JOIN stream ON stream.id = spool.stream"
        " WHERE kind = 'frame' AND (? IS NULL OR owner = ?) ORDER BY spool.id",
        (device, device),
    )
    return (Spooled(*row) for row in rows)


def _fill(database: sqlite3.Connection) -> tuple[int, int, int]:
    """How many rows there are, their payloads' bytes, the last id."""
    found = database.execute(
        "SELECT count(*), coalesce(sum(length(payload)), 0), coalesce(max(id), 0) FROM spool"
    ).fetchone()
    return int(found[0]), int(found[1]), int(found[2])


def _loaded(
    database: sqlite3.Connection,
) -> tuple[dict[StreamKey, int], dict[StreamKey, dict[int, EpochMarks]]]:
    rows = database.execute("SELECT id, kind, owner, name FROM stream WHERE kind <> ? OR name <> ?", OWN_STREAM)
    streams = {StreamKey(*key): at for at, *key in rows}
    by_id: dict[int, dict[int, EpochMarks]] = {}
    for stream, epoch, last, have, lost in database.execute("SELECT stream, epoch, last, have, lost FROM mark"):
        try:
            by_id.setdefault(stream, {})[epoch] = marks_in_file(epoch, last, have, lost)
        except (ValueError, TypeError) as error:
            raise sqlite3.DatabaseError(f"the marks of stream {stream}, epoch {epoch}, are damaged: {error}") from None
    return streams, {key: by_id.get(at, {}) for key, at in streams.items()}


def _new_stream(database: sqlite3.Connection, stream: StreamKey) -> int:
    ((at,),) = database.execute(
        "INSERT INTO stream (kind, owner, name) VALUES (?, ?, ?) RETURNING id", stream
    ).fetchall()
    return int(at)


def _head(
    database: sqlite3.Connection, first: int, last: int, most_bytes: int, apart: Sequence[tuple[int, int]]
) -> list[Spooled]:
    """apart: first and last ids of what is not wanted; it stands not between those that are given either."""
    rows: list[Spooled] = []
    held = 0
    found = database.execute(
        "SELECT spool.id, owner, name, topic, payload FROM spool JOIN stream ON stream.id = spool.stream"  # noqa: S608
        f" WHERE spool.id BETWEEN ? AND ?{' AND spool.id NOT BETWEEN ? AND ?' * len(apart)} ORDER BY spool.id",
        (first, last, *chain.from_iterable(apart)),
    )
    for row in found:
        one = Spooled(*row)
        held += len(one.payload)
        if rows and (held > most_bytes or any(rows[-1].id < begin < one.id for begin, _ in apart)):
            break
        rows.append(one)
    found.close()
    return rows
