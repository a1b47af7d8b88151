"""Runs gone through again from their events."""

from typing import Any

from services.orchestrator.orders import Done
from services.orchestrator.replay import replayed
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
    assert replayed(driver.run.plan, record(driver)) == []


def test_an_expression_that_was_changed_is_told_with_what_it_gave_and_what_would_have_been_written() -> None:
    driver = loop_run()
    changed = {**LOOPS, "top": {**LOOPS["top"], "expression": "max(xs) + 1"}}
    plan = plan_of(changed, inputs={"batch": {"type": "array"}}, outputs={"top": "top.value"})

    differences = {difference.what: difference for difference in replayed(plan, record(driver))}

    assert differences.keys() == {"write servo/target", "top", "run"}
    assert (differences["write servo/target"].recorded, differences["write servo/target"].replayed) == (8, 9)


def test_a_record_that_was_tampered_with_does_not_come_out_the_same() -> None:
    driver = loop_run()
    events = record(driver)
    at = next(i for i, (_, data) in enumerate(events) if data.get("node") == "each[0].twice" and "outputs" in data)
    events[at] = (events[at][0], {**events[at][1], "outputs": {"value": 1000}})
    assert [difference.what for difference in replayed(driver.run.plan, events)] == ["each[0].twice"]


def test_outputs_that_were_not_recorded_are_named_and_nothing_is_made_up() -> None:
    driver = Driver(plan_of({"a": work()}))
    driver.answer("a", Done({"value": {"bytes": 100_000, "sha256": "0" * 64}}))
    (difference,) = replayed(driver.run.plan, record(driver))
    assert difference.what == "outputs too long to be recorded: a"
