"""Runs gone through again from their events."""

from typing import Any

import pytest

from contracts.v1.run import ReplayDifference
from services.orchestrator.run.carried import as_told, is_cut
from services.orchestrator.run.orders import Done
from services.orchestrator.run.replay import replayed as replayed_run
from tests.unit.orchestrator.run_driver import Driver, failed, plan_of, work

LOOPS = {
    "each": {
        "type": "for_each", "items": "inputs.batch", "concurrency": 2, "output": "twice.value",
        "retry": {"tries": 2, "first": "1s"}, "timeout": "9s",
        "nodes": {
            "do": work(inputs={"x": "item.value"}, retry={"tries": 2, "first": "1s"}),
            "rest": {"type": "delay", "duration": "1s", "after": ["do"]},
            "twice": {"type": "expression", "expression": "x * 2", "inputs": {"x": "do.value"}, "after": ["rest"]},
        },
    },
    "set": {"type": "write", "tag": "servo/target", "inputs": {"value": "top.value"}},
    "top": {"type": "expression", "expression": "max(xs)", "inputs": {"xs": "each.values"}},
}  # fmt: skip


def loop_run() -> Driver:
    """Two turns; the first one's work fails, then the second one's for good, and then all goes well."""
    batch = {"batch": {"type": "array"}}
    driver = Driver(plan_of(LOOPS, inputs=batch, outputs={"top": "top.value"}), {"batch": [3, 4]})
    driver.answer("each[0].do", failed())
    for result in (failed(), failed()):
        driver.answer("each[1].do", result)
        driver.wake(max(driver.wakes))
    for turn, value in ((1, 4), (0, 3)):
        driver.answer(f"each[{turn}].do", Done({"value": value}))
        driver.wake(max(driver.wakes))
    driver.answer("set", Done({"value": 8, "read_back": 8}))
    assert driver.run.outputs == {"top": 8}
    return driver


def record(driver: Driver) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in driver.events]


def test_loops_retries_and_pauses_come_out_the_same() -> None:
    driver = loop_run()
    assert replayed_run(driver.run.plan, record(driver)) == []


def test_an_expression_that_was_changed_is_told_with_what_it_gave_and_what_would_have_been_written() -> None:
    driver = loop_run()
    changed = {**LOOPS, "top": {**LOOPS["top"], "expression": "max(xs) + 1"}}
    plan = plan_of(changed, inputs={"batch": {"type": "array"}}, outputs={"top": "top.value"})

    differences = {difference.what: difference for difference in replayed_run(plan, record(driver))}

    assert differences.keys() == {"write servo/target", "top", "run"}
    assert (differences["write servo/target"].recorded, differences["write servo/target"].replayed) == (8, 9)


def test_a_record_that_was_tampered_with_does_not_come_out_the_same() -> None:
    driver = loop_run()
    events = record(driver)
    at = next(i for i, (_, data) in enumerate(events) if data.get("node") == "each[0].twice" and "outputs" in data)
    events[at] = (events[at][0], {**events[at][1], "outputs": {"value": 1000}})
    assert [difference.what for difference in replayed_run(driver.run.plan, events)] == ["each[0].twice"]


def test_outputs_that_were_not_recorded_are_named_and_nothing_is_made_up() -> None:
    driver = Driver(plan_of({"a": work()}))
    driver.answer("a", Done({"value": {"bytes": 100_000, "sha256": "0" * 64}}))
    (difference,) = replayed_run(driver.run.plan, record(driver))
    assert difference.what == "outputs too long to be recorded: a"


@pytest.mark.parametrize(
    ("kind", "what", "recorded", "replayed"),
    [
        ({"type": "derive", "tag": "line/top"}, "derive line/top", 3, 4),
        ({"type": "write", "tag": "servo/target"}, "write servo/target", 3, 4),
        (
            {"type": "call", "device": "servo", "function": "home"},
            "last",
            {"what": "node.executing", "inputs": {"value": 3}},
            {"what": "node.executing", "inputs": {"value": 4}},
        ),
        (
            {"type": "compute", "function": "fft"},
            "last",
            {"what": "node.executing", "inputs": {"value": 3}},
            {"what": "node.executing", "inputs": {"value": 4}},
        ),
    ],
)
def test_what_others_would_have_been_given_otherwise_is_told(
    kind: dict[str, Any], what: str, recorded: Any, replayed: Any
) -> None:
    def nodes(formula: str) -> dict[str, Any]:
        first = {"type": "expression", "expression": formula}
        # What it gives is used by nobody, so that nothing else differs.
        return {"first": first, "last": {**kind, "inputs": {"value": "first.value"}}}

    driver = Driver(plan_of(nodes("3")))
    driver.answer("last", Done({"value": 3} if kind["type"] in {"derive", "write"} else {}))
    differences = {difference.what: difference for difference in replayed_of(nodes("4"), driver)}

    assert differences.keys() == {"first", what}
    assert (differences[what].recorded, differences[what].replayed) == (recorded, replayed)
    assert replayed_of(nodes("3"), driver) == []


def replayed_of(nodes: dict[str, Any], driver: Driver) -> list[ReplayDifference]:
    return replayed_run(plan_of(nodes), record(driver))


def test_long_inputs_that_were_asked_with_are_compared_by_their_digest_and_a_run_with_long_inputs_says_so() -> None:
    feeds = {f"f{at}": work() for at in range(10)}
    driver = Driver(plan_of({**feeds, "last": work(inputs={name: f"{name}.value" for name in feeds})}))
    for name in feeds:
        driver.answer(name, Done({"value": "a" * 60_000}))
    driver.answer("last")
    told = [(type_, as_told(data)[0]) for type_, data in record(driver)]
    assert any(is_cut(data.get("inputs", {})) for _, data in told)
    assert replayed_run(driver.run.plan, told) == []

    short = Driver(plan_of({"a": work()}, inputs={"x": {"type": "string"}}), {"x": "a" * 100_000})
    short.answer("a")
    told = [(type_, as_told(data)[0]) for type_, data in record(short)]
    (difference,) = replayed_run(short.run.plan, told)
    assert difference.what.startswith("inputs")
