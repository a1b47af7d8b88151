"""What is kept of a shadow's runs beside the live ones."""

from services.orchestrator.past.comparison import Comparisons, Course
from services.orchestrator.run.plan import Graph, Plan

PUMP = ("main", "pump")


def course(version: int, output: int) -> Course:
    plan = Plan(scope="main", pipeline="pump", version=version, rev="r", saved_by="anna", graph=Graph((), ()))
    return Course(f"r{version}", plan, [("run.completed", {"outputs": {"level": output}})])


def test_runs_of_earlier_versions_that_end_late_take_nothing_away() -> None:
    comparisons = Comparisons()
    comparisons.add(course(3, 1), course(4, 2))

    comparisons.add(course(1, 1), course(2, 1))

    kept = comparisons.get(PUMP, 3, 4)
    assert (kept.runs, [one.live for one in kept.differences]) == (1, [{"state": "completed", "outputs": {"level": 1}}])


def test_a_new_version_of_either_begins_anew() -> None:
    comparisons = Comparisons()
    comparisons.add(course(1, 1), course(2, 2))
    comparisons.add(course(1, 1), course(3, 1))

    kept = comparisons.get(PUMP, 1, 3)
    assert (kept.runs, list(kept.differences)) == (1, [])
