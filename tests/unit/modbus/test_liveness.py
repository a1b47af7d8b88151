"""Which units are away, and when a line is taken for dead."""

import pytest

from plugins.drivers.modbus.liveness import MOST_UNANSWERED, Liveness


def miss(liveness: Liveness, unit: int, times: int, *, sent_at: float = 10.0) -> None:
    for _ in range(times):
        liveness.expired(unit, sent_at=sent_at, now=sent_at + 1)


def test_a_line_on_which_nothing_comes_is_dead_after_twelve_requests() -> None:
    liveness = Liveness()
    miss(liveness, 1, MOST_UNANSWERED - 1)
    assert not liveness.dead

    miss(liveness, 2, 1)

    assert liveness.dead


def test_whatever_comes_shows_that_a_line_is_not_dead() -> None:
    liveness = Liveness()
    miss(liveness, 1, MOST_UNANSWERED)

    liveness.heard(12.0)

    assert not liveness.dead


def test_a_unit_that_is_rarely_asked_and_answers_keeps_the_line_whatever_another_does() -> None:
    liveness = Liveness()
    liveness.heard(1.0)
    liveness.answered(3)
    miss(liveness, 1, 10 * MOST_UNANSWERED)
    assert not liveness.dead

    miss(liveness, 3, 1)

    assert liveness.dead


@pytest.mark.parametrize(("heard_at", "dead"), [(9.0, True), (10.5, False)])
def test_requests_that_a_device_leaves_out_while_it_answers_others_are_no_sign_of_death(
    heard_at: float, dead: bool
) -> None:
    liveness = Liveness()
    liveness.heard(heard_at)
    liveness.answered(1)

    miss(liveness, 1, MOST_UNANSWERED, sent_at=10.0)

    assert liveness.dead is dead


def test_a_unit_is_away_from_its_first_missed_request_until_it_answers() -> None:
    liveness = Liveness()
    assert not liveness.away(1)
    assert not liveness.expired(1, sent_at=1.0, now=2.0), "it was not known when this was sent"
    assert not liveness.expired(1, sent_at=1.5, now=2.5)
    assert liveness.away(1)
    assert liveness.expired(1, sent_at=2.0, now=3.0)

    liveness.answered(1)

    assert not liveness.away(1)


def test_a_unit_that_a_gateway_does_not_reach_is_away() -> None:
    liveness = Liveness()
    liveness.answered(1)

    liveness.missed(1, now=1.0)

    assert liveness.away(1)


def test_how_long_answers_take_is_that_of_the_slowest_lately() -> None:
    liveness = Liveness()
    assert liveness.usual_s(1) is None

    for seconds in (0.1, 0.4, *(0.1 for _ in range(10))):
        liveness.took(1, seconds)
    assert 0.2 < (liveness.usual_s(1) or 0.0) < 0.4

    for _ in range(100):
        liveness.took(1, 0.1)
    assert liveness.usual_s(1) == 0.1


def test_a_unit_that_has_never_answered_is_taken_to_be_as_slow_as_the_slowest_other() -> None:
    liveness = Liveness()
    liveness.took(1, 0.1)
    liveness.took(2, 0.3)

    assert (liveness.usual_s(1), liveness.usual_s(3)) == (0.1, 0.3)


def test_a_unit_that_has_missed_a_request_is_doubted_for_a_minute_though_it_answers() -> None:
    liveness = Liveness()
    assert not liveness.doubted(1, 10.0)

    liveness.missed(1, now=10.0)
    liveness.answered(1)

    assert not liveness.away(1)
    assert liveness.doubted(1, 69.9)
    assert not liveness.doubted(1, 70.1)
