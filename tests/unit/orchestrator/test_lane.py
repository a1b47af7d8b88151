"""The way from what fires to its run, and tags of a pipeline's own."""

import asyncio
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contracts.v1.run import RunTrigger
from services.orchestrator.engine.executor import Work
from services.orchestrator.errors import NodeFailed, NotFound, TooManyPipelines
from services.orchestrator.nodes.tag import DeriveNodes
from services.orchestrator.triggers import lane as lanes
from services.orchestrator.triggers.lane import Lane
from services.orchestrator.triggers.trigger import Firing
from services.runtime.allowance import Allowance
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
        workspace="plant",
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
        workspace="plant",
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
    assert metrics.firings.labels("plant", "tank", "event", "held")._value.get() == 1
    assert metrics.firings.labels("plant", "tank", "event", "replaced")._value.get() == 12


class Places:
    """Begins the runs of a lane, unless all places are taken or there is none. handled: firings in their order."""

    def __init__(self, most, room):
        self.state = "free"
        self.offered, self.handled, self.going = 0, [], []
        self.metrics = Metrics(CollectorRegistry())
        self.most, self.room = most, room
        self.lane = Lane(
            workspace="plant",
            pipeline="tank",
            kind="tag",
            start=self.start,
            most=most,
            room=room,
            notice=SimpleNamespace(tell=lambda *_, **__: None),
            metrics=self.metrics,
        )

    def start(self, firing):
        if self.state == "taken":
            raise TooManyPipelines("every place is taken")
        self.handled.append(firing.values["n"])
        if self.state == "gone":
            raise NotFound("no such pipeline")
        self.going.append(asyncio.Event())
        return SimpleNamespace(over=self.going[-1])

    @property
    def waiting(self):
        replaced = self.metrics.firings.labels("plant", "tank", "tag", "replaced")._value.get()
        return self.offered - len(self.handled) - int(replaced)

    async def step(self, what):
        if what == "fire":
            self.lane.offer(Firing(trigger=RunTrigger(kind="tag"), values={"n": self.offered}))
            self.offered += 1
        elif what == "end":
            for over in self.going[:1]:
                self.going.remove(over)
                over.set()
        else:
            self.state = what
        for _ in range(10):  # who waits for an end, or for its next try, has its turn
            await asyncio.sleep(0)

    def check(self):
        assert self.handled == sorted(set(self.handled)), "in their order, none twice"
        assert len(self.going) <= self.most
        assert 0 <= self.waiting <= self.room
        assert self.lane.waits == bool(self.waiting)
        if self.state != "taken" and len(self.going) < self.most:
            assert not self.waiting, "none waits while there is a place"


@given(
    most=st.integers(1, 3),
    room=st.integers(0, 3),
    steps=st.lists(st.sampled_from(["fire", "fire", "fire", "end", "taken", "free", "gone"]), max_size=40),
)
def test_whatever_fires_and_ends_the_latest_are_run_in_order_and_what_they_replace_is_counted(most, room, steps):
    async def play():
        places = Places(most, room)
        for step in steps:
            await places.step(step)
            places.check()
        latest = list(range(places.offered))[places.offered - places.waiting :]
        await places.step("free")
        while places.going:
            await places.step("end")
            places.check()
        await places.lane.close()
        assert places.handled[len(places.handled) - len(latest) :] == latest, "those that waited were the newest"

    with patch.object(lanes, "AGAIN_S", 0.0):
        asyncio.run(play())


@pytest.mark.parametrize("value", [{"a": 1}, [1, "two"], [[1]]])
def test_a_derived_tag_of_a_value_that_no_tag_holds_fails_its_node(value):
    kept = []
    bus = SimpleNamespace(retain=lambda *given, **levels: kept.append(given))
    owners = SimpleNamespace(foreign=lambda _tag, _pipeline: None, on_device=lambda _listener: None)
    nodes = DeriveNodes(bus=bus, clock=SystemClock(), owners=owners, metrics=Metrics(CollectorRegistry()))
    node, plan = SimpleNamespace(tag="line/oee", unit=None), SimpleNamespace(scope="main", pipeline="oee")
    work = Work(
        run="r1", plan=plan, path="oee", node=node, formulas={}, inputs={"value": value}, left_s=1.0, request=None
    )

    with pytest.raises(NodeFailed, match="none of a tag"):
        nodes.at_once(work)

    assert kept == []
