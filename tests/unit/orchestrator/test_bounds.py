"""What bounds the engine beside its queue: how often users may ask, what is used again, what is shown."""

import pytest
from annotated_types import Le
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.node import ONCE, ReadNode, Retry, WriteNode
from contracts.v1.run import MAX_RATE_HZ, RUN_EXPIRY_S
from services.compute.settings import ComputeSettings
from services.orchestrator.engine.engine import DRAIN_S
from services.orchestrator.engine.left_over import MOST_LEFT
from services.orchestrator.engine.showing import LINGER_S, Showings
from services.orchestrator.engine.tapes import Tapes
from services.orchestrator.errors import InvalidInputs
from services.orchestrator.run.carried import MOST_VALUE_BYTES, as_told
from services.orchestrator.run.inputs import filled_inputs
from services.orchestrator.run.node_cache import NodeCache, key_of
from services.orchestrator.run.run_state import short_values
from services.orchestrator.settings import OrchestratorSettings
from services.runtime import allowance
from services.runtime.allowance import Allowance
from tests.unit.orchestrator.run_driver import plan_of, work


def test_a_user_may_ask_in_a_burst_and_then_at_the_rate_whatever_others_do() -> None:
    allowed = Allowance(rate=2.0, burst=3)
    assert [allowed.spend("anna", 10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert allowed.spend("bert", 10.0) == 0
    assert allowed.spend("anna", 10.5) == 0


def test_all_runs_that_an_earlier_session_may_have_shown_find_room() -> None:
    fields = OrchestratorSettings.model_fields
    shown = sum(
        next(one.le for one in fields[name].metadata if isinstance(one, Le)) for name in ("shown_runs", "runs", "queue")
    )
    assert shown <= MOST_LEFT


def test_what_requirements_name_is_the_default() -> None:
    own = OrchestratorSettings()
    assert (own.runs, own.shown_runs, own.drain_runs) == (10, 1000, DRAIN_S) == (10, 1000, 30.0)
    assert own.drain_s > own.drain_runs * 4 / 3, "the service is not ended before its runs"
    assert (Retry().tries, Retry().factor) == (3, 2.0)
    assert ReadNode(type="read", tag="pump/level").retries == Retry()
    assert WriteNode(type="write", tag="pump/level").retries == ONCE, "what may have been done is not done again"
    assert ComputeSettings().timeout == 300.0


def test_users_that_have_not_asked_for_long_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "MOST_USERS", 2)
    allowed = Allowance(rate=1.0, burst=1)
    for user in ("anna", "bert", "carl"):
        assert allowed.spend(user, 0.0) == 0
    assert allowed.spend("anna", 0.0) == 0


def test_outputs_are_used_again_for_their_time_and_only_for_the_same_inputs() -> None:
    cache, plan = NodeCache(), plan_of({"a": work()})
    key = key_of(plan, "a", {"y": 2, "x": 1})
    cache.put(key, {"value": 5}, until_s=10.0)
    assert cache.get(key_of(plan, "a", {"x": 1, "y": 2}), 9.9) == {"value": 5}
    assert cache.get(key_of(plan, "a", {"x": 1, "y": 3}), 9.9) is None
    assert cache.get(key, 10.0) is None


def test_the_outputs_least_recently_used_go_first_by_number_and_by_length() -> None:
    plan = plan_of({"a": work()})
    keys = [key_of(plan, "a", {"x": at}) for at in range(3)]
    cache = NodeCache(most=2)
    for key in keys[:2]:
        cache.put(key, {"value": 1}, until_s=10.0)
    cache.get(keys[0], 0.0)
    cache.put(keys[2], {"value": 1}, until_s=10.0)
    assert [cache.get(key, 0.0) is None for key in keys] == [False, True, False]

    small = NodeCache(most_bytes=60)
    small.put(keys[0], {"value": "x" * 30}, until_s=10.0)
    small.put(keys[1], {"value": "x" * 30}, until_s=10.0)
    small.put(keys[2], {"value": "x" * 100}, until_s=10.0)
    assert [small.get(key, 0.0) is None for key in keys] == [True, False, True]


def test_inputs_are_checked_and_completed_with_their_defaults() -> None:
    ports = {
        "speed": {"type": "number", "range": [0, 10], "default": 1.0},
        "note": {"type": "string", "optional": True},
    }
    plan = plan_of({"a": work()}, inputs=ports)
    assert filled_inputs(plan, {}) == {"speed": 1.0, "note": None}
    assert filled_inputs(plan, {"speed": 2}) == {"speed": 2, "note": None}
    with pytest.raises(InvalidInputs, match=r"spead.*did you mean 'speed'.*'note'"):
        filled_inputs(plan, {"spead": 2, "note": 7})


def test_what_is_told_of_a_long_output_is_its_length_and_digest() -> None:
    told, _ = as_told({"node": "a", "outputs": {"value": [1.5] * MOST_VALUE_BYTES, "n": 3}})
    assert told["outputs"]["n"] == 3
    assert told["outputs"]["value"].keys() == {"bytes", "sha256"}


def test_a_shadow_has_outputs_of_its_own_to_use_again() -> None:
    cache, plan = NodeCache(), plan_of({"a": work()})
    cache.put(key_of(plan, "a", {}, shadow=True), {}, until_s=10.0)
    assert cache.get(key_of(plan, "a", {}), 1.0) is None


def test_the_tapes_of_runs_under_way_are_bounded_as_those_of_runs_that_are_over() -> None:
    tapes = Tapes(most_bytes=100, longest=60)
    for _ in range(50):
        tapes.record(("main", "long"), b"[1,2,3,4]", over=False)
    assert tapes.size <= 100
    for at in range(50):
        tapes.record(("main", f"r{at}"), b"[1,2,3,4]", over=False)
        assert tapes.size <= 100
    for at in range(50):
        tapes.record(("main", f"r{at}"), b"[]", over=True)
        tapes.record(("main", f"s{at}"), b"[]", over=True)
        assert tapes.size <= 100
    tapes.record(("main", "long"), b"[]", over=True)
    assert tapes.events(("main", "long")) is None
    assert tapes.events(("main", "s49")) == []


def test_what_is_shown_of_a_node_is_at_most_two_thousand_bytes() -> None:
    assert short_values({"value": [1] * 500}) == {"value": [1] * 500}
    assert short_values({"value": [1] * 1200}) is None


def test_a_run_that_is_over_at_once_is_shown_once() -> None:
    shown: Showings[str] = Showings()
    assert not shown.change("a", 0.0, active=True)
    assert shown.due(LINGER_S / 2) == []
    assert shown.change("a", LINGER_S / 2, active=False)
    assert shown.due(10.0) == []


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=60))
def test_a_run_is_shown_at_most_five_times_a_second_and_never_forgotten(steps: list[float]) -> None:
    shown: Showings[str] = Showings()
    now, times = 0.0, []
    for step in steps:
        now += step
        times += [now] * len(shown.due(now))
        shown.change("a", now, active=True)
    due = shown.next_due_s()
    assert due is not None
    times += [due] * len(shown.due(due))
    assert shown.change("a", due, active=False)
    times.append(due)
    for first in times:
        assert sum(1 for other in times if first <= other < first + 1 - 1e-9) <= MAX_RATE_HZ


def test_beyond_the_cap_the_least_recently_changed_goes_and_never_an_active_one() -> None:
    shown: Showings[str] = Showings(most=2)
    shown.change("active", 0.0, active=True)
    for key in ("a", "b", "c"):
        shown.change(key, 1.0, active=False)
    assert list(shown.surplus()) == ["a", "b"]
    shown.change("active", 2.0, active=False)
    shown.change("d", 2.0, active=False)
    assert list(shown.surplus()) == ["c"]


def test_an_active_run_is_shown_again_before_the_broker_forgets_it_and_one_that_is_over_is_forgotten_with_it() -> None:
    shown: Showings[str] = Showings()
    shown.change("long", 0.0, active=True)
    shown.change("over", 0.0, active=False)
    shown.due(1.0)
    assert shown.stale(RUN_EXPIRY_S / 2) == ["long"]
    assert shown.stale(RUN_EXPIRY_S / 2) == []
    assert shown.expired(RUN_EXPIRY_S + 1.0) == ["over"]
    assert len(shown) == 1
