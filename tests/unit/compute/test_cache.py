"""Results that are kept: which go first, and what counts as the same."""

from hypothesis import given
from hypothesis import strategies as st

from services.compute.cache import Cache, Result, key_of


def result(value: object = 1) -> Result:
    return Result({"y": value}, 0.5)


def test_a_result_is_kept_until_its_time_is_over() -> None:
    cache = Cache(most=10, most_bytes=1000, ttl_s=60)
    cache.put(b"a", result(), now_s=0)

    assert cache.get(b"a", now_s=60) == result()
    assert cache.get(b"a", now_s=60, most_age_s=59) is None
    assert cache.get(b"a", now_s=60.5) is None
    assert (len(cache), cache.held_bytes) == (0, 0)


def test_what_was_not_asked_for_longest_goes_first() -> None:
    cache = Cache(most=2, most_bytes=1000, ttl_s=60)
    cache.put(b"a", result(), now_s=0)
    cache.put(b"b", result(), now_s=1)
    cache.get(b"a", now_s=2)
    cache.put(b"c", result(), now_s=3)

    assert [cache.get(key, now_s=4) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_a_result_that_is_longer_than_all_may_be_is_not_kept_and_costs_no_other() -> None:
    cache = Cache(most=10, most_bytes=20, ttl_s=60)
    cache.put(b"a", result(), now_s=0)
    cache.put(b"b", result("x" * 100), now_s=0)

    assert cache.get(b"a", now_s=1) is not None
    assert cache.get(b"b", now_s=1) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.floats(0, 100))))
def test_it_never_holds_more_than_its_bounds(puts: list[tuple[int, int, float]]) -> None:
    cache = Cache(most=3, most_bytes=60, ttl_s=10)
    for number, length, now_s in puts:
        cache.put(bytes([number]), result("x" * length), now_s=now_s)
        assert len(cache) <= 3
        assert 0 <= cache.held_bytes <= 60
    for number in range(6):
        cache.get(bytes([number]), now_s=1000)
    assert (len(cache), cache.held_bytes) == (0, 0)


def test_the_order_of_inputs_makes_no_difference_and_anything_else_does() -> None:
    key = key_of("f", "1", {"a": 1.0, "b": [1, {"c": 2, "d": 3}]})

    assert key == key_of("f", "1", {"b": [1, {"d": 3, "c": 2}], "a": 1.0})
    others = [
        key_of("g", "1", {"a": 1.0, "b": [1, {"c": 2, "d": 3}]}),
        key_of("f", "2", {"a": 1.0, "b": [1, {"c": 2, "d": 3}]}),
        key_of("f", "1", {"a": 1.5, "b": [1, {"c": 2, "d": 3}]}),
        key_of("f", "1", {"a": 1.0}),
    ]
    assert key not in others
