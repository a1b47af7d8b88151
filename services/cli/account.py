"""Where every message of a stream is: what its owner says, and what the recorder says, put together. Pure.

The owner is asked first. What the recorder has heard of beyond that is *under way*: its owner would explain it if it
were asked again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.v1.audit import AuditedEpoch, JournalEpoch, StreamEpoch
from services.runtime.ranges import Ranges

StreamName = tuple[str, str, str]
"""Kind, owner and name."""


@dataclass(slots=True)
class Terms:
    """How many messages of a stream are where; each is in exactly one of the terms.

    produced = written + spooled + dead + unsettled + journal + lost + under_way + missing. unsettled: stored, and
    neither in the history, nor in the spool, nor set aside, or in two of them. unheard: left out, since a stretch of
    time was asked for and the recorder has not heard of them. silent: the owner did not answer, so that what it holds
    counts as missing. places: where what is missing or unsettled is, as epoch, from, to.
    """

    produced: int = 0
    written: int = 0
    spooled: int = 0
    dead: int = 0
    unsettled: int = 0
    journal: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    missing: int = 0
    unheard: int = 0
    silent: bool = False
    places: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """What the recorder has on its disk."""
        return self.written + self.spooled + self.dead + self.unsettled

    @property
    def proved(self) -> bool:
        """Every message is somewhere, and the owner has said what it has produced."""
        return not (self.missing or self.unsettled or self.under_way or self.silent)

    def add(self, other: "Terms") -> None:
        """The terms of both."""
        self.produced += other.produced
        self.written += other.written
        self.spooled += other.spooled
        self.dead += other.dead
        self.unsettled += other.unsettled
        self.journal += other.journal
        self.under_way += other.under_way
        self.missing += other.missing
        self.unheard += other.unheard
        self.lost.update(other.lost)
        self.silent = self.silent or other.silent
        self.places += other.places


def accounts(
    owned: Iterable[JournalEpoch], audited: Iterable[AuditedEpoch], *, silent: Mapping[StreamName, bool], to_now: bool
) -> dict[StreamName, Terms]:
    """The terms of every stream. silent: whether nobody has answered for the stream; one that is not named is not.

    to_now: what the recorder has not heard of belongs to the time that was asked for.
    """
    journals = {(_name(one), one.epoch): one for one in owned}
    records: dict[tuple[StreamName, int], AuditedEpoch] = {}
    for one in audited:
        key = _name(one), one.epoch
        records[key] = _joined(records[key], one) if key in records else one
    streams: dict[StreamName, Terms] = {}
    for name, epoch in sorted({*journals, *records}):
        journal, record = journals.get((name, epoch)), records.get((name, epoch))
        terms = epoch_terms(journal, record, to_now=to_now)
        terms.silent = journal is None and silent.get(name, False)
        streams.setdefault(name, Terms()).add(terms)
    return streams


def epoch_terms(journal: JournalEpoch | None, record: AuditedEpoch | None, *, to_now: bool = True) -> Terms:
    """Of one epoch, as its owner and the recorder know it."""
    given, top = journal.given if journal else 0, record.top if record else 0
    made = Ranges([(1, max(given, top))])
    unheard = 0
    if record is not None and record.numbers is not None:
        made = Ranges(record.numbers)
    if given > top and to_now:
        made.add(top + 1, given)
    elif given > top:
        made.remove(top + 1, given)
        unheard = given - top
    have = _ranges(record.have if record else ()).common(made)
    held = _ranges(journal.held if journal else ()).common(made).minus(have)
    left = made.minus(have).minus(held)
    lost: Counter[str] = Counter()
    for first, last, reason in [*(record.lost if record else ()), *(journal.lost if journal else ())]:
        for begin, end in list(left.within(first, last)):
            lost[reason] += end - begin + 1
            left.remove(begin, end)
    under_way = left.minus(Ranges([(1, given)])) if journal is not None else Ranges()
    missing = left.minus(under_way)
    terms = Terms(
        produced=made.count(),
        journal=held.count(),
        lost=lost,
        under_way=under_way.count(),
        missing=missing.count(),
        unheard=unheard,
    )
    if record is not None:
        missing.update(_settle(terms, record, have))
    epoch = record.epoch if record else journal.epoch if journal else 0
    terms.places = [(epoch, first, last) for first, last in missing]
    return terms


def _settle(terms: Terms, record: AuditedEpoch, have: Ranges) -> Ranges:
    """Says of what is stored where it is; gives what is nowhere, or in several places."""
    written, spooled, dead = (_ranges(one).common(have) for one in (record.written, record.spooled, record.dead))
    several = Ranges([*written.common(spooled), *written.common(dead), *spooled.common(dead)])
    nowhere = have.minus(written).minus(spooled).minus(dead)
    terms.written = written.minus(several).count()
    terms.spooled = spooled.minus(several).count()
    terms.dead = dead.minus(several).count()
    terms.unsettled = nowhere.count() + several.count()
    nowhere.update(several)
    return nowhere


def _joined(one: AuditedEpoch, more: AuditedEpoch) -> AuditedEpoch:
    """An epoch whose parts have come one after the other, each of its own numbers."""
    numbers = None if one.numbers is None else [*one.numbers, *(more.numbers or ())]
    return one.model_copy(
        update={
            "top": max(one.top, more.top),
            "have": [*one.have, *more.have],
            "lost": [*one.lost, *more.lost],
            "written": [*one.written, *more.written],
            "spooled": [*one.spooled, *more.spooled],
            "dead": [*one.dead, *more.dead],
            "numbers": numbers,
        }
    )


def _name(one: StreamEpoch) -> StreamName:
    return one.kind, one.owner, one.stream


def _ranges(pairs: Sequence[tuple[int, int]]) -> Ranges:
    return Ranges(pairs)
