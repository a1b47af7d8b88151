"""A plant for pipelines that start by themselves: what happens in it, and what is told of the runs that follow."""

import time
from contextlib import asynccontextmanager

from contracts.v1.event import EVENT, Event, Events
from contracts.v1.frame import FRAME, Frame, Sample
from contracts.v1.pipeline import WORKSPACE
from contracts.v1.run import RunTrigger
from contracts.v1.tag import TAG, TagValue
from services.orchestrator.use_cases import RunOrder
from tests.integration.gateway_site import listening
from tests.real_bus import make_bus, running

AT_ONCE = {"out": {"type": "expression", "expression": "1"}}
ECHO = {"out": {"type": "expression", "expression": "x", "inputs": {"x": "trigger.value"}}}


def slow(duration="200ms"):
    return {"wait": {"type": "delay", "duration": duration}}


class Plant:
    """Publishes as a gateway does, and sees the runs that follow."""

    def __init__(self, bus, listener):
        self.bus = bus
        self.listener = listener
        self._seq = 0

    async def frame(self, value, *, group="fast"):
        self._seq += 1
        sample = Sample(t=1_000_000 + self._seq, v={"level": value})
        await self.bus.publish(
            FRAME, Frame(epoch=1, seq=self._seq, rev="r", samples=[sample]), device="pump", group=group
        )

    def skip(self, frames):
        """So many are never published."""
        self._seq += frames

    async def tag(self, value, q=192, ts=None):
        told = TagValue(value=value, ts=ts or int(time.time() * 1000), q=q, seen=1)
        await self.bus.publish(TAG, told, device="pump", tag="level")

    async def event(self, type_, *, device="servo", version=1):
        event = Event(
            id="0",
            aggregate="device",
            aggregate_id=device,
            scope="plant",
            version=version,
            type=type_,
            t=5,
            data={"n": 1},
        )
        told = Events(owner="gateway", epoch=1, seq=version, events=[event])
        await self.bus.publish(EVENT, told, scope="plant", aggregate="device", id=device)

    def events(self, *types):
        """What was told of runs, in order of their identifiers, which is that of their being accepted."""
        topics = [topic for topic in self.listener.heard if topic.startswith(("event/main/run/", "backfill/event/"))]
        told = [event for topic in topics for message in self.listener.heard[topic] for event in message["events"]]
        once = {event["id"]: event for event in told if event["type"] in types}  # some come out of the journal too
        return sorted(once.values(), key=lambda event: event["aggregate_id"])

    @property
    def begun(self):
        """The triggers of the runs that began."""
        return [event["data"]["trigger"] for event in self.events("run.started")]

    @property
    def outputs(self):
        told = (event["data"]["outputs"] for event in self.events("run.completed"))
        return [outputs["out"] for outputs in told if outputs]

    async def until_runs(self, count, timeout_s=30.0):
        await self.listener.until(lambda: len(self.events("run.completed")) >= count, timeout_s)


@asynccontextmanager
async def plant_of(broker):
    gateway = make_bus(broker, "gateway-bus")
    async with listening(broker) as listener, running(gateway):
        yield Plant(gateway, listener)


def order_of(name):
    return RunOrder(scope=WORKSPACE, pipeline=name, trigger=RunTrigger(kind="command", by="anna"))


def pipeline(trigger, nodes=None, **more):
    content = {"triggers": [trigger], "nodes": nodes or AT_ONCE, **more}
    return {**content, "outputs": {"out": "out.value"}} if "out" in content["nodes"] else content


async def saved(orchestrator, content, name="p"):
    """Returns once the pipeline's triggers listen."""
    await orchestrator.save(name, content)
    await orchestrator.orchestrator.triggers.settled()


def count(orchestrator, outcome, kind):
    return orchestrator.metric("trigger_firings_total", workspace=WORKSPACE, pipeline="p", kind=kind, outcome=outcome)


def told(plant, type_, name="p"):
    """The data of events of this type that were told of the pipeline's triggers."""
    messages = plant.listener.heard.get(f"event/main/pipeline/{name}", [])
    return [event["data"] for message in messages for event in message["events"] if event["type"] == type_]


def completed(plant):
    """For each run that came to its own end, the source time that triggered it, in order."""
    ended = {event["aggregate_id"] for event in plant.events("run.completed")}
    started = {event["aggregate_id"]: event["data"]["trigger"]["t"] for event in plant.events("run.started")}
    return sorted(started[run] for run in ended)


MAY_ACT = {
    "never": {"type": "condition", "when": "false"},
    "stroke": {"type": "call", "device": "servo", "function": "home", "after": ["never.then"]},
}
