"""The state machine of a run, by hand: one happening after the other."""

from typing import Any

import pytest

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.run import RunStatus
from services.orchestrator.run.orders import Done
from services.orchestrator.run.run import MOST_AT_ONCE
from tests.unit.orchestrator.run_driver import Driver, failed, plan_of, work


def test_what_needs_nothing_starts_at_once_and_what_needs_both_after_both() -> None:
    driver = Driver(plan_of({"a": work(), "b": work(), "c": work(after=["a", "b"])}))
    assert driver.under_way == ["a", "b"]

    driver.answer("b")
    assert driver.under_way == ["a"]

    driver.answer("a")
    assert driver.under_way == ["c"]

    driver.answer("c")
    assert driver.run.status is RunStatus.DONE


def test_a_branch_not_taken_is_skipped_with_all_that_needs_it_and_a_join_of_any_goes_on() -> None:
    nodes = {
        "high": {"type": "condition", "when": "x > 80", "inputs": {"x": "inputs.x"}},
        "alarm": work(after=["high.then"]),
        "mail": work(after=["alarm"]),
        "rest": work(after=["high.else"]),
        "end": work(after=["mail", "rest"], join="any"),
    }
    driver = Driver(plan_of(nodes, inputs={"x": {"type": "number"}}), {"x": 3})
    assert driver.under_way == ["rest"]

    driver.answer("rest")
    driver.answer("end")
    assert driver.states == {"high": "done", "alarm": "skipped", "mail": "skipped", "rest": "done", "end": "done"}


def test_a_join_of_any_is_skipped_when_nothing_before_it_was_done() -> None:
    nodes = {
        "no": {"type": "condition", "when": "1 > 2"},
        "a": work(after=["no.then"]),
        "b": work(after=["a"]),
        "end": work(after=["a", "b"], join="any"),
    }
    driver = Driver(plan_of(nodes))
    assert driver.run.status is RunStatus.DONE
    assert driver.states["end"] == "skipped"


def test_an_input_from_a_node_that_was_skipped_is_null_in_a_join_of_any() -> None:
    nodes = {
        "no": {"type": "condition", "when": "1 > 2"},
        "a": {"type": "expression", "expression": "1", "after": ["no.then"]},
        "b": {"type": "expression", "expression": "2"},
        "end": work(inputs={"x": "a.value", "y": "b.value"}, join="any"),
    }
    driver = Driver(plan_of(nodes))
    assert driver.calls["end"][0].inputs == {"x": None, "y": 2}


def test_a_failed_try_is_repeated_after_a_wait_that_grows_and_then_fails_the_run() -> None:
    driver = Driver(plan_of({"a": work(retry={"tries": 3, "first": "2s", "factor": 3}), "b": work(after=["a"])}))
    waits = []
    for _ in range(2):
        driver.answer("a", failed())
        waits += [wake.after_s for wake in driver.wakes.values()]
        driver.wake()
    driver.answer("a", failed())

    assert waits == [2.0, 6.0]
    assert driver.run.status is RunStatus.FAILED
    assert driver.run.error is not None
    assert (driver.run.error.code, driver.run.error.detail) == (ErrorCode.DEVICE_UNAVAILABLE, {"node": "a"})
    assert driver.states == {"a": "failed", "b": "skipped"}
    assert [event["tries"] for event in driver.told("node.retried")] == [1, 2]


@pytest.mark.parametrize("code", [ErrorCode.INVALID, ErrorCode.OUT_OF_RANGE, ErrorCode.NOT_WRITABLE])
def test_what_another_try_does_not_mend_is_not_tried_again(code: ErrorCode) -> None:
    driver = Driver(plan_of({"a": work(retry={"tries": 3})}))
    driver.answer("a", failed(code))
    assert driver.run.status is RunStatus.FAILED


