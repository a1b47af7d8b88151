"""What is missing is asked for: not what is announced, not at once, not twice at a time, not for ever at one pace."""

from types import SimpleNamespace

import pytest

from services.recorder.spool.marks import EpochMarks
from services.runtime.gaps import (
    FIRST_WAIT_S,
    GRACE_S,
    LAPSE_S,
    LONGEST_WAIT_S,
    MOST_NUMBERS,
    MOST_RANGES,
    PATIENCE,
    SILENT_GRACE_S,
    Gaps,
    StreamKey,
)

FAST = StreamKey("frame", "plc", "fast")


def heard(have, announced=(), *, gaps=None, lost=(), stream=FAST):
    gaps = gaps or Gaps()
    gaps.note({stream: {7: EpochMarks(7, tuple(have), None, tuple(lost))}}, {stream: announced})
    return gaps


def asked(gaps, now_s):
    """The ranges that are asked for."""
    return [one for wanted in gaps.due(now_s, most=9) for one in wanted.ranges]


def test_a_gap_is_asked_for_once_it_is_old_enough():
    gaps = heard([(1, 4), (8, 9)])

    assert asked(gaps, 100.0) == []
    assert asked(gaps, 100.0 + GRACE_S / 2) == []
    assert asked(gaps, 100.0 + GRACE_S) == [(5, 7)]
    assert asked(gaps, 999.0) == [], "one request at a time"


def test_a_gap_that_closes_by_itself_is_not_asked_for():
    gaps = heard([(1, 4), (8, 9)])
    asked(gaps, 100.0)
    heard([(1, 9)], gaps=gaps)

    assert asked(gaps, 200.0) == []
    assert gaps.count == 0


def test_what_is_announced_is_not_asked_for_until_a_live_message_says_no_more_of_it():
    gaps = heard([(1, 4), (50, 60)], [(6, 1, 90), (7, 5, 30)])
    assert gaps.count == 45
    asked(gaps, 100.0)
    assert asked(gaps, 100.0 + GRACE_S) == [(31, 49)]
    gaps.settle(gaps_wanted(31, 49), 101.0)

    heard([(1, 20), (31, 60)], [(7, 21, 30)], gaps=gaps)
    asked(gaps, 200.0)
    assert asked(gaps, 200.0 + LAPSE_S / 2) == []
    heard([(1, 20), (31, 70)], gaps=gaps)
    asked(gaps, 400.0)
    assert asked(gaps, 500.0) == [(21, 30)]


def gaps_wanted(first, last):
    gaps = heard([(1, first - 1), (last + 1, last + 1)])
    gaps.due(0.0, most=1)
    (wanted,) = gaps.due(GRACE_S, most=1)
    return wanted


def test_a_stream_that_has_said_nothing_yet_may_still_announce_what_it_owes():
    gaps = Gaps()
    gaps.note({FAST: {7: EpochMarks(7, ((5, 9),))}})
    asked(gaps, 0.0)

    assert asked(gaps, GRACE_S) == []
    assert asked(gaps, SILENT_GRACE_S) == [(1, 4)]


def test_without_progress_requests_become_rare_and_with_it_frequent_again():
    gaps = heard([(11, 99)])
    gaps.due(0.0, most=1)
    now_s, waits = GRACE_S, []
    for _ in range(8):
        (wanted,) = gaps.due(now_s, most=1)
        gaps.settle(wanted, now_s)
        before = now_s
        while not (again := gaps.due(now_s, most=1)):
            now_s += 0.5
        waits.append(now_s - before)
        gaps.settle(again[0], before)
        now_s = before + 2 * LONGEST_WAIT_S

    assert waits[0] == FIRST_WAIT_S or waits[0] == 2 * FIRST_WAIT_S
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_S
    heard([(6, 99)], gaps=gaps)
    (wanted,) = gaps.due(now_s, most=1)
    gaps.settle(wanted, now_s)
    assert gaps.due(now_s + FIRST_WAIT_S, most=1)


def test_a_request_is_bounded():
    gaps = heard([(10 * MOST_NUMBERS, 10 * MOST_NUMBERS)])
    asked(gaps, 0.0)
    assert asked(gaps, GRACE_S) == [(1, MOST_NUMBERS)]

    gaps = heard([(MOST_NUMBERS - 4, MOST_NUMBERS - 4), (MOST_NUMBERS + 20, MOST_NUMBERS + 20)])
    asked(gaps, 0.0)
    assert asked(gaps, GRACE_S) == [(1, MOST_NUMBERS - 5), (MOST_NUMBERS - 3, MOST_NUMBERS + 1)]

    gaps = heard([(2 * seq, 2 * seq) for seq in range(1, 3 * MOST_RANGES)])
    asked(gaps, 0.0)
    assert asked(gaps, GRACE_S) == [(2 * seq - 1, 2 * seq - 1) for seq in range(1, MOST_RANGES + 1)]


def test_what_is_booked_as_lost_is_not_missing():
    gaps = heard([(1, 4), (8, 9)], lost=[(5, 7, "cap_bytes")])

    assert gaps.count == 0


@pytest.mark.parametrize("denied", [PATIENCE - 1, PATIENCE])
def test_an_owner_that_does_not_know_the_epoch_is_believed_after_a_while(denied):
    gaps = heard([(5, 9)])
    gaps.due(0.0, most=1)
    now_s, believed = GRACE_S, []
    for _ in range(denied):
        (wanted,) = gaps.due(now_s, most=1)
        believed.append(gaps.settle(wanted, now_s, denied=True))
        now_s += LONGEST_WAIT_S

    assert believed == [False] * (PATIENCE - 1) + [True] * (denied - PATIENCE + 1)


def test_what_was_announced_is_asked_for_when_its_stream_has_said_nothing_for_long():
    gaps = heard([(1, 4), (8, 9)], [(7, 5, 7)])
    assert asked(gaps, 100.0) == []
    heard([(1, 4), (8, 10)], [(7, 5, 7)], gaps=gaps)
    assert asked(gaps, 100.0 + LAPSE_S / 2) == []
    assert asked(gaps, 100.0 + LAPSE_S) == []
    assert asked(gaps, 100.0 + 2 * LAPSE_S) == []

    assert asked(gaps, 100.0 + 2 * LAPSE_S + GRACE_S) == [(5, 7)]


def test_owners_that_never_answer_do_not_hold_up_the_others():
    gaps = Gaps()
    gone = [StreamKey("frame", f"gone{number}", "fast") for number in range(5)]
    gaps.note({stream: {7: EpochMarks(7, ((5, 9),))} for stream in gone}, dict.fromkeys(gone, ()))
    now_s = 0.0
    for _ in range(20):
        for wanted in gaps.due(now_s, most=5):
            gaps.settle(wanted, now_s)
        now_s += LONGEST_WAIT_S
    heard([(5, 9)], gaps=gaps)
    gaps.due(now_s - 2 * GRACE_S, most=0)

    assert [wanted.stream for wanted in gaps.due(now_s, most=1)] == [FAST]


def test_gaps_are_counted_while_others_are_found():
    """As by the thread that answers /metrics."""

    class Holes(tuple):  # noqa: SLOT001 - of a test
        def __iter__(self):
            for number in range(9):
                heard([(1, 1), (3, 3)], gaps=gaps, stream=StreamKey("frame", "other", str(number)))
            return super().__iter__()

    gaps = Gaps()
    gaps.note({FAST: {7: SimpleNamespace(holes=Holes([(5, 7)])), 8: SimpleNamespace(holes=((1, 1),))}})

    assert gaps.count == 4, "what came meanwhile may be counted the next time"
    assert gaps.count == 13
