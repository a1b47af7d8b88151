"""The decision whether a write may be done: nothing wrong gets through, nothing right is kept back, and every refusal
says why."""

import math
import struct
from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts.v1.command import ErrorCode, Write
from contracts.v1.device import ValueType
from contracts.v1.frame import UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Reading
from plugins.api.registry import Registry
from services.gateway.attempt import good_values
from services.gateway.device_file import parse_device
from services.gateway.settings import SHIPPED_DRIVERS
from services.gateway.value import same, typed
from services.gateway.write_rules import Refused, accept, check, fail_safe_order, verified

DRIVERS = Registry([SHIPPED_DRIVERS], kind="driver")
FILE = """
device: pump
driver: modbus
writes: {writes}
{remote}
connection: {{host: 127.0.0.1, unit_id: 1}}
groups:
  fast:
    interval: 1s
    tags:
      speed: {{address: holding:10, type: {kind}, range: [{low}, {high}], writable: true, tolerance: {tolerance}{more}}}
      level: {{address: holding:20, type: float32}}
      open: {{address: coil:1, type: bool, writable: true}}
      name: {{address: holding:30, type: string, length: 8, writable: true}}
      remote-mode: {{address: coil:2, type: bool}}
"""
LOW, HIGH = -100, 100
NUMERIC = ["int16", "int32", "int64", "float32", "float64"]
VALUES = st.one_of(
    st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


@cache
def device(kind="float32", *, writes="enabled", remote="", tolerance=0, more="", low=LOW, high=HIGH):
    text = FILE.format(kind=kind, writes=writes, remote=remote, tolerance=tolerance, more=more, low=low, high=high)
    return parse_device(text, source="pump.yaml", drivers=DRIVERS)


def read(speed, quality=None):
    return Reading(1, {"speed": speed}, {"speed": quality} if quality else {})


def single(value):
    return struct.unpack(">f", struct.pack(">f", value))[0]


def refused(device, tag, value, **more):
    with pytest.raises(Refused) as error:
        accept(device, tag, Write(value=value, **more))
    assert str(error.value)
    return error.value.code


@given(st.sampled_from(NUMERIC), VALUES)
def test_a_number_gets_through_if_it_is_of_the_type_and_in_the_range_and_not_otherwise(kind, value):
    pump = device(kind)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number and (kind.startswith("float") or isinstance(value, int))
    digits = kind == "int64" and isinstance(value, str) and value.lstrip("-").isdigit()
    assume(not digits)

    if fits and LOW <= value <= HIGH:
        order = accept(pump, "speed", Write(value=value))
        assert order.value == value
        assert type(order.value) is (float if kind.startswith("float") else int)
    else:
        assert refused(pump, "speed", value) is (ErrorCode.OUT_OF_RANGE if fits else ErrorCode.INVALID)


@given(VALUES)
def test_a_bool_takes_nothing_but_bools_and_a_text_nothing_but_texts(value):
    for tag, kind in (("open", bool), ("name", str)):
        if isinstance(value, kind):
            assert accept(device(), tag, Write(value=value)).value == value
        else:
            assert refused(device(), tag, value) is ErrorCode.INVALID


@pytest.mark.parametrize("given", ["18446744073709551615", 18446744073709551615])
def test_a_64_bit_integer_may_come_as_the_digits_it_travels_in(given):
    assert typed(ValueType.UINT64, given) == 2**64 - 1


@given(VALUES)
def test_nothing_is_written_unless_the_device_and_the_tag_say_so(value):
    assert refused(device(writes="disabled"), "open", value) is ErrorCode.NOT_WRITABLE
    assert refused(device(), "level", value) is ErrorCode.NOT_WRITABLE
    assert refused(device(), "spead", value) is ErrorCode.NOT_FOUND


@given(st.floats(LOW, HIGH, width=32), st.floats(0, 10))
def test_what_a_float32_register_made_of_a_value_is_that_value(value, tolerance):
    order = accept(device(tolerance=tolerance), "speed", Write(value=value + 0.1 if value < HIGH - 1 else value))

    assert verified(order, read(single(order.value)))


@given(st.floats(LOW, HIGH), st.floats(LOW, HIGH), st.floats(0, 10))
def test_a_value_further_off_than_the_tolerance_is_not_what_was_written(value, read_back, tolerance):
    order = accept(device("float64", tolerance=tolerance), "speed", Write(value=value))
    off = abs(value - read_back)
    assume(not math.isclose(off, tolerance, rel_tol=1e-9, abs_tol=1e-9))
    assume(read_back != single(value))

    assert verified(order, read(read_back)) is (off < tolerance)


@given(st.floats(LOW, HIGH))
def test_what_a_variable_of_32_bits_holds_of_a_float64_is_what_was_written_and_its_neighbour_is_not(value):
    order = accept(device("float64"), "speed", Write(value=value))
    held = single(value)
    (bits,) = struct.unpack(">i", struct.pack(">f", held))
    (neighbour,) = struct.unpack(">f", struct.pack(">i", bits + 1))

    assert verified(order, read(held))
    assert not verified(order, read(neighbour))


@given(st.integers(LOW, HIGH), st.integers(LOW, HIGH))
def test_an_integer_is_read_back_exactly(value, read_back):
    assert verified(accept(device("int32"), "speed", Write(value=value)), read(read_back)) is (value == read_back)


@pytest.mark.parametrize(
    ("cause", "proves"), [("stale", False), ("startup", False), ("device", True), ("overflow", True)]
)
def test_a_value_of_before_the_write_proves_nothing(cause, proves):
    order = accept(device(), "speed", Write(value=50.0))

    assert verified(order, read(50.0, QualityStruct(UNCERTAIN, cause))) is proves


@given(st.sampled_from(list(ValueType)), VALUES)
def test_no_value_is_never_the_value_that_was_written(kind, value):
    assert not same(kind, value, None, tolerance=1e9)


@given(found=st.one_of(VALUES, st.none()), wanted=st.booleans())
def test_a_write_goes_only_while_its_conditions_hold(found, wanted):
    condition = f"{{tag: remote-mode, equals: {str(wanted).lower()}}}"
    orders = {
        "remote": accept(device(remote=f"remote: {condition}"), "open", Write(value=True)),
        "precondition": accept(device(more=f", precondition: {condition}"), "speed", Write(value=1)),
        "expect": accept(device(), "open", Write(value=True, expect={"remote-mode": wanted})),
    }
    for why, order in orders.items():
        assert [demand.why for demand in order.demands] == [why]
        if isinstance(found, bool) and found == wanted:
            check(order, {"remote-mode": found})
        else:
            with pytest.raises(Refused, match="local control" if why == "remote" else why) as error:
                check(order, {"remote-mode": found})
            assert error.value.code is ErrorCode.PRECONDITION_FAILED
            assert error.value.detail == {"tag": "remote-mode", "found": found}


def test_an_expectation_of_a_tag_that_is_not_there_or_of_another_type_is_refused():
    assert refused(device(), "open", True, expect={"spead": 1}) is ErrorCode.NOT_FOUND
    assert refused(device(), "open", True, expect={"level": "high"}) is ErrorCode.INVALID


def test_a_value_that_is_not_good_fulfils_no_condition():
    order = accept(device(remote="remote: {tag: remote-mode, equals: true}"), "speed", Write(value=1))
    remembered = Reading(t=1, values={"remote-mode": True}, quality={"remote-mode": QualityStruct(UNCERTAIN, "stale")})

    check(order, good_values([Reading(t=1, values={"remote-mode": True})]))
    with pytest.raises(Refused) as error:
        check(order, good_values([remembered]))
    assert error.value.code == ErrorCode.PRECONDITION_FAILED


def test_a_fail_safe_value_heeds_local_control_and_no_other_condition():
    pump = device(remote="remote: {tag: remote-mode, equals: true}", more=", precondition: {tag: open, equals: true}")

    order = fail_safe_order(pump, "speed", 0)

    assert [demand.why for demand in order.demands] == ["remote"]
    assert order.value == 0.0


def test_a_value_beyond_its_type_is_out_of_range_though_the_range_would_let_it_through():
    assert refused(device("int16", low=-(10**6), high=10**6), "speed", 40000) is ErrorCode.OUT_OF_RANGE
    assert refused(device("float32", low=-1e300, high=1e300), "speed", 1e200) is ErrorCode.OUT_OF_RANGE
