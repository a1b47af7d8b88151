from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.ranges import Ranges

NUMBERS = st.integers(1, 20)
# Short and close together, so that they often touch; some are empty (last < first).
RANGES = st.lists(st.builds(lambda first, length: (first, first + length - 1), NUMBERS, st.integers(0, 4)), max_size=8)


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(RANGES)
def test_ranges_are_the_set_of_what_was_added(added: list[tuple[int, int]]) -> None:
    ranges = Ranges(added)

    assert members(list(ranges)) == members(added)
    assert ranges.count() == len(members(added))
    assert ranges.last == max(members(added), default=0)


@given(RANGES)
def test_ranges_ascend_and_do_not_touch(added: list[tuple[int, int]]) -> None:
    ranges = list(Ranges(added))

    assert all(first <= last for first, last in ranges)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(ranges))


@given(RANGES, NUMBERS, NUMBERS)
def test_within_and_gaps_share_a_span_between_them(added: list[tuple[int, int]], first: int, last: int) -> None:
    ranges = Ranges(added)
    span = set(range(first, last + 1))

    assert members(list(ranges.within(first, last))) == members(added) & span
    assert members(list(ranges.gaps(first, last))) == span - members(added)
    assert ranges.covers(first, last) == (span <= members(added))


@given(RANGES, RANGES)
def test_update_is_the_union(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    ranges = Ranges(one)
    ranges.update(Ranges(other))

    assert ranges == Ranges(one + other)


@given(RANGES, RANGES)
def test_remove_is_the_difference(added: list[tuple[int, int]], removed: list[tuple[int, int]]) -> None:
    ranges = Ranges(added)
    for first, last in removed:
        ranges.remove(first, last)

    assert ranges == Ranges((number, number) for number in sorted(members(added) - members(removed)))


@given(RANGES, st.integers(1, 5))
def test_keep_last_keeps_the_highest_ranges(added: list[tuple[int, int]], most: int) -> None:
    ranges = Ranges(added)
    before = list(ranges)

    ranges.keep_last(most)

    assert list(ranges) == before[-most:]
