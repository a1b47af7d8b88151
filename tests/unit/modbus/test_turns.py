"""Whose turn it is on a half-duplex line, held against every order in which units may ask, answer and be away."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.drivers.modbus.turns import AHEAD_AFTER_S, LONGEST_HOLD_S, SHARE, SHORTEST_HOLD_S, Turns, hold_s

AWAY = frozenset({3, 4})
ANSWER_S = 0.02


@dataclass(eq=False)
class Asked:
    unit: int
    asked_at: float
    over: bool = False


def turns_of(*waiting: Asked, away: frozenset[int] = AWAY) -> Turns[Asked]:
    turns: Turns[Asked] = Turns(away=away.__contains__)
    for request in waiting:
        turns.put(request)
    return turns


def all_taken(turns: Turns[Asked], now: float) -> list[Asked]:
    return list(iter(lambda: turns.take(now, engaged=()), None))


@given(st.lists(st.integers(1, 4)))
def test_units_that_answer_go_first_and_all_in_the_order_of_asking(units: list[int]) -> None:
    asked = [Asked(unit, 0.0) for unit in units]

    taken = all_taken(turns_of(*asked), now=AHEAD_AFTER_S / 2)

    assert taken == sorted(asked, key=lambda request: request.unit in AWAY)


@given(st.lists(st.integers(1, 4)), st.sets(st.integers(1, 4)))
def test_nothing_is_asked_of_a_unit_that_is_engaged_and_everything_of_the_others(
    units: list[int], engaged: set[int]
) -> None:
    turns = turns_of(*(Asked(unit, 0.0) for unit in units))

    taken = list(iter(lambda: turns.take(0.0, engaged=engaged), None))

    assert sorted(request.unit for request in taken) == sorted(unit for unit in units if unit not in engaged)


def test_what_nobody_wants_any_more_is_passed_over() -> None:
    given_up, wanted = Asked(1, 0.0, over=True), Asked(2, 0.0)

    assert all_taken(turns_of(given_up, wanted), now=0.0) == [wanted]


def test_a_request_whose_turn_had_begun_goes_on_before_others() -> None:
    turns = turns_of(Asked(1, 0.0))
    begun = Asked(2, 0.0)
    turns.put_first(begun)

    assert turns.take(0.0, engaged=()) is begun


def test_a_unit_that_is_away_goes_ahead_once_it_has_waited_for_long() -> None:
    away, living = Asked(3, 0.0), Asked(1, 0.0)
    turns = turns_of(living, away)

    assert turns.first(AHEAD_AFTER_S - 0.01, engaged=()) is living
    assert turns.first(AHEAD_AFTER_S, engaged=()) is away


def test_a_hold_that_nobody_waited_for_costs_nothing() -> None:
    turns = turns_of(Asked(3, 1.0))
    turns.charge(0.0, 1.0)

    assert turns.take(1.0, engaged=()) is not None


def test_after_a_hold_that_others_waited_for_units_that_are_away_wait_for_nine_times_as_long() -> None:
    turns = turns_of(Asked(1, 0.5), Asked(3, 0.5))
    turns.charge(0.0, 0.6)  # it has held the line since 0.0; the other asked at 0.5

    assert [request.unit for request in all_taken(turns, now=1.49)] == [1]
    assert turns.again_at == pytest.approx(1.5)
    assert [request.unit for request in all_taken(turns, now=1.51)] == [3]


@given(st.one_of(st.none(), st.floats(0, 60)))
def test_a_hold_is_twice_as_long_as_answers_took_within_bounds(usual_s: float | None) -> None:
    hold = hold_s(usual_s, away=True)

    assert SHORTEST_HOLD_S <= hold <= LONGEST_HOLD_S
    assert usual_s is None or hold in {SHORTEST_HOLD_S, LONGEST_HOLD_S, 2 * usual_s}


@given(st.floats(0, 60))
def test_a_unit_that_answers_again_holds_the_line_for_as_long_as_its_answers_need(usual_s: float) -> None:
    assert hold_s(usual_s, away=False) >= usual_s


@given(st.lists(st.tuples(st.integers(1, 4), st.floats(0, 0.3)), min_size=1, max_size=120))
def test_units_that_are_away_cost_the_others_a_tenth_of_the_time_at_most(asks: list[tuple[int, float]]) -> None:
    """A line is played through: who asks when, who holds it how long, and what others have waited meanwhile."""
    turns = turns_of()
    now = asked_at = cost_s = 0.0
    coming = [Asked(unit, asked_at := asked_at + pause_s) for unit, pause_s in asks]
    living: list[Asked] = []

    def come() -> None:
        while coming and coming[0].asked_at <= now:
            turns.put(coming[0])
            living.extend(one for one in (coming.pop(0),) if one.unit not in AWAY)

    while coming or turns:
        come()
        taken = turns.take(now, engaged=())
        if taken is None:
            now = min([one.asked_at for one in coming[:1]] + ([turns.again_at] if turns else []))
            continue
        begun, now = now, now + (LONGEST_HOLD_S if taken.unit in AWAY else ANSWER_S)
        come()
        if taken in living:
            living.remove(taken)
        else:
            cost_s += now - max(begun, min((one.asked_at for one in living), default=now))
            turns.charge(begun, now)
        assert cost_s <= SHARE * now + LONGEST_HOLD_S + 1e-9
