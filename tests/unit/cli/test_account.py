"""Where every message is: any interleaving of deliveries, duplicates, losses and restarts keeps the equation."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contracts.v1.audit import AuditedEpoch, JournalEpoch
from contracts.v1.frame_codec import HeaderStruct, PreviousStruct
from services.cli.account import accounts, epoch_terms
from services.recorder.spool.marks import EpochMarks, arrive
from services.runtime.ranges import Ranges

NAME = {"kind": "frame", "owner": "plc", "stream": "fast"}
SEQ = st.integers(1, 12)


def journal(given, held=(), lost=(), epoch=1):
    return JournalEpoch(**NAME, epoch=epoch, given=given, held=list(held), lost=list(lost))


def record(top, have=(), lost=(), written=None, spooled=(), dead=(), numbers=None, epoch=1):
    return AuditedEpoch(
        **NAME,
        epoch=epoch,
        top=top,
        have=list(have),
        lost=list(lost),
        written=list(have if written is None else written),
        spooled=list(spooled),
        dead=list(dead),
        numbers=numbers,
    )


def test_a_message_that_is_nowhere_is_missing_and_one_that_the_owner_has_made_since_is_under_way():
    terms = epoch_terms(journal(5, held=[(4, 5)]), record(9, have=[(1, 2), (9, 9)]))

    assert (terms.produced, terms.stored, terms.journal, terms.missing, terms.under_way) == (9, 3, 2, 1, 3)
    assert not terms.proved


def test_what_is_stored_counts_as_stored_whatever_else_is_said_of_it():
    terms = epoch_terms(journal(4, held=[(1, 4)], lost=[(1, 1, "damaged")]), record(4, [(1, 3)], [(4, 4, "cap_age")]))

    assert (terms.stored, terms.journal, terms.lost, terms.missing) == (3, 1, Counter(), 0)
    assert terms.proved


def test_what_is_stored_and_in_no_place_of_the_recorder_or_in_two_breaks_the_inner_equation():
    nowhere = epoch_terms(journal(3), record(3, [(1, 3)], written=[(1, 1)], spooled=[(2, 2)]))
    twice = epoch_terms(journal(3), record(3, [(1, 3)], written=[(1, 3)], spooled=[(2, 2)]))
    right = epoch_terms(journal(3), record(3, [(1, 3)], written=[(1, 1)], spooled=[(2, 2)], dead=[(3, 3)]))

    assert [one.unsettled for one in (nowhere, twice, right)] == [1, 1, 0]
    assert [one.proved for one in (nowhere, twice, right)] == [False, False, True]
    assert (right.written, right.spooled, right.dead) == (1, 1, 1)


def test_an_owner_that_has_not_answered_leaves_nothing_proved():
    (terms,) = accounts([], [record(3, [(1, 3)])], silent={("frame", "plc", "fast"): True}, to_now=True).values()

    assert terms.stored == terms.produced == 3
    assert not terms.proved


def test_of_a_stretch_of_time_only_its_numbers_count_and_what_is_unheard_only_up_to_now():
    one = record(10, [(1, 8)], numbers=[(5, 10)])
    until_then = epoch_terms(journal(12, held=[(9, 12)]), one, to_now=False)
    until_now = epoch_terms(journal(12, held=[(9, 12)]), one)

    assert (until_then.produced, until_then.stored, until_then.journal, until_then.unheard) == (6, 4, 2, 2)
    assert (until_now.produced, until_now.stored, until_now.journal, until_now.unheard) == (8, 4, 4, 0)


class Plant(RuleBasedStateMachine):
    """One stream: its owner numbers, journals and loses; the recorder takes, books, spools, writes and sets aside."""

    def __init__(self):
        super().__init__()
        self.epoch, self.previous = 1, None
        self.given, self.held, self.gone = {1: 0}, {1: Ranges()}, {1: []}
        self.marks, self.spooled, self.written, self.dead = {}, {}, {}, {}

    @rule()
    def produce(self):
        self.given[self.epoch] += 1
        self.held[self.epoch].add(self.given[self.epoch], self.given[self.epoch])

    @rule()
    def begin_anew(self):
        self.previous = PreviousStruct(self.epoch, self.given[self.epoch])
        self.epoch += 1
        self.given[self.epoch], self.held[self.epoch], self.gone[self.epoch] = 0, Ranges(), []

    @rule(back=st.integers(0, 2), seq=SEQ)
    def deliver(self, back, seq):
        """Live, late or once more."""
        epoch = max(1, self.epoch - back)
        if not self.held[epoch].covers(seq, seq):
            return
        first = seq == 1 and epoch == self.epoch
        arrival = arrive(self.marks, HeaderStruct(epoch=epoch, seq=seq, prev=self.previous if first else None))
        self.marks.update({one.epoch: one for one in arrival.changed})
        if not arrival.duplicate:
            self.spooled.setdefault(epoch, Ranges()).add(seq, seq)

    @rule(aside=st.booleans())
    def settle(self, aside):
        for epoch, ranges in self.spooled.items():
            (self.dead if aside else self.written).setdefault(epoch, Ranges()).update(ranges)
        self.spooled = {}

    @rule(back=st.integers(0, 2), seq=SEQ)
    def lose_in_the_journal(self, back, seq):
        epoch = max(1, self.epoch - back)
        if self.held[epoch].covers(seq, seq):
            self.held[epoch].remove(seq, seq)
            self.gone[epoch].append((seq, seq, "cap_bytes"))

    @rule()
    def book_and_trim(self):
        for epoch, marks in self.marks.items():
            lost = [one for one in self.gone[epoch] if any(a <= one[0] <= b for a, b in marks.holes)]
            self.marks[epoch] = marks.with_lost(lost)
            for first, last in marks.have:
                self.held[epoch].remove(first, last)

    def asked(self):
        owned = [
            journal(given, self.held[epoch], self.gone[epoch], epoch) for epoch, given in self.given.items() if given
        ]
        audited = [
            record(
                marks.top,
                marks.have,
                marks.lost,
                self.written.get(epoch, ()),
                self.spooled.get(epoch, ()),
                self.dead.get(epoch, ()),
                epoch=epoch,
            )
            for epoch, marks in self.marks.items()
        ]
        return owned, audited

    @invariant()
    def every_message_is_in_exactly_one_place(self):
        for terms in accounts(*self.asked(), silent={}, to_now=True).values():
            assert terms.proved
            assert terms.under_way == 0
            assert terms.produced == sum(self.given.values())
            assert terms.produced == terms.stored + terms.journal + terms.lost.total()

    @invariant()
    def one_that_is_taken_away_is_missed(self):
        owned, audited = self.asked()
        for at, one in enumerate(audited):
            if one.have:
                seq = one.have[0][0]
                less = Ranges(one.have)
                less.remove(seq, seq)
                marks = EpochMarks(one.epoch, tuple(less))
                robbed = [*audited[:at], record(one.top, marks.have, one.lost, epoch=one.epoch), *audited[at + 1 :]]
                held = Ranges(next((had.held for had in owned if had.epoch == one.epoch), ()))
                gone = any(first == seq for first, *_ in self.gone[one.epoch])
                (terms,) = accounts(owned, robbed, silent={}, to_now=True).values()
                assert terms.missing == (0 if gone or held.covers(seq, seq) else 1)


Plant.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_the_equation = Plant.TestCase
