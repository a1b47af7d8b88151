"""How much a run may carry: whatever its nodes make of values, each event of it fits into a message."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.codec import MAX_BYTES
from contracts.v1.command import ErrorCode, Failure
from contracts.v1.run import RunStatus
from services.orchestrator.run.carried import (
    DEEPEST,
    MOST_BYTES,
    MOST_EVENT_BYTES,
    MOST_VALUE_BYTES,
    NotCarried,
    as_told,
    carried_bytes,
)
from services.orchestrator.run.failures import MOST_BYTES as MOST_FAILURE_BYTES
from services.orchestrator.run.orders import Done, Failed
from services.orchestrator.run.run import MOST_AT_ONCE
from services.orchestrator.run.run_state import node_states
from tests.unit.orchestrator.run_driver import Driver, plan_of, work

TEXT = {"text": {"type": "string"}}
LONG = "a" * (MOST_BYTES - 100)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@settings(max_examples=50)
@given(st.dictionaries(st.text("abc", max_size=5), st.lists(st.none() | st.floats() | st.text(max_size=9), max_size=5)))
def test_values_are_carried_at_no_less_than_their_length(values: dict[str, Any]) -> None:
    assert carried_bytes(values) >= len(msgspec.json.encode(values)) - 2


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("a" * MOST_BYTES, "longer than 960 KiB"),
        ("\x01" * (MOST_BYTES // 6), "longer than 960 KiB"),
        (nested(DEEPEST + 1), "nested too deep"),
        ([{"a": 1}] * 100 + [nested(DEEPEST)], "nested too deep"),
        (nested(5000), "nested too deep"),
        ("\ud800", "half a character"),
        (object(), "no JSON"),
    ],
)
def test_what_no_message_holds_is_refused_and_said_why(value: Any, why: str) -> None:
    with pytest.raises(NotCarried, match=why):
        carried_bytes({"value": value})


def test_a_value_as_deep_as_may_be_is_carried() -> None:
    assert carried_bytes({"value": [[1]] * 100, "deep": nested(DEEPEST)}) > 0


@pytest.mark.parametrize("value", ["a" * MOST_BYTES, nested(1000)])
def test_outputs_that_are_too_long_or_too_deep_fail_their_node_and_its_retry_is_spared(value: Any) -> None:
    driver = Driver(plan_of({"a": work(retry={"tries": 3}), "b": work(after=["a"])}))
    driver.answer("a", Done({"value": value}))

    assert driver.run.status is RunStatus.FAILED
    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.INVALID
    assert driver.run.error.detail == {"node": "a"}


def test_a_node_whose_inputs_are_too_long_together_is_never_begun() -> None:
    inputs = {f"x{at}": "inputs.text" for at in range(1000)}
    driver = Driver(plan_of({"a": work(inputs=inputs)}, inputs=TEXT), {"text": LONG})

    assert driver.told("node.executing") == []
    assert driver.run.error is not None
    assert "longer than" in driver.run.error.message


def test_a_run_whose_outputs_are_too_long_together_fails() -> None:
    say = {"type": "expression", "expression": "x", "inputs": {"x": "inputs.text"}}
    outputs = {f"y{at}": "say.value" for at in range(1000)}
    driver = Driver(plan_of({"say": say}, inputs=TEXT, outputs=outputs), {"text": LONG})

    assert (driver.run.status, driver.run.outputs) == (RunStatus.FAILED, None)
    assert [event.type for event in driver.events][-1] == "run.failed"


def test_a_loop_that_collects_one_long_value_over_and_over_fails_as_soon_as_it_is_too_much() -> None:
    nodes = {
        "each": {"type": "for_each", "items": "inputs.items", "most": 10_000, "output": "item.value",
                 "nodes": {"one": {"type": "expression", "expression": "1"}}},
    }  # fmt: skip
    driver = Driver(plan_of(nodes, inputs={"items": {"type": "array"}}), {"items": [LONG] * 10_000})

    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.INVALID
    assert len(driver.told("node.completed")) < 10


def test_a_loop_that_doubles_its_state_with_each_round_fails_before_it_fills_the_memory() -> None:
    nodes = {
        "grow": {
            "type": "while", "when": "true", "most": 10_000, "state": {"x": [1, 1]}, "next": {"x": "twice.values"},
            "nodes": {"twice": {"type": "for_each", "items": "inputs.two", "output": "outer.x",
                                "inputs": {"x": "state.x"},
                                "nodes": {"one": {"type": "expression", "expression": "1"}}}},
        },
    }  # fmt: skip
    driver = Driver(plan_of(nodes, inputs={"two": {"type": "array"}}), {"two": [0, 0]})
    while driver.wakes and not driver.run.over:
        driver.wake()

    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.INVALID


def test_a_loop_whose_state_becomes_longer_than_a_node_may_give_fails_at_that_turns_end() -> None:
    say = {"type": "expression", "expression": "x", "inputs": {"x": "outer.x"}}
    nodes = {
        "fill": {
            "type": "while", "when": "true", "most": 3, "inputs": {"x": "inputs.text"}, "state": {"a": "", "b": ""},
            "next": {"a": "say.value", "b": "say.value"}, "nodes": {"say": say},
        },
    }  # fmt: skip
    driver = Driver(plan_of(nodes, inputs=TEXT), {"text": LONG})

    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.INVALID
    assert "longer than" in driver.run.error.message


def test_nodes_that_give_more_together_than_a_run_holds_fail() -> None:
    driver = Driver(plan_of({f"a{number}": work() for number in range(50)}))
    for number in range(50):
        if not driver.run.over:
            driver.answer(f"a{number}", Done({"value": "a" * (900 << 10)}))

    assert driver.run.error is not None
    assert (driver.run.error.code, driver.run.error.detail) == (ErrorCode.INVALID, {"node": "a36"})
    assert "more than a run holds at a time, 32 MiB" in driver.run.error.message


def test_what_a_loops_turns_have_given_is_let_go_of_with_each() -> None:
    say = {"type": "expression", "expression": "x", "inputs": {"x": "outer.x"}}
    nodes = {
        "each": {"type": "for_each", "items": "inputs.items", "inputs": {"x": "inputs.text"}, "nodes": {"say": say}},
    }
    inputs = {**TEXT, "items": {"type": "array"}}
    driver = Driver(plan_of(nodes, inputs=inputs), {"text": "a" * (900 << 10), "items": [0] * 60})
    while driver.wakes and not driver.run.over:
        driver.wake()

    assert driver.run.error is None
    assert driver.run.executed == 61


def test_long_values_have_others_take_their_turn_sooner() -> None:
    nodes = {f"n{at}": {"type": "expression", "expression": "x", "inputs": {"x": "inputs.text"}} for at in range(30)}
    driver = Driver(plan_of(nodes, inputs=TEXT), {"text": LONG})

    assert 0 < len(driver.told("node.completed")) < MOST_AT_ONCE / 20
    while driver.wakes:
        driver.wake()
    assert driver.run.status is RunStatus.DONE


def test_a_text_that_is_too_long_is_put_into_no_list() -> None:
    node = {"type": "expression", "expression": f"[{','.join(['x'] * 400)}]", "inputs": {"x": "inputs.text"}}
    driver = Driver(plan_of({"a": node}, inputs=TEXT), {"text": LONG})
    assert driver.run.error is not None
    assert "within a list" in driver.run.error.message


VALUES = st.lists(st.tuples(st.integers(1, 200_000), st.sampled_from(["a", "\x01", "é"])), max_size=40)


@example([(60_000, "a")] * 30, [(100, "a")] * 30)
@settings(max_examples=25)
@given(VALUES, VALUES)
def test_an_event_of_whatever_a_run_carries_fits_into_a_message_and_long_values_are_told_by_their_digest(
    outputs: list[tuple[int, str]], inputs: list[tuple[int, str]]
) -> None:
    data: dict[str, Any] = {"node": "a", "outputs": {}, "inputs": {}}
    for field, sizes in (("outputs", outputs), ("inputs", inputs)):
        for at, (size, letter) in enumerate(sizes):
            data[field][f"x{at}"] = letter * size
    told, text = as_told(data)

    assert len(text) <= MOST_EVENT_BYTES
    assert msgspec.json.decode(text) == told
    for field in ("outputs", "inputs"):
        assert told[field].keys() == data[field].keys()
        for value in told[field].values():
            assert value.keys() == {"bytes", "sha256"} if isinstance(value, dict) else len(value) <= MOST_VALUE_BYTES


def test_of_a_thousand_numbers_none_is_told_by_a_digest_that_is_longer() -> None:
    outputs = {f"n{at}": 1.5 for at in range(1000)}
    told, _ = as_told({"outputs": outputs, "inputs": {"x": "a" * (1 << 20)}})
    assert told["outputs"] == outputs


def test_whatever_an_answer_says_of_a_failure_it_is_told_in_a_few_kilobytes() -> None:
    driver = Driver(plan_of({"a": work(retry={"tries": 1})}))
    detail: dict[str, Any] = {f"d{at}": [1.0] * 1000 for at in range(100)}
    driver.answer("a", Failed(Failure(code=ErrorCode.COMPUTE_FAILED, message="\x01" * (1 << 20), detail=detail)))

    (failed,) = driver.told("node.failed")
    assert len(json.dumps(failed["error"])) <= MOST_FAILURE_BYTES
    assert driver.run.error is not None
    assert driver.run.error.detail == {"node": "a"}


@pytest.mark.parametrize("result", [Done({"value": "\x01" * 330}), Done({f"n{at}": 10**300 for at in range(9)}),
                                    Failed(Failure(code=ErrorCode.INTERNAL, message="\x01" * 9000))])  # fmt: skip
def test_the_state_of_a_run_of_as_many_nodes_as_may_be_fits_into_a_message(result: Done | Failed) -> None:
    nodes = {f"n{at:->60}": work(on_error="skip") for at in range(500)}
    driver = Driver(plan_of(nodes))
    for name in nodes:
        driver.answer(name, result)

    states = {name: state.model_dump(mode="json") for name, state in node_states(driver.run.top).items()}
    assert len(json.dumps(states)) < MAX_BYTES - 10_000
