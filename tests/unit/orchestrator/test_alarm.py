"""An alarm's states against the table of ISA-18.2, and what its times do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.alarm import AlarmStatus
from services.orchestrator.alarms.alarm import (
    AlarmRefused,
    Condition,
    Signal,
    acknowledge,
    report,
    shelve,
    tick,
    unshelve,
)

NORMAL, UNACKED = AlarmStatus.NORMAL, AlarmStatus.ACTIVE_UNACKED
ACKED, CLEARED = AlarmStatus.ACTIVE_ACKED, AlarmStatus.CLEARED_UNACKED
AT = 1000

TABLE = {
    (NORMAL, "raise"): (UNACKED, ("raised",)),
    (NORMAL, "clear"): (NORMAL, ()),
    (NORMAL, "hold"): (NORMAL, ()),
    (NORMAL, "ack"): None,
    (UNACKED, "raise"): (UNACKED, ()),
    (UNACKED, "clear"): (CLEARED, ("cleared",)),
    (UNACKED, "hold"): (UNACKED, ()),
    (UNACKED, "ack"): (ACKED, ("acked",)),
    (ACKED, "raise"): (ACKED, ()),
    (ACKED, "clear"): (NORMAL, ("cleared",)),
    (ACKED, "hold"): (ACKED, ()),
    (ACKED, "ack"): None,
    (CLEARED, "raise"): (UNACKED, ("raised",)),
    (CLEARED, "clear"): (CLEARED, ()),
    (CLEARED, "hold"): (CLEARED, ()),
    (CLEARED, "ack"): (NORMAL, ("acked",)),
}
SIGNALS = {"raise": Signal.RAISE, "clear": Signal.CLEAR, "hold": Signal.HOLD}


def act(now, what, t, delay_ms=0):
    if what in SIGNALS:
        return report(now, SIGNALS[what], t=t, delay_ms=delay_ms)
    return acknowledge(now, t=t, by="otto")


@pytest.mark.parametrize(("begun", "what"), TABLE)
def test_each_state_goes_where_the_standard_says(begun, what):
    expected = TABLE[begun, what]
    before = Condition(status=begun, since=1)

    if expected is None:
        with pytest.raises(AlarmRefused, match=begun.value):
            act(before, what, AT)
        return

    after, happened = act(before, what, AT)
    assert (after.status, happened) == expected
    assert after.since == (AT if after.status is not begun else 1)


@given(st.lists(st.sampled_from(["raise", "clear", "hold", "ack", "shelve", "unshelve"]), max_size=40))
def test_any_sequence_follows_the_table_shelved_or_not(sequence):
    now = Condition(since=0)
    for t, what in enumerate(sequence, 1):
        if what == "shelve":
            now, _ = shelve(now, t=t, by="otto", until=10**6)
        elif what == "unshelve":
            if now.shelved_until is None:
                continue
            now, _ = unshelve(now)
        else:
            expected = TABLE[now.status, what]
            if expected is None:
                continue
            before = now
            now, happened = act(before, what, t)
            assert (now.status, happened) == expected
        assert now.active is (now.status in {UNACKED, ACKED})
        assert (now.acked_by is not None) is (now.acked_at is not None)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.sampled_from(["raise", "clear", "hold"])), max_size=60),
    st.integers(0, 2000),
)
def test_it_is_raised_exactly_when_its_condition_has_held_for_the_delay(steps, delay):
    now, t, held_since, raised = Condition(since=0), 0, None, False
    for wait, what in steps:
        t += wait
        if held_since is not None and t >= held_since + delay:
            raised, held_since = True, None
        now, _ = act(now, what, t, delay)
        if what == "raise" and not raised:
            held_since = t if held_since is None else held_since
            if delay == 0:
                raised, held_since = True, None
        elif what != "raise":
            held_since = None
            raised = raised and what != "clear"
        assert now.active is raised
        assert now.due == (None if held_since is None else held_since + delay)


def test_the_delay_passes_though_nothing_is_evaluated_any_more():
    now, _ = report(Condition(since=0), Signal.RAISE, t=100, delay_ms=500)
    assert (now.status, now.next_ms) == (NORMAL, 600)

    assert tick(now, t=599) == (now, ())
    after, happened = tick(now, t=600)

    assert (after.status, after.since, happened, after.next_ms) == (UNACKED, 600, ("raised",), None)


def test_a_clock_that_is_set_back_makes_an_alarm_at_most_its_delay_late():
    now, _ = report(Condition(since=0), Signal.RAISE, t=3_600_100, delay_ms=500)

    now, _ = report(now, Signal.RAISE, t=200, delay_ms=500)
    assert now.due == 700

    _, happened = report(now, Signal.RAISE, t=700, delay_ms=500)
    assert happened == ("raised",)


def test_who_acknowledged_is_told_until_it_is_raised_anew():
    now, _ = report(Condition(since=0), Signal.RAISE, t=1, delay_ms=0)
    now, _ = acknowledge(now, t=2, by="otto")
    assert (now.acked_by, now.acked_at) == ("otto", 2)
    now, _ = report(now, Signal.CLEAR, t=3, delay_ms=0)
    assert now.acked_by == "otto"

    now, _ = report(now, Signal.RAISE, t=4, delay_ms=0)

    assert (now.acked_by, now.acked_at) == (None, None)


def test_a_shelving_ends_by_itself_and_the_alarm_is_as_it_has_become_meanwhile():
    now, _ = shelve(Condition(since=0), t=10, by="otto", until=100)
    now, happened = report(now, Signal.RAISE, t=50, delay_ms=0)
    assert (now.status, happened, now.shelved_until) == (UNACKED, ("raised",), 100)

    now, happened = tick(now, t=100)

    assert (now.status, happened, now.shelved_until, now.shelved_by) == (UNACKED, ("unshelved",), None, None)


def test_what_is_not_shelved_cannot_be_taken_back_nor_shelved_into_the_past():
    with pytest.raises(AlarmRefused, match="not shelved"):
        unshelve(Condition(since=0))
    with pytest.raises(AlarmRefused, match="gone by"):
        shelve(Condition(since=0), t=10, by="otto", until=10)


@pytest.mark.parametrize(
    ("condition", "rests"),
    [
        (Condition(since=0), True),
        (Condition(since=0, status=CLEARED), False),
        (Condition(since=0, shelved_until=5), False),
        (Condition(since=0, pending=1, due=5), False),
    ],
)
def test_only_what_is_normal_and_awaits_nothing_is_at_rest(condition, rests):
    assert condition.at_rest is rests
