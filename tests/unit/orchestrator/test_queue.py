"""The places of the engine, and the line before them."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.errors import TooManyPipelines
from services.orchestrator.run.queue import RunQueue

MAIN, OTHER = ("main", "pump"), ("main", "tank")


def test_a_run_begins_at_once_while_there_is_room_and_waits_in_line_after_that() -> None:
    queue = RunQueue(most_runs=2)
    assert [queue.offer(run, MAIN, most_runs=9, most_queued=9) for run in ("a", "b", "c", "d")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert queue.next() is None
    places = [queue.place(run) for run in ("b", "c", "d")]
    assert [place and place.position for place in places] == [None, 1, 2]

    queue.leave("a", seconds=2.0)
    assert queue.next() == "c"
    assert queue.next() is None


def test_the_expected_wait_follows_from_how_long_runs_have_taken() -> None:
    queue = RunQueue(most_runs=2)
    for run in ("a", "b"):
        queue.offer(run, MAIN, most_runs=9, most_queued=9)
    queue.offer("c", MAIN, most_runs=9, most_queued=9)
    place = queue.place("c")
    assert place is not None
    assert place.expected_wait_s is None

    queue.leave("a", seconds=4.0)
    queue.next()
    for run in ("d", "e", "f"):
        queue.offer(run, MAIN, most_runs=9, most_queued=9)
    waits = [place.expected_wait_s for run in ("d", "e", "f") if (place := queue.place(run))]
    assert waits == [4.0, 4.0, 8.0]


def test_a_pipeline_at_its_own_limit_lets_others_pass() -> None:
    queue = RunQueue(most_runs=3)
    queue.offer("a", MAIN, most_runs=1, most_queued=9)
    assert not queue.offer("b", MAIN, most_runs=1, most_queued=9)
    assert queue.offer("c", OTHER, most_runs=1, most_queued=9)
    assert queue.next() is None
    queue.leave("a", seconds=1.0)
    assert queue.next() == "b"


@pytest.mark.parametrize(("most_queued", "own"), [(1, 9), (9, 1)])
def test_a_full_line_refuses(most_queued: int, own: int) -> None:
    queue = RunQueue(most_runs=1, most_queued=most_queued)
    queue.offer("a", MAIN, most_runs=1, most_queued=own)
    queue.offer("b", MAIN, most_runs=1, most_queued=own)
    with pytest.raises(TooManyPipelines) as refused:
        queue.offer("c", MAIN, most_runs=1, most_queued=own)
    assert refused.value.detail == {"running": 1, "queued": 1}


def test_a_run_that_waits_no_more_gives_its_place_to_those_behind_it() -> None:
    queue = RunQueue(most_runs=1)
    for run in ("a", "b", "c"):
        queue.offer(run, MAIN, most_runs=1, most_queued=9)
    queue.leave("b")
    place = queue.place("c")
    assert place is not None
    assert place.position == 1
    assert list(queue.waiting()) == ["c"]


def test_a_run_that_is_a_node_of_another_waits_for_its_pipeline_alone_and_goes_before_those_in_line() -> None:
    queue = RunQueue(most_runs=1)
    queue.offer("outer", OTHER, most_runs=1, most_queued=9)
    queue.offer("in line", MAIN, most_runs=1, most_queued=9)
    assert queue.offer_inner("a", MAIN, most_runs=1)
    assert [queue.offer_inner(run, MAIN, most_runs=1) for run in ("b", "c")] == [False, False]
    place = queue.place("c")
    assert place is not None
    assert (place.position, place.expected_wait_s) == (2, None)
    assert queue.next() is None

    queue.leave("a", seconds=3.0)
    assert queue.next() == "b"
    place = queue.place("c")
    assert place is not None
    assert (place.position, place.expected_wait_s) == (1, 3.0)
    queue.leave("c")
    queue.leave("b", seconds=3.0)
    assert queue.next() is None, "the engine's one place is taken"
    queue.leave("outer", seconds=9.0)
    assert queue.next() == "in line"


def test_no_more_nodes_of_other_runs_wait_than_may_be_in_line() -> None:
    queue = RunQueue(most_queued=1)
    assert queue.offer_inner("a", MAIN, most_runs=1)
    assert not queue.offer_inner("b", MAIN, most_runs=1)
    with pytest.raises(TooManyPipelines) as refused:
        queue.offer_inner("c", MAIN, most_runs=1)
    assert refused.value.detail == {"running": 1, "queued": 1}


def test_runs_that_wait_hold_no_more_than_there_is_room_for() -> None:
    queue = RunQueue(most_runs=1, most_bytes=100)
    assert queue.offer("a", MAIN, most_runs=1, most_queued=9, size=1000), "one that runs does not count"
    assert not queue.offer("b", MAIN, most_runs=1, most_queued=9, size=60)
    assert not queue.offer_inner("c", MAIN, most_runs=1, size=40)
    with pytest.raises(TooManyPipelines, match="inputs of the 2 pipelines that wait"):
        queue.offer("d", OTHER, most_runs=1, most_queued=9, size=1)
    with pytest.raises(TooManyPipelines, match="inputs"):
        queue.offer_inner("d", MAIN, most_runs=1, size=1)

    queue.leave("b")
    assert not queue.offer("d", MAIN, most_runs=1, most_queued=9, size=60)
    queue.leave("a")
    assert queue.next() == "c"
    assert not queue.offer_inner("e", MAIN, most_runs=1, size=40)
    queue.leave("c")
    queue.leave("e")
    assert queue.next() == "d"
    assert not queue.offer("f", OTHER, most_runs=1, most_queued=9, size=100)


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=60))
def test_every_run_begins_once_in_the_order_of_its_pipeline_and_no_limit_is_passed(
    most_runs: int, happenings: list[tuple[int, bool, bool]]
) -> None:
    queue = RunQueue(most_runs=most_runs, most_queued=1000)
    limits = [1, 2, 5]
    offered: dict[str, list[str]] = defaultdict(list)
    begun: dict[str, list[str]] = defaultdict(list)
    running: list[str] = []

    def begin(run: str) -> None:
        kind, pipeline, _ = run.split("-")
        begun[kind + pipeline].append(run)
        running.append(run)
        assert sum(1 for other in running if other.startswith("line-")) == queue.running <= most_runs
        assert sum(1 for other in running if other.split("-")[1] == pipeline) <= limits[int(pipeline)]

    for number, (pipeline, comes, inner) in enumerate(happenings):
        if comes:
            run, name, most = f"{'inner' if inner else 'line'}-{pipeline}-{number}", str(pipeline), limits[pipeline]
            offered[run.rpartition("-")[0].replace("-", "")].append(run)
            if (
                queue.offer_inner(run, ("main", name), most_runs=most)
                if inner
                else queue.offer(run, ("main", name), most_runs=most, most_queued=1000)
            ):
                begin(run)
        elif running:
            queue.leave(running.pop(0), seconds=1.0)
        while (following := queue.next()) is not None:
            begin(following)
    while running:
        queue.leave(running.pop(0), seconds=1.0)
        while (following := queue.next()) is not None:
            begin(following)
    assert begun == offered
    assert len(queue) == queue.running == 0
