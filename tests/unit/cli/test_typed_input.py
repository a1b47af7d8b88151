"""What a person types becomes a value of the tag's type, or is refused with what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.device import ValueType
from services.cli.typed_input import Mistyped, named_values, pair_of, scalar_for


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_typed_for_a_float_is_that_float(value):
    assert scalar_for(repr(value), ValueType.FLOAT64) == value


@given(st.integers(-(2**64), 2**64))
def test_an_integer_travels_as_digits_where_a_double_would_round_it(value):
    given = scalar_for(str(value), ValueType.INT64)

    assert given == (value if abs(value) < 2**53 else str(value))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("ON", True), ("1", True), ("off", False), ("no", False)])
def test_a_bool_may_be_typed_as_plants_do(text, value):
    assert scalar_for(text, ValueType.BOOL) is value


def test_a_text_is_taken_as_it_is():
    assert scalar_for("5", ValueType.STRING) == "5"


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("fast", ValueType.FLOAT32, "'fast' is no number; the tag is of type float32"),
        ("nan", ValueType.FLOAT32, "'nan' is no number; the tag is of type float32"),
        ("1e999", ValueType.FLOAT64, "'1e999' is no number; the tag is of type float64"),
        ("1.5", ValueType.INT16, "'1.5' is no whole number; the tag is of type int16"),
        ("maybe", ValueType.BOOL, "'maybe' is no bool; write true or false"),
    ],
)
def test_what_does_not_fit_is_refused(text, kind, told):
    with pytest.raises(Mistyped) as error:
        scalar_for(text, kind)

    assert str(error.value) == told


def test_inputs_are_json_where_they_are_and_text_where_not():
    assert named_values(["position=120", "mode=fast", "dry=true", "steps=[1,2]"]) == {
        "position": 120, "mode": "fast", "dry": True, "steps": [1, 2],
    }  # fmt: skip
    too_deep = "[" * 100_000
    assert named_values(["a=NaN", "b=-Infinity", "c=1e999", "d=[1e999]", f"e={too_deep}"]) == {
        "a": "NaN", "b": "-Infinity", "c": "1e999", "d": "[1e999]", "e": too_deep,
    }  # fmt: skip
    with pytest.raises(Mistyped, match="is no NAME=VALUE"):
        named_values(["position"])


def test_an_input_that_is_a_text_stays_one_though_it_looks_like_a_number():
    typed = ["batch=4711", 'lot="0815"', "dry=true", "speed=4711"]

    assert named_values(typed, texts=["batch", "lot", "dry"]) == {
        "batch": "4711", "lot": "0815", "dry": "true", "speed": 4711,
    }  # fmt: skip


@pytest.mark.parametrize("typed", ["level", "=50", ""])
def test_a_condition_without_a_tag_or_a_value_is_refused_with_what_would_be_right(typed):
    assert pair_of("level=5=0", form="TAG=VALUE") == ("level", "5=0")
    with pytest.raises(Mistyped, match=f"'{typed}' is no TAG=VALUE"):
        pair_of(typed, form="TAG=VALUE")
