"""Which changes of a tag start a run, and which events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.definition import EventFilter
from contracts.v1.event import Event
from services.orchestrator.triggers.trigger import TagChange, TagGate, lets_through


def change(value, q=192, t_us=0):
    return TagChange(value=value, q=q, t_us=t_us)


def passed(gate, values):
    return [one.value for value in values if (one := gate.take(change(value), now_s=0)) is not None]


def test_the_first_value_and_each_other_one_pass():
    assert passed(TagGate(deadband=0, debounce_s=0), [1, 1, 2, 2, 1]) == [1, 2, 1]


def test_a_slow_drift_passes_once_it_has_left_the_deadband():
    assert passed(TagGate(deadband=0.5, debounce_s=0), [1.0, 1.3, 1.5, 1.6, 1.2, 1.05]) == [1.0, 1.6, 1.05]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0.001, 1000))
def test_what_passes_differs_from_the_one_before_and_what_does_not_pass_does_not(values, deadband):
    gate, last = TagGate(deadband=deadband, debounce_s=0), None
    for value in values:
        if gate.take(change(value), now_s=0) is not None:
            assert last is None or abs(value - last) > deadband
            last = value
        else:
            assert abs(value - last) <= deadband


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (change(5.0), change(None, q=0)),
        (change(None, q=0), change(5.0)),
        (change(5.0), change(5.0, q=64)),
        (change("run"), change("stop")),
        (change(True), change(False)),
        (change([1.0]), change([1.1])),
    ],
)
def test_another_quality_and_what_is_no_number_pass_whatever_the_deadband(before, after):
    gate = TagGate(deadband=100, debounce_s=0)
    gate.take(before, now_s=0)

    assert gate.take(after, now_s=0) == after
    assert gate.take(after, now_s=0) is None


def test_a_bounce_passes_once_when_it_has_come_to_rest():
    gate = TagGate(deadband=0, debounce_s=0.2)
    for now_s, value in ((0.0, 1), (0.05, 0), (0.1, 1), (0.15, 0), (0.2, 1)):
        assert gate.take(change(value), now_s=now_s) is None
        assert gate.tick(now_s=now_s) is None

    assert gate.due_s == pytest.approx(0.4)
    assert gate.tick(now_s=0.4) == change(1)
    assert gate.due_s is None


def test_what_has_gone_back_within_the_debounce_was_no_change():
    gate = TagGate(deadband=0, debounce_s=0.2)
    gate.take(change(0), now_s=0)
    gate.tick(now_s=0.2)

    gate.take(change(1), now_s=1.0)
    gate.take(change(0), now_s=1.1)

    assert gate.due_s is None
    assert gate.tick(now_s=9.0) is None


def test_noise_within_the_deadband_is_standing_still():
    gate = TagGate(deadband=0.5, debounce_s=0.2)
    gate.take(change(10.0), now_s=0)
    gate.take(change(10.3), now_s=0.15)

    assert gate.tick(now_s=0.2) == change(10.0)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({}, True),
        ({"id": "servo"}, True),
        ({"id": "pump"}, False),
        ({"type": "online"}, True),
        ({"type": "offline"}, False),
        ({"scope": "plant", "id": "servo", "type": "online"}, True),
        ({"scope": "main"}, False),
        ({"aggregate": "run"}, False),
    ],
)
def test_an_event_must_fit_everything_that_the_filter_names(wanted, passes):
    event = Event(
        id="1", aggregate="device", aggregate_id="servo", scope="plant", version=1, type="online", t=1, data={}
    )

    assert lets_through(EventFilter(**{"aggregate": "device", **wanted}), event) is passes
