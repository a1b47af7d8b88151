"""UUID version 7, held against its definition and against time."""

from datetime import UTC, datetime
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.identifier import uuid7

TIMES = st.integers(0, 2**48 * 1000 - 1)


@given(TIMES, st.integers())
def test_an_identifier_is_of_version_7_and_tells_its_millisecond(now_us, seed):
    made = uuid7(now_us, Random(seed))

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == now_us // 1000


@given(st.lists(TIMES, min_size=2, max_size=2, unique=True), st.integers())
def test_identifiers_sort_as_the_microseconds_they_were_made_in(times, seed):
    first, second = sorted(times)

    assert str(uuid7(first, Random(seed))) < str(uuid7(second, Random(seed + 1)))


def test_identifiers_of_one_moment_differ():
    now_us = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)

    assert uuid7(now_us, Random(1)) != uuid7(now_us, Random(2))
