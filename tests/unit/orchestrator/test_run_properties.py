"""What holds of every run: of random graphs, with work that ends in any order, well or not."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.run import NodeStatus, RunStatus
from services.orchestrator.run.orders import Done, Start
from services.orchestrator.run.passage import SETTLED
from services.orchestrator.run.replay import replayed
from tests.unit.orchestrator.run_driver import Driver, failed, plan_of, work

ENDED = {"node.completed", "node.failed", "node.skipped"}


@dataclass(frozen=True)
class Fate:
    """A node as it was drawn. fails: how often its work fails before it goes well. needs: node and branch."""

    name: str
    needs: tuple[tuple[str, str | None], ...]
    joins_any: bool
    branch: str | None  # of a condition, the one it takes
    fails: int
    tries: int
    on_error: str


@st.composite
def graphs(draw: st.DrawFn, *, on_errors: tuple[str, ...]) -> list[Fate]:
    fates: list[Fate] = []
    for at in range(draw(st.integers(1, 9))):
        needs = []
        for other in draw(st.lists(st.sampled_from(fates), max_size=3, unique=True)) if fates else []:
            branch = draw(st.sampled_from(("then", "else", None))) if other.branch else None
            needs.append((other.name, branch))
        fates.append(
            Fate(
                name=f"n{at}",
                needs=tuple(needs),
                joins_any=draw(st.booleans()),
                branch=draw(st.sampled_from((None, None, "then", "else"))),
                fails=draw(st.sampled_from((0, 0, 0, 1, 2))),
                tries=draw(st.integers(1, 2)),
                on_error=draw(st.sampled_from(on_errors)),
            )
        )
    return fates


def definition(fates: list[Fate]) -> dict[str, Any]:
    nodes = {}
    for fate in fates:
        common = {
            "after": [other if branch is None else f"{other}.{branch}" for other, branch in fate.needs],
            "join": "any" if fate.joins_any else "all",
        }
        if fate.branch:
            nodes[fate.name] = {"type": "condition", "when": "1 < 2" if fate.branch == "then" else "2 < 1", **common}
        else:
            default = {"default": {"value": 0}} if fate.on_error == "default" else {}
            retry = {"tries": fate.tries, "first": "1s"}
            nodes[fate.name] = work(**common, on_error=fate.on_error, retry=retry, **default)
    return nodes


def fates_by_oracle(fates: list[Fate]) -> dict[str, str]:
    """What becomes of each node if nothing fails the run: by looking at what it needs, one after the other."""
    states: dict[str, str] = {}
    branches = {fate.name: fate.branch for fate in fates}
    for fate in fates:
        taken = [states[other] == "done" and branch in {None, branches[other]} for other, branch in fate.needs]
        runs = not taken or (any(taken) if fate.joins_any else all(taken))
        goes_well = fate.branch is not None or fate.fails < fate.tries or fate.on_error == "default"
        states[fate.name] = "done" if runs and goes_well else "skipped"
    return states


def drive(fates: list[Fate], data: st.DataObject) -> Driver:
    """Ends the work in any order, each as often badly as was drawn, until the run is over."""
    driver = Driver(plan_of(definition(fates)))
    left = {fate.name: fate.fails for fate in fates}
    while not driver.run.over:
        for path in driver.under_way:
            assert_started_in_order(driver, driver.calls[path][0])
        choices = [*driver.under_way, *driver.wakes]
        assert choices, f"stuck: {driver.states}"
        chosen = data.draw(st.sampled_from(choices))
        if isinstance(chosen, int):
            driver.wake(chosen)
        else:
            left[chosen] -= 1
            driver.answer(chosen, failed() if left[chosen] >= 0 else Done({"value": 1}))
    return driver


def assert_started_in_order(driver: Driver, start: Start) -> None:
    top = driver.run.top
    step = next(step for step in top.graph.steps if step.name == start.path)
    assert all(top.marks[need.step].status in SETTLED for need in step.needs)


def assert_every_node_ended_once(driver: Driver, fates: list[Fate]) -> None:
    told = [(event.type, event.data["node"]) for event in driver.events if event.type.startswith("node.")]
    for fate in fates:
        ends = [type_ for type_, node in told if node == fate.name and type_ in ENDED]
        assert len(ends) == 1, ends
        assert [type_ for type_, node in told if node == fate.name].count("node.executing") <= 1
    assert all(mark.status in SETTLED for mark in driver.run.top.marks)
    assert [event.type for event in driver.events].count("run.started") == 1
    assert driver.events[-1].type == f"run.{'completed' if driver.run.status is RunStatus.DONE else driver.run.status}"


@given(graphs(on_errors=("skip", "default")), st.data())
def test_every_node_ends_once_as_a_look_at_the_graph_tells_and_the_run_is_never_stuck(
    fates: list[Fate], data: st.DataObject
) -> None:
    driver = drive(fates, data)

    assert driver.run.status is RunStatus.DONE
    assert driver.states == fates_by_oracle(fates)
    assert_every_node_ended_once(driver, fates)
    assert driver.under_way == []
    assert driver.wakes == {}


@given(graphs(on_errors=("skip", "default", "fail")), st.data())
def test_a_run_that_fails_leaves_nothing_under_way_and_no_node_open(fates: list[Fate], data: st.DataObject) -> None:
    driver = drive(fates, data)

    assert_every_node_ended_once(driver, fates)
    assert driver.under_way == []
    failures = [mark for mark in driver.run.top.marks if mark.status is NodeStatus.FAILED]
    assert (driver.run.status is RunStatus.FAILED) == bool(failures)


@given(graphs(on_errors=("skip", "default", "fail")), st.data())
def test_a_run_can_be_cancelled_at_any_moment(fates: list[Fate], data: st.DataObject) -> None:
    driver = Driver(plan_of(definition(fates)))
    for _ in range(data.draw(st.integers(0, 4))):
        if driver.under_way:
            driver.answer(data.draw(st.sampled_from(driver.under_way)), Done({"value": 1}))
    over = driver.run.over
    failure = Failure(code=ErrorCode.CANCELLED, message="by anna")
    driver.take(driver.run.end(RunStatus.CANCELLED, failure, driver.now_us))

    assert driver.run.over
    assert over or driver.run.status is RunStatus.CANCELLED
    assert_every_node_ended_once(driver, fates)
    assert driver.under_way == []


@given(graphs(on_errors=("skip", "default", "fail")), st.data())
def test_a_run_gone_through_again_from_its_events_is_the_same(fates: list[Fate], data: st.DataObject) -> None:
    driver = drive(fates, data)
    recorded = [(event.type, event.data) for event in driver.events]

    assert replayed(plan_of(definition(fates)), recorded) == []
