"""Messages between the broker and the history: on disk before they are acknowledged, until the history has them."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from plugins.api.clock import Clock
from services.recorder.database import Database
from services.recorder.events import table as event_table
from services.recorder.events.table import Findings
from services.recorder.spool.admission import Admission
from services.recorder.spool.deadletters import DeadLetter, DeadLetters
from services.recorder.spool.frames import Spooled
from services.recorder.spool.marks import EpochMarks, Lost
from services.runtime.gaps import StreamKey


class Spool:
    """The write-ahead log of the history, in the order of arrival, and the marks of every stream.

    rows, bytes: what it holds now. oldest_s: monotonic time since when it is not empty. turn: held by whoever makes new
    marks from those that are here and then puts them on disk. Events are kept beside the spool, for good (see
    events.table); versions_missing: how many of theirs are not there.
    """

    def __init__(self, *, database: Database, letters: DeadLetters, clock: Clock) -> None:
        self.rows = 0
        self.bytes = 0
        self.versions_missing = 0
        self.oldest_s: float | None = None
        self.marks: dict[StreamKey, dict[int, EpochMarks]] = {}
        self._database = database
        self._letters = letters
        self._clock = clock
        self._touched: dict[StreamKey, set[int]] = {}
        self._streams: dict[StreamKey, int] = {}
        self.turn = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls the listener after each change of what the spool holds."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Reads marks and fill from the database; to be called once, before everything else."""
        self.rows, self.bytes, self._streams, self.marks = await self._database.transaction(_loaded)
        self.versions_missing = await self._database.transaction(event_table.missing)
        self._touched = {stream: set() for stream in self.marks}
        self._changed()

    async def commit(self, admission: Admission) -> Findings:
        """Puts a batch on disk, with its marks and dead letters; gives what the versions of its events have shown.

        Raises sqlite3.Error, having written nothing.
        """
        now_us = self._clock.now_us()
        streams, findings = await self._database.transaction(lambda database: self._write(database, admission, now_us))
        self._streams.update(streams)
        self.versions_missing += findings.missing
        for stream, epochs in admission.marks.items():
            self.marks.setdefault(stream, {}).update(epochs)
            self._touched.setdefault(stream, set()).update(epochs)
        for stream, known in admission.known.items():
            self._touched.setdefault(stream, set()).update(known)
        self.rows += len(admission.kept)
        self.bytes += admission.bytes
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

    async def head(self, *, most_bytes: int) -> list[Spooled]:
        """The oldest messages: as many as fit into most_bytes, at least one if there is any."""
        return await self._database.transaction(lambda database: _head(database, most_bytes))

    async def settle(
        self, rows: Sequence[Spooled], dead: Sequence[DeadLetter], also: Callable[[sqlite3.Connection], None]
    ) -> None:
        """Removes messages that are dealt with. also: what must become durable in the same moment, or not at all."""
        now_us = self._clock.now_us()

        def work(database: sqlite3.Connection) -> None:
            """The one transaction of it. Raises sqlite3.Error, and what also() raises."""
            also(database)
            self._letters.put(database, dead, now_us=now_us)
            # Rows leave in the order they came, so everything up to the last one goes.
            database.execute("DELETE FROM spool WHERE id <= ?", (rows[-1].id,))

        await self._database.transaction(work)
        self.rows -= len(rows)
        self.bytes -= sum(len(row.payload) for row in rows)
        self.oldest_s = None
        self._changed()

    def _changed(self) -> None:
        if not self.rows:
            self.oldest_s = None
        elif self.oldest_s is None:
            self.oldest_s = self._clock.monotonic()
        for listener in self._listeners:
            listener()

    def _write(
        self, database: sqlite3.Connection, admission: Admission, now_us: int
    ) -> tuple[Mapping[StreamKey, int], Findings]:
        new = {stream: _new_stream(database, stream) for stream in admission.marks if stream not in self._streams}
        ids = {**self._streams, **new}
        database.executemany(
            "INSERT INTO spool (stream, topic, payload) VALUES (?, ?, ?)",
            [(ids[kept.stream], kept.topic, kept.payload) for kept in admission.kept],
        )
        findings = event_table.put(database, admission.events, ids, now_us=now_us)
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


def spooled(database: sqlite3.Connection, device: str | None = None) -> Iterator[Spooled]:
    """The messages that the spool holds, or those of one device, oldest first."""
    # CROSS: in the spool's own order, so that no payload is sorted and a reader holds one at a time.
    rows = database.execute(
        "SELECT spool.id, owner, name, topic, payload FROM spool CROSS JOIN stream ON stream.id = spool.stream"
        " WHERE kind = 'frame' AND (? IS NULL OR owner = ?) ORDER BY spool.id",
        (device, device),
    )
    return (Spooled(*row) for row in rows)


def _loaded(
    database: sqlite3.Connection,
) -> tuple[int, int, dict[StreamKey, int], dict[StreamKey, dict[int, EpochMarks]]]:
    rows, size = database.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM spool").fetchone()
    streams = {StreamKey(*key): at for at, *key in database.execute("SELECT id, kind, owner, name FROM stream")}
    by_id: dict[int, dict[int, EpochMarks]] = {}
    for stream, epoch, last, have, lost in database.execute("SELECT stream, epoch, last, have, lost FROM mark"):
        ranges = tuple((first, end) for first, end in json.loads(have))
        booked = tuple((first, end, reason) for first, end, reason in json.loads(lost))
        by_id.setdefault(stream, {})[epoch] = EpochMarks(epoch, ranges, last, booked)
    return rows, size, streams, {key: by_id.get(at, {}) for key, at in streams.items()}


def _new_stream(database: sqlite3.Connection, stream: StreamKey) -> int:
    ((at,),) = database.execute(
        "INSERT INTO stream (kind, owner, name) VALUES (?, ?, ?) RETURNING id", stream
    ).fetchall()
    return int(at)


def _head(database: sqlite3.Connection, most_bytes: int) -> list[Spooled]:
    rows: list[Spooled] = []
    held = 0
    found = database.execute(
        "SELECT spool.id, owner, name, topic, payload FROM spool JOIN stream ON stream.id = spool.stream"
        " ORDER BY spool.id"
    )
    for row in found:
        one = Spooled(*row)
        held += len(one.payload)
        if rows and held > most_bytes:
            break
        rows.append(one)
    found.close()
    return rows
