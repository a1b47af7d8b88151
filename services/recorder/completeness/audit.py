"""What a recorder has of every stream, as it stands in its database: one half of an audit."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from contracts.v1.audit import AuditedEpoch, AuditedStreams, AuditStreams
from services.recorder.completeness import heard, settled
from services.recorder.completeness.settled import Settled
from services.recorder.embedded.axis import MINUTE_US
from services.recorder.spool import deadletters
from services.recorder.spool.admission import CONTRACT, outlined
from services.recorder.spool.marks import EpochMarks, Lost, marks_in_file
from services.runtime.gaps import Range, StreamKey
from services.runtime.ranges import Ranges
from services.runtime.sqlite_file import one_moment

MOST = 10_000
"""Ranges in one part of an epoch, about, and in one answer before its last part; each part counts as two more."""
THROWN_AWAY = "thrown_away"
"""The reason of what was set aside and is no dead letter any more."""

_EPOCHS = """
SELECT stream.id, kind, owner, name, epoch, last, have, lost FROM mark JOIN stream ON stream.id = mark.stream
WHERE (mark.stream, epoch) >= (?, ?) ORDER BY mark.stream, epoch
"""
_END = 1 << 62
"""Beyond every sequence number."""

_Letters = dict[tuple[StreamKey, int], Ranges]
"""Sequence numbers of dead letters, by stream and epoch."""


class Audit:
    """Reads a recorder's database, from any thread, while the recorder writes it. store: see database.Database."""

    def __init__(self, path: Path, *, site: str, store: str) -> None:
        self._path = path
        self._site = site
        self._store = store

    def look(self, asked: AuditStreams) -> AuditedStreams:
        """A page of epochs, all of one moment. Raises sqlite3.Error."""
        epochs: list[AuditedEpoch] = []
        room, following = MOST, None
        with one_moment(self._path) as sql:
            for place, part in self._parts(sql, asked):
                epochs.append(part.told())
                room -= part.terms.size
                if room <= 0:
                    following = place
                    break
            letters, thrown = deadletters.counts(sql), deadletters.thrown(sql)
        return AuditedStreams(store=self._store, epochs=epochs, next=following, letters=letters, thrown=thrown)

    def _parts(self, sql: sqlite3.Connection, asked: AuditStreams) -> Iterator[tuple[str, "_Part"]]:
        """The epochs behind `after`, in parts, each with its place."""
        stream, epoch, number = _place(asked.after)
        kept: _Letters | None = None
        for at, kind, owner, name, *marked in sql.execute(_EPOCHS, (stream, epoch)):
            marks = marks_in_file(*marked)
            begin = number if (at, marks.epoch) == (stream, epoch) else 0
            if begin == _END:
                continue
            known = settled.read(sql, at, marks.epoch)
            key = StreamKey(kind, owner, name)
            if known.dead and kept is None:
                kept = self._letters(sql)
            letters = (kept or {}).get((key, marks.epoch), Ranges())
            terms = _terms(sql, asked, at, marks, known, letters)
            for first, last in pairwise([begin, *terms.cuts(begin), _END]):
                place = f"{at}/{marks.epoch}" if last == _END else f"{at}/{marks.epoch}/{last}"
                yield place, _Part(key, marks, terms.within(first + 1, last))

    def _letters(self, sql: sqlite3.Connection) -> _Letters:
        """Of messages that were set aside as a whole, those that are there still."""
        found: _Letters = {}
        for letter in deadletters.of_reason(sql, CONTRACT):
            outline = outlined(letter, self._site)
            if outline is not None:
                stream, epoch, seq = outline
                found.setdefault((stream, epoch), Ranges()).add(seq, seq)
        return found


@dataclass(frozen=True, slots=True)
class _Terms:
    """An epoch's terms, see AuditedEpoch."""

    have: list[Range]
    lost: list[Lost]
    written: list[Range]
    spooled: list[Range]
    dead: list[Range]
    numbers: list[Range] | None

    def cuts(self, begin: int) -> list[int]:
        """Where an epoch of many ranges is cut: behind these numbers, all of them above `begin`."""
        lost = [(first, last) for first, last, _ in self.lost]
        ranges = (self.have, lost, self.written, self.spooled, self.dead, self.numbers or ())
        ends = sorted(last for some in ranges for _, last in some if last > begin)
        return sorted(set(ends[MOST::MOST]))

    def within(self, first: int, last: int) -> "_Terms":
        """What they say of first..last."""

        def part(ranges: list[Range]) -> list[Range]:
            """Of one term."""
            return [(max(a, first), min(b, last)) for a, b in ranges if a <= last and b >= first]

        return _Terms(
            have=part(self.have),
            lost=[(max(a, first), min(b, last), why) for a, b, why in self.lost if a <= last and b >= first],
            written=part(self.written),
            spooled=part(self.spooled),
            dead=part(self.dead),
            numbers=None if self.numbers is None else part(self.numbers),
        )

    @property
    def size(self) -> int:
        """How many ranges, and a little for their epoch."""
        terms = (self.have, self.lost, self.written, self.spooled, self.dead, self.numbers or ())
        return 2 + sum(map(len, terms))


class _Part(NamedTuple):
    """Some numbers of an epoch."""

    stream: StreamKey
    marks: EpochMarks
    terms: _Terms

    def told(self) -> AuditedEpoch:
        """As it is answered."""
        kind, owner, stream = self.stream
        named: dict[str, Any] = {"kind": kind, "owner": owner, "stream": stream, "epoch": self.marks.epoch}
        return AuditedEpoch(
            top=self.marks.top, **named, **{one.name: getattr(self.terms, one.name) for one in fields(self.terms)}
        )


def _terms(
    sql: sqlite3.Connection, asked: AuditStreams, stream: int, marks: EpochMarks, known: Settled, letters: Ranges
) -> _Terms:
    """Of an epoch. stream: its row. letters: the numbers of which there are dead letters.

    What is in the spool is there, though it was settled before: it is tried again, or a value of it is.
    """
    waiting = sql.execute("SELECT seq FROM spool WHERE stream = ? AND epoch = ? ORDER BY seq", (stream, marks.epoch))
    spooled = Ranges((seq, seq) for (seq,) in waiting)
    dead = known.dead.minus(spooled)
    thrown = dead.minus(letters)
    numbers = None
    if asked.since is not None or asked.until is not None:
        since, until = _minute(asked.since), _minute(asked.until)
        numbers = list(heard.between(sql, stream, marks.epoch, top=marks.top, since=since, until=until))
    return _Terms(
        have=list(Ranges(marks.have).minus(thrown)) if thrown else list(marks.have),
        lost=sorted([*marks.lost, *((first, last, THROWN_AWAY) for first, last in thrown)]),
        written=list(known.written.minus(spooled)),
        spooled=list(spooled),
        dead=list(dead.minus(thrown)),
        numbers=numbers,
    )


def _place(after: str | None) -> tuple[int, int, int]:
    """Stream, epoch, and the number behind which it goes on; _END: behind the whole epoch."""
    if after is None:
        return 0, 0, 0
    stream, epoch, *number = map(int, after.split("/"))
    return stream, epoch, number[0] if number else _END


def _minute(micros: int | None) -> int | None:
    return None if micros is None else micros // MINUTE_US