@pytest.mark.parametrize(
    ("on_error", "states"),
    [
        ({"on_error": "skip"}, {"a": "skipped", "b": "skipped", "c": "done"}),
        ({"on_error": "default", "default": {"value": 7}}, {"a": "done", "b": "done", "c": "done"}),
    ],
)
def test_a_failure_is_passed_over_or_replaced_as_the_node_says(on_error: Any, states: dict[str, str]) -> None:
    nodes = {
        "a": work(**on_error),
        "b": {"type": "expression", "expression": "x + 1", "inputs": {"x": "a.value"}},
        "c": {"type": "expression", "expression": "1"},
    }
    driver = Driver(plan_of(nodes, outputs={"b": "b.value"}))
    driver.answer("a", failed())
    assert driver.run.status is RunStatus.DONE
    assert driver.states == states
    assert driver.run.outputs == {"b": 8 if states["b"] == "done" else None}


def test_a_failure_stops_what_is_under_way_elsewhere() -> None:
    driver = Driver(plan_of({"a": work(), "b": work(), "c": {"type": "delay", "duration": "5s"}}))
    driver.answer("a", failed())
    assert driver.under_way == []
    assert driver.states == {"a": "failed", "b": "failed", "c": "failed"}
    assert len(driver.told("run.failed")) == 1


def test_a_cancelled_run_ends_at_once_and_what_comes_later_is_passed_over() -> None:
    driver = Driver(plan_of({"a": work(), "b": work(after=["a"])}))
    (start,) = driver.calls["a"]
    outcome = driver.run.end(RunStatus.CANCELLED, Failure(code=ErrorCode.CANCELLED, message="by anna"), 5_000_000)
    assert [event.type for event in outcome.events][-1] == "run.cancelled"

    late = driver.run.answer(start.number, Done({}), 6_000_000)
    assert (late.orders, late.events) == ([], [])
    assert driver.states == {"a": "failed", "b": "skipped"}


def test_a_for_each_has_so_many_turns_at_a_time_and_gives_their_values_in_the_order_of_the_items() -> None:
    inner = {
        "do": work(inputs={"x": "item.value", "k": "outer.k"}),
        "out": {"type": "expression", "expression": "x", "inputs": {"x": "do.value"}},
    }
    loop = {
        "type": "for_each", "items": "inputs.batch", "concurrency": 2, "nodes": inner, "output": "out.value",
        "constants": {"k": 9},
    }  # fmt: skip
    driver = Driver(plan_of({"each": loop}, inputs={"batch": {"type": "array"}}), {"batch": [5, 6, 7]})
    assert driver.under_way == ["each[0].do", "each[1].do"]
    assert driver.calls["each[1].do"][0].inputs == {"x": 6, "k": 9}

    driver.answer("each[1].do", Done({"value": "b"}))
    assert driver.under_way == ["each[0].do", "each[2].do"]
    driver.answer("each[2].do", Done({"value": "c"}))
    driver.answer("each[0].do", Done({"value": "a"}))
    assert driver.outputs("each") == {"values": ["a", "b", "c"], "count": 3}
    assert driver.run.status is RunStatus.DONE


def test_a_turn_that_fails_ends_the_others_and_the_loop_is_tried_again_from_its_beginning() -> None:
    loop = {
        "type": "for_each", "items": "inputs.batch", "nodes": {"do": work()}, "retry": {"tries": 2, "first": "1s"},
    }  # fmt: skip
    driver = Driver(plan_of({"each": loop}, inputs={"batch": {"type": "array"}}), {"batch": [1, 2]})
    driver.answer("each[0].do", failed())
    assert driver.under_way == []
    assert driver.told("node.retried")[0]["error"]["detail"] == {"node": "each[0].do"}

    driver.wake()
    for turn in range(2):
        driver.answer(f"each[{turn}].do")
    assert driver.outputs("each") == {"values": [], "count": 2}


@pytest.mark.parametrize(("items", "count"), [([], 0), (list(range(3)), 3)])
def test_a_for_each_of_formulas_alone_is_done_at_once(items: list[int], count: int) -> None:
    inner = {"out": {"type": "expression", "expression": "x * x", "inputs": {"x": "item.value"}}}
    loop = {"type": "for_each", "items": "inputs.batch", "nodes": inner, "output": "out.value"}
    driver = Driver(plan_of({"each": loop}, inputs={"batch": {"type": "array"}}), {"batch": items})
    assert driver.outputs("each") == {"values": [item * item for item in items], "count": count}


