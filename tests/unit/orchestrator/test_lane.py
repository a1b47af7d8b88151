"""The way from what fires to its run, and tags of a pipeline's own."""

import asyncio
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from contracts.v1.run import RunTrigger
from services.orchestrator.allowance import Allowance
from services.orchestrator.engine.executor import Work
from services.orchestrator.errors import NodeFailed
from services.orchestrator.nodes.tag import DeriveNodes
from services.orchestrator.triggers.lane import Lane
from services.orchestrator.triggers.trigger import Firing
from services.runtime.clock import SystemClock
from services.runtime.metrics import Metrics


async def test_a_firing_whose_start_crashes_is_not_tried_again_and_does_not_hold_up_the_next():
    tried = []

    def start(firing):
        tried.append(firing.values["n"])
        if firing.values["n"] == 0:
            raise ZeroDivisionError
        return SimpleNamespace(over=asyncio.Event())

    lane = Lane(
        pipeline="tank",
        kind="every",
        start=start,
        most=10,
        room=10,
        notice=SimpleNamespace(),
        metrics=Metrics(CollectorRegistry()),
    )
    with pytest.raises(ZeroDivisionError):
        lane.offer(Firing(trigger=RunTrigger(kind="every"), values={"n": 0}))
    lane.offer(Firing(trigger=RunTrigger(kind="every"), values={"n": 1}))
    await lane.close()

    assert tried == [0, 1]


async def test_what_fires_without_end_starts_runs_no_more_often_than_it_may():
    begun = []

    def start(firing):
        begun.append(firing.values["n"])
        return SimpleNamespace(over=asyncio.Event())

    metrics = Metrics(CollectorRegistry())
    lane = Lane(
        pipeline="tank",
        kind="event",
        start=start,
        most=1000,
        room=5,
        allowance=Allowance(rate=0.001, burst=3),
        notice=SimpleNamespace(),
        metrics=metrics,
    )
    for n in range(20):
        lane.offer(Firing(trigger=RunTrigger(kind="event"), values={"n": n}))
    await lane.close()

    assert begun == [0, 1, 2]
    assert metrics.firings.labels("tank", "event", "held")._value.get() == 1
    assert metrics.firings.labels("tank", "event", "replaced")._value.get() == 12


@pytest.mark.parametrize("value", [{"a": 1}, [1, "two"], [[1]]])
def test_a_derived_tag_of_a_value_that_no_tag_holds_fails_its_node(value):
    kept = []
    bus = SimpleNamespace(retain=lambda *given, **levels: kept.append(given))
    nodes = DeriveNodes(bus=bus, clock=SystemClock())
    node = SimpleNamespace(tag="line/oee", unit=None)
    work = Work(
        run="r1", plan=None, path="oee", node=node, formulas={}, inputs={"value": value}, left_s=1.0, request=None
    )

    with pytest.raises(NodeFailed, match="none of a tag"):
        nodes.at_once(work)

    assert kept == []
