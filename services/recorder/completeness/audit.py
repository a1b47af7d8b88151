"""What a recorder has of every stream, as it stands in its database: one half of an audit."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from contracts.v1.audit import AuditedEpoch, AuditedStreams, AuditStreams
from services.recorder.completeness import heard, settled
from services.recorder.completeness.heard import MINUTE_US
from services.recorder.spool.marks import EpochMarks
from services.runtime.ranges import Ranges

MOST = 10_000
"""Ranges in one answer, and twice as many for each epoch; at least one epoch."""

_EPOCHS = """
SELECT stream.id, kind, owner, name, epoch, last, have, lost FROM mark JOIN stream ON stream.id = mark.stream
WHERE (mark.stream, epoch) > (?, ?) ORDER BY mark.stream, epoch
"""


class Audit:
    """Reads a recorder's database, from any thread, while the recorder writes it. store: see database.Database."""

    def __init__(self, path: Path, *, store: str) -> None:
        self._path = path
        self._store = store

    def look(self, asked: AuditStreams) -> AuditedStreams:
        """A page of epochs, all of one moment. Raises sqlite3.Error."""
        epochs: list[AuditedEpoch] = []
        room = MOST
        where = f"{self._path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(where, uri=True, isolation_level=None)) as sql:
            sql.execute("BEGIN")
            for place, epoch in _after(sql, asked):
                epochs.append(epoch)
                room -= _size(epoch)
                if room <= 0:
                    return AuditedStreams(store=self._store, epochs=epochs, next=place)
        return AuditedStreams(store=self._store, epochs=epochs)


def _after(sql: sqlite3.Connection, asked: AuditStreams) -> Iterator[tuple[str, AuditedEpoch]]:
    """The epochs behind `after`, each with its place."""
    stream, _, epoch = (asked.after or "0/0").partition("/")
    rows = sql.execute(_EPOCHS, (int(stream), int(epoch)))
    for at, kind, owner, name, number, last, have, lost in rows:
        marks = EpochMarks(
            number,
            tuple((first, end) for first, end in json.loads(have)),
            last,
            tuple((first, end, reason) for first, end, reason in json.loads(lost)),
        )
        known = settled.read(sql, at, number)
        waiting = sql.execute("SELECT seq FROM spool WHERE stream = ? AND epoch = ? ORDER BY seq", (at, number))
        spooled = Ranges((seq, seq) for (seq,) in waiting)
        numbers = None
        if asked.since is not None or asked.until is not None:
            since, until = _minute(asked.since), _minute(asked.until)
            numbers = list(heard.between(sql, at, number, top=marks.top, since=since, until=until))
        yield (
            f"{at}/{number}",
            AuditedEpoch(
                kind=kind,
                owner=owner,
                stream=name,
                epoch=number,
                top=marks.top,
                have=list(marks.have),
                lost=list(marks.lost),
                written=list(known.written),
                spooled=list(spooled),
                dead=list(known.dead),
                numbers=numbers,
            ),
        )


def _size(epoch: AuditedEpoch) -> int:
    ranges = (epoch.have, epoch.lost, epoch.written, epoch.spooled, epoch.dead, epoch.numbers or ())
    return 2 + sum(len(one) for one in ranges)


def _minute(micros: int | None) -> int | None:
    return None if micros is None else micros // MINUTE_US
