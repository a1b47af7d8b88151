"""Summaries of stretches of a tag's points."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.recorder.summary import Point, Summary

integers = st.one_of(st.integers(-10, 10), st.integers(-(10**400), 10**400))
values = st.one_of(st.none(), st.booleans(), integers, st.text(max_size=2), st.lists(st.integers(), max_size=2))
times = st.lists(st.integers(0, 2**53 - 1), unique=True, max_size=12).map(sorted)


@st.composite
def points(draw: st.DrawFn, of: st.SearchStrategy = values) -> list[Point]:
    return [(t, draw(of), draw(st.sampled_from([192, 64, 0]))) for t in draw(times)]


@settings(max_examples=50)
@given(points(), st.data())
def test_any_split_of_a_sequence_has_the_same_summary(sequence, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sequence)), max_size=5)))
    parts = [Summary.of(sequence[start:end]) for start, end in zip([0, *cuts], [*cuts, len(sequence)], strict=True)]

    whole = Summary.of(sequence)
    from_left = Summary()
    for part in parts:
        from_left = from_left.then(part)
    from_right = Summary()
    for part in reversed(parts):
        from_right = part.then(from_right)

    assert from_left == from_right == whole


@given(points(st.one_of(st.floats(-1e9, 1e9), st.integers(-1000, 1000), st.none())))
def test_a_summary_says_what_counting_by_hand_says(sequence):
    numbers = [(t, value) for t, value, _ in sequence if value is not None]
    held = [(value, later - t) for (t, value, _), (later, _, _) in pairwise(sequence) if value is not None]
    found = Summary.of(sequence)

    assert (found.n, found.usable) == (len(sequence), len(numbers))
    assert (found.min, found.max) == (
        (min(v for _, v in numbers), max(v for _, v in numbers)) if numbers else (None, None)
    )
    assert found.covered_us == sum(us for _, us in held)
    for near, exact in (
        (found.sum, sum((Fraction(v) for _, v in numbers), Fraction())),
        (found.area, sum((Fraction(v) * us for v, us in held), Fraction())),
    ):
        size = sum((abs(Fraction(v)) for v, _ in held), Fraction(1)) * 2**53 + sum(
            (abs(Fraction(v)) for _, v in numbers), Fraction()
        )
        assert abs(Fraction(near) - exact) <= size * Fraction(1, 2**45)


def test_a_value_holds_until_the_next_point_and_a_gap_without_a_value_does_not_count():
    found = Summary.of([(0, 2.0, 192), (10, None, 0), (15, True, 192), (18, "on", 192), (30, 5, 192)])

    assert (found.area, found.covered_us) == (2.0 * 10 + 1 * 3, 13)
    assert (found.n, found.usable, found.min, found.max, found.sum) == (5, 3, 1, 5, 8.0)
    assert (found.first, found.last) == ((0, 2.0, 192), (30, 5, 192))


def test_integers_stay_exact_and_one_beyond_all_floats_makes_the_sum_infinite():
    large = 2**62 + 1

    assert Summary.of([(0, large, 192), (3, large, 192)]).sum == 2 * large
    assert Summary.of([(0, large, 192), (3, large, 192)]).area == 3 * large
    assert Summary.of([(0, 0.5, 192), (3, -(10**400), 192)]).sum == float("-inf")