@pytest.mark.parametrize("items", [7, list(range(6))])
def test_items_that_are_none_or_too_many_fail_the_loop(items: Any) -> None:
    loop = {"type": "for_each", "items": "inputs.batch", "most": 5, "nodes": {"do": work()}}
    driver = Driver(plan_of({"each": loop}, inputs={"batch": {"type": "array"}}), {"batch": items})
    assert driver.states == {"each": "failed"}
    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.INVALID


def counting(most: int = 100, **more: Any) -> dict[str, Any]:
    inner = {"inc": {"type": "expression", "expression": "n + 1", "inputs": {"n": "state.n"}}}
    return {
        "type": "while", "when": "n < top", "constants": {"top": 3}, "state": {"n": 0}, "nodes": inner,
        "next": {"n": "inc.value"}, "most": most, **more,
    }  # fmt: skip


def test_a_while_goes_on_with_the_state_that_each_round_leaves() -> None:
    driver = Driver(plan_of({"until": counting()}))
    assert driver.outputs("until") == {"n": 3, "rounds": 3}


def test_a_while_that_would_go_on_beyond_its_bound_fails() -> None:
    driver = Driver(plan_of({"until": counting(most=2)}))
    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.TIMEOUT


def test_a_loop_inside_a_loop_knows_its_own_turn() -> None:
    inner = {"until": counting(inputs={"top": "item.value"}, constants={})}
    loop = {"type": "for_each", "items": "inputs.batch", "nodes": inner, "output": "until.n"}
    driver = Driver(plan_of({"each": loop}, inputs={"batch": {"type": "array"}}), {"batch": [1, 4]})
    assert driver.outputs("each") == {"values": [1, 4], "count": 2}
    assert "each[1].until[3].inc" in [event["node"] for event in driver.told("node.completed")]


def test_a_loop_that_takes_too_long_is_ended_with_its_turns() -> None:
    loop = {"type": "for_each", "items": "inputs.batch", "nodes": {"do": work()}, "timeout": "3s"}
    driver = Driver(plan_of({"each": loop}, inputs={"batch": {"type": "array"}}), {"batch": [1]})
    driver.wake()
    assert driver.under_way == []
    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.TIMEOUT


def test_a_long_chain_of_formulas_is_done_in_parts_so_that_others_have_their_turn() -> None:
    inner = {"inc": {"type": "expression", "expression": "n + 1", "inputs": {"n": "state.n"}}}
    loop = {
        "type": "while", "when": "true", "state": {"n": 0}, "nodes": inner, "next": {"n": "inc.value"}, "most": 2000,
        "on_error": "skip",
    }  # fmt: skip
    driver = Driver(plan_of({"until": loop}))
    assert driver.run.status is RunStatus.RUNNING
    assert len(driver.told("node.completed")) <= MOST_AT_ONCE + 1

    for _ in range(20):
        if driver.wakes:
            driver.wake()
    assert driver.run.status is RunStatus.DONE
    assert len(driver.told("node.completed")) == 2000


def test_an_expression_that_cannot_be_calculated_fails_its_node_with_the_reason() -> None:
    driver = Driver(plan_of({"bad": {"type": "expression", "expression": "1 / x", "constants": {"x": 0}}}))
    assert driver.run.error is not None
    assert driver.run.error.code is ErrorCode.INVALID
    assert driver.run.error.detail["node"] == "bad"


def test_a_hundred_nodes_in_a_chain_are_no_recursion() -> None:
    nodes: dict[str, Any] = {"n0": {"type": "expression", "expression": "0"}}
    for at in range(1, 400):
        nodes[f"n{at}"] = {"type": "expression", "expression": "x + 1", "inputs": {"x": f"n{at - 1}.value"}}
    nodes["no"] = {"type": "condition", "when": "x < 0", "inputs": {"x": "n399.value"}}
    driver = Driver(plan_of(nodes, outputs={"last": "n399.value"}))
    assert driver.run.outputs == {"last": 399}
