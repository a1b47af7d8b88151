from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.retry import Backoff


@given(st.integers(), st.floats(0, 1))
def test_a_wait_is_at_most_a_jitter_shorter_than_its_bound(seed: int, jitter: float) -> None:
    backoff = Backoff(first_s=1, most_s=60, factor=2, jitter=jitter, random=Random(seed))

    for bound in [1, 2, 4, 8, 16, 32, 60, 60]:
        assert bound * (1 - jitter) <= backoff.next() <= bound


def test_it_never_gives_up_and_never_overflows() -> None:
    backoff = Backoff(first_s=1, most_s=60, random=Random(1))

    waits = [backoff.next() for _ in range(10_000)]

    assert all(48 <= wait <= 60 for wait in waits[10:])
    assert any(one != other for one, other in pairwise(waits[10:]))


def test_after_a_success_the_first_wait_comes_again() -> None:
    backoff = Backoff(first_s=1, most_s=60, jitter=0, random=Random(1))
    for _ in range(5):
        backoff.next()

    backoff.reset()

    assert backoff.next() == 1


def test_waits_for_what_does_not_answer_stay_short_and_those_after_a_refusal_grow_on() -> None:
    backoff = Backoff(first_s=1, most_s=60, silent_s=1.5, jitter=0, random=Random(1))

    assert [backoff.next(silent=True) for _ in range(100)] == [1] + 99 * [1.5]
    assert [backoff.next() for _ in range(4)] == [1.5, 3, 6, 12]
    assert [backoff.next(silent=True), backoff.next()] == [1.5, 24]
