from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.device import Circuit
from services.runtime.breaker import Breaker
from services.runtime.retry import Backoff


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(threshold=5, backoff=Backoff(first_s=1, most_s=8, jitter=0, random=Random(1)))


def fail(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.on_failure(now)


def test_the_circuit_opens_at_the_fifth_failure_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 4)
    assert breaker.state is Circuit.CLOSED
    assert breaker.may_try(0.0)

    fail(breaker, 1)

    assert breaker.state is Circuit.OPEN
    assert not breaker.may_try(0.9)


def test_a_success_in_between_starts_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, 4)
    breaker.on_success()
    fail(breaker, 4)

    assert breaker.state is Circuit.CLOSED


def test_an_open_circuit_lets_one_probe_through_per_wait(breaker: Breaker) -> None:
    fail(breaker, 5)

    assert [breaker.may_try(now) for now in (0.5, 1.0, 1.0, 1.5)] == [False, True, False, False]
    assert breaker.state is Circuit.HALF_OPEN


def test_a_failed_probe_opens_the_circuit_for_a_longer_wait(breaker: Breaker) -> None:
    fail(breaker, 5)
    probes = []
    for tenth in range(400):
        now = tenth / 10
        if breaker.may_try(now):
            probes.append(now)
            breaker.on_failure(now)
            assert breaker.state is Circuit.OPEN

    assert probes == [1, 3, 7, 15, 23, 31, 39]


def test_a_probe_that_works_closes_the_circuit_and_forgets(breaker: Breaker) -> None:
    fail(breaker, 5)
    assert breaker.may_try(1.0)

    breaker.on_success()

    assert breaker.state is Circuit.CLOSED
    fail(breaker, 5, now=10.0)
    assert breaker.retry_at == 11.0


def test_a_probe_that_tells_nothing_does_not_hold_the_circuit_for_ever(breaker: Breaker) -> None:
    fail(breaker, 5)
    assert breaker.may_try(1.0)

    assert not breaker.may_try(2.9)
    assert breaker.may_try(3.0)


def test_late_failures_of_an_open_circuit_do_not_lengthen_its_wait(breaker: Breaker) -> None:
    fail(breaker, 5)
    fail(breaker, 10, now=0.5)

    assert breaker.may_try(1.0)


def test_an_open_circuit_goes_by_what_the_last_probe_met() -> None:
    breaker = Breaker(threshold=1, backoff=Backoff(first_s=1, most_s=60, silent_s=2, jitter=0, random=Random(1)))
    breaker.on_failure(0.0, silent=True)
    waits = []
    for silent in (True, True, True, False, False, True, True):
        now = breaker.retry_at
        assert breaker.may_try(now)
        breaker.on_failure(now, silent=silent)
        waits.append(breaker.retry_at - now)

    assert waits == [2, 2, 2, 2, 4, 2, 2]


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 3))))
def test_it_is_tried_at_least_once_per_longest_wait_whatever_happens(steps: list[tuple[bool, float]]) -> None:
    breaker = Breaker(threshold=2, backoff=Backoff(first_s=1, most_s=4, random=Random(1)))
    now = tried = 0.0
    for works, wait in steps:
        now += wait
        if breaker.may_try(now):
            tried = now
            if works:
                breaker.on_success()
            else:
                breaker.on_failure(now)
        assert now - tried <= 4 + 3
