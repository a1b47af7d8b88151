"""Inputs and outputs of functions are held against what their manifest says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.command import Call, ErrorCode
from plugins.api.manifest import FunctionManifest, Port
from services.gateway.call_rules import checked_inputs, unkept_promise
from services.gateway.write_rules import Refused

MOVE = FunctionManifest(
    title="Move",
    inputs={
        "position": Port(type="number", unit="mm", range=(0, 500)),
        "steps": Port(type="integer", optional=True),
        "dry": Port(type="boolean", optional=True),
        "name": Port(type="string", optional=True),
    },
    outputs={"position": Port(type="number"), "note": Port(type="string", optional=True)},
)
KINDS = {"steps": int, "dry": bool, "name": str}
VALUES = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())


def refused(**inputs):
    with pytest.raises(Refused) as error:
        checked_inputs(Call(function="move", inputs=inputs), MOVE)
    return error.value.code


@given(st.integers(0, 500) | st.floats(0, 500))
def test_a_number_in_range_gets_through_as_a_float(position):
    inputs = checked_inputs(Call(function="move", inputs={"position": position}), MOVE)

    assert inputs == {"position": position}
    assert type(inputs["position"]) is float


@given(st.sampled_from(sorted(KINDS)), VALUES)
def test_an_input_gets_through_if_it_is_of_the_type_and_not_otherwise(name, value):
    inputs = {"position": 1, name: value}
    if type(value) is KINDS[name]:
        assert checked_inputs(Call(function="move", inputs=inputs), MOVE)[name] == value
    else:
        assert refused(**inputs) is ErrorCode.INVALID


def test_what_is_missing_unknown_or_out_of_range_is_refused():
    assert refused() is ErrorCode.INVALID
    assert refused(position=None) is ErrorCode.INVALID
    assert refused(position=1, speed=2) is ErrorCode.INVALID
    assert refused(position=500.1) is ErrorCode.OUT_OF_RANGE


def test_outputs_that_are_not_as_promised_are_named():
    assert unkept_promise({"position": 1.0}, MOVE) is None
    assert unkept_promise({"position": 1, "note": "slow"}, MOVE) is None
    assert unkept_promise({}, MOVE) == "the output 'position' is missing"
    assert unkept_promise({"position": "far"}, MOVE) == "the output 'position' is 'far', not of type number"
