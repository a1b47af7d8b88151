"""Alarms while the definition that raises them changes: renamed, dropped, unreadable, and while the disk refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.alarm import ACK_ALARM, AckAlarm
from contracts.v1.pipeline import WORKSPACE
from services.orchestrator.pipelines.version import Draft
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import Running, run_pipeline, running_orchestrator
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

HOT, WARM = "alarm/main/cooling/pump-hot", "alarm/main/cooling/pump-warm"
PASSED = {"nodes": {"passed": {"type": "expression", "expression": "1"}}}
REFUSALS = ("INSERT", "DELETE")


def alarmed(name: str = "pump-hot", *, after_s: float = 0, **more: Any) -> dict[str, Any]:
    """A pipeline with an alarm that is raised above 80. after_s: how long its runs take before they look."""
    alarm = {
        "type": "alarm",
        "alarm": name,
        "when": "x > 80",
        "inputs": {"x": "inputs.x"},
        "text": "Too hot",
        "after": ["wait"],
        **more,
    }
    nodes = {"wait": {"type": "delay", "duration": f"{round(after_s * 1000) or 1}ms"}, "hot": alarm}
    return {"inputs": {"x": {"type": "number"}}, "nodes": nodes, "outputs": {"active": "hot.active"}}


class Plant:
    """An orchestrator, somebody who asks it, and what is heard of it."""

    def __init__(self, site: Running, listener: Listener, otto: Any) -> None:
        self.site = site
        self.listener = listener
        self.otto = otto

    async def run(self, x: float, **more: Any) -> Any:
        outcome = await run_pipeline(self.otto, "cooling", {"x": x}, **more)
        assert outcome.result is not None, outcome.error
        return outcome.result

    async def raised(self) -> None:
        """Returns once `pump-hot` has been raised."""
        await self.site.save("cooling", alarmed())
        await self.run(90.0)
        await self.until(HOT, "active_unacked")

    async def until(self, topic: str, state: str) -> dict[str, Any]:
        await self.listener.until(lambda: self.listener.last(topic).get("state") == state)
        return dict(self.listener.last(topic))

    async def ack(self, name: str) -> None:
        outcome = await self.otto.request(ACK_ALARM, AckAlarm(), user="anna", scope=WORKSPACE, id=name)
        assert outcome.result is not None, outcome.error

    async def until_gone(self, topic: str) -> None:
        await self.listener.until(lambda: topic in self.listener.cleared)

    @property
    def states(self) -> dict[str, str]:
        return {alarm.alarm: alarm.state for alarm in self.site.orchestrator.alarms.all()}

    async def disk(self, *, refuses: bool) -> None:
        """Whether the disk refuses whatever concerns alarms."""
        statements = [
            f"CREATE TRIGGER no_{kind} BEFORE {kind} ON alarm BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            if refuses
            else f"DROP TRIGGER no_{kind}"
            for kind in REFUSALS
        ]
        database = self.site.orchestrator.repository._database
        for statement in statements:
            await database.transaction(lambda connection, statement=statement: connection.execute(statement))


@asynccontextmanager
async def plant(broker: Broker, folder: Path) -> AsyncIterator[Plant]:
    otto = make_bus(broker, "otto-tool")
    async with listening(broker) as listener, running(otto), running_orchestrator(broker, folder) as site:
        yield Plant(site, listener, otto)


async def test_the_old_name_of_a_renamed_alarm_clears_and_the_new_one_is_raised_by_the_next_run(
    broker: Broker, tmp_path: Path
) -> None:
    async with plant(broker, tmp_path) as here:
        await here.raised()

        await here.site.save("cooling", alarmed("pump-warm"))
        await here.until(HOT, "cleared_unacked")
        await here.run(90.0)
        await here.until(WARM, "active_unacked")
        await here.ack("pump-hot")
        await here.until_gone(HOT)

        assert here.states == {"pump-warm": "active_unacked"}


async def test_a_run_of_the_version_before_raises_no_alarm_that_the_live_one_has_not(
    broker: Broker, tmp_path: Path
) -> None:
    async with plant(broker, tmp_path) as here:
        await here.site.save("cooling", alarmed(after_s=1))
        late = asyncio.create_task(here.run(90.0))
        await here.listener.until(lambda: any(topic.startswith("run/main/cooling/") for topic in here.listener.heard))

        await here.site.save("cooling", PASSED)
        accepted = await late

        assert accepted.outputs == {"active": False}
        assert here.states == {}


async def test_an_acknowledged_alarm_stays_so_when_its_text_and_priority_change(broker: Broker, tmp_path: Path) -> None:
    async with plant(broker, tmp_path) as here:
        await here.site.save("cooling", alarmed())
        await here.run(90.0)
        await here.ack("pump-hot")

        await here.site.save("cooling", alarmed(text="Call the fitter", priority=1))
        await here.run(91.0)
        await here.listener.until(lambda: here.listener.last(HOT)["text"] == "Call the fitter")

    shown = here.listener.last(HOT)
    assert (shown["state"], shown["priority"], shown["acked_by"]) == ("active_acked", 1, "anna")


async def test_alarms_of_a_version_that_this_release_cannot_read_stay_through_a_restart(
    broker: Broker, tmp_path: Path
) -> None:
    async with plant(broker, tmp_path) as here:
        await here.raised()
        text = "pipeline: cooling\nnodes: {x: {type: of-another-release}}\n"
        draft = Draft(scope=WORKSPACE, pipeline="cooling", text=text, rev="0")
        await here.site.orchestrator.repository.save(draft, by="anna", at_ms=1)
        assert here.states == {"pump-hot": "active_unacked"}

    async with plant(broker, tmp_path) as after:
        assert after.states == {"pump-hot": "active_unacked"}


@pytest.mark.parametrize("again", [True, False])
async def test_an_alarm_that_is_dropped_while_the_disk_refuses_is_there_after_a_restart_only_if_it_was_made_anew(
    broker: Broker, tmp_path: Path, again: bool
) -> None:
    async with plant(broker, tmp_path) as here:
        await here.raised()

        await here.disk(refuses=True)
        await here.site.save("cooling", PASSED)
        await here.until(HOT, "cleared_unacked")
        await here.ack("pump-hot")
        await here.until_gone(HOT)
        if again:
            await here.site.save("cooling", alarmed())
            await here.run(95.0)
            await here.until(HOT, "active_unacked")
        await here.disk(refuses=False)

    async with plant(broker, tmp_path) as after:
        assert after.states == ({"pump-hot": "active_unacked"} if again else {})
