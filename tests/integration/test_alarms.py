"""Alarms over a real broker: what people see of them, what they may do, and what a restart leaves."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from contracts.v1.alarm import ACK_ALARM, SHELVE_ALARM, UNSHELVE_ALARM, AckAlarm, ShelveAlarm, UnshelveAlarm
from contracts.v1.node import AlarmNode
from services.orchestrator.alarms.alarms import Alarms
from services.orchestrator.alarms.store import AlarmStore
from services.orchestrator.desks.alarms import AlarmDesk
from services.runtime.commands.book import CommandBook
from tests.integration.gateway_site import listening
from tests.integration.orchestrator_parts import orchestrator_parts
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.real_bus import make_bus, running

TOPIC = "alarm/main/cooling/pump-hot"
EVENTS = "event/main/alarm/pump-hot"


@dataclass
class Origin:
    scope: str = "main"
    pipeline: str = "cooling"


def node(**more):
    return AlarmNode(
        type="alarm",
        alarm="pump-hot",
        priority=2,
        when="x > 80",
        text="Pump too hot",
        limit=80,
        **{"delay": "0s"} | more,
    )


@dataclass
class Site:
    alarms: Alarms
    listener: object
    otto: object

    def see(self, x, *, origin=None, **more):
        """A run has evaluated `x > 80`, with `x < 75` to clear it."""
        return self.alarms.observe(origin or Origin(), node(**more), raised=x > 80, cleared=x < 75, value=x)

    async def ask(self, command, payload, name="pump-hot"):
        return await self.otto.request(command, payload, user="otto", scope="main", id=name)

    def events(self):
        return [event for message in self.listener.heard[EVENTS] for event in message["events"]]

    async def until_state(self, *states):
        await self.listener.until(lambda: self.listener.last(TOPIC).get("state") in states)
        return self.listener.last(TOPIC)


@asynccontextmanager
async def site(broker, folder):
    async with listening(broker) as listener, orchestrator_parts(broker, folder) as parts:
        alarms = Alarms(
            bus=parts.bus,
            events=parts.events,
            store=AlarmStore(database=parts.database),
            clock=parts.clock,
            log=parts.log,
        )
        await alarms.open()
        book = CommandBook(folder / "commands", clock=parts.clock, metrics=parts.metrics, log=parts.log)
        AlarmDesk(alarms=alarms, bus=parts.bus, book=book, clock=parts.clock)
        await parts.bus.settled()
        await parts.start(book)
        await parts.start(alarms)
        yield Site(alarms, listener, await parts.caller(broker, "otto"))


@pytest.fixture
async def plant(broker, tmp_path):
    async with site(broker, tmp_path / "data") as running:
        yield running


async def test_an_alarm_is_shown_from_raise_to_acknowledgement_with_who_and_why(plant):
    plant.see(90.5)
    raised = await plant.until_state("active_unacked")
    acked = await plant.ask(ACK_ALARM, AckAlarm(comment="on my way"))
    plant.see(70.0)
    await plant.until_state("normal")
    await plant.listener.until(lambda: len(plant.events()) >= 3)

    assert (raised["priority"], raised["text"], raised["value"], raised["limit"]) == (2, "Pump too hot", 90.5, 80)
    assert (acked.result.state, acked.result.acked_by) == ("active_acked", "otto")
    assert [(event["type"], event.get("user")) for event in plant.events()] == [
        ("alarm.raised", None),
        ("alarm.acked", "otto"),
        ("alarm.cleared", None),
    ]
    assert plant.events()[1]["data"]["comment"] == "on my way"


async def test_between_the_two_limits_it_stays_as_it_is(plant):
    assert not plant.see(78.0)
    assert plant.see(81.0)
    assert plant.see(78.0)
    assert not plant.see(74.0)
    assert not plant.see(78.0)


async def test_what_has_cleared_stays_until_somebody_has_seen_it(plant):
    plant.see(90.0)
    plant.see(70.0)
    await plant.until_state("cleared_unacked")

    await plant.ask(ACK_ALARM, AckAlarm())

    await plant.until_state("normal")


async def test_a_delayed_alarm_is_raised_though_no_run_evaluates_it_again(plant):
    assert not plant.see(90.0, delay="50ms")

    await plant.until_state("active_unacked")


async def test_a_peak_shorter_than_the_delay_raises_nothing(plant):
    plant.see(90.0, delay="30s")
    plant.see(78.0, delay="30s")
    await plant.until_state("normal")

    assert plant.events() == []


async def test_a_shelved_alarm_says_until_when_and_comes_back_by_itself(plant):
    plant.see(90.0)
    await plant.until_state("active_unacked")

    shelved = await plant.ask(SHELVE_ALARM, ShelveAlarm(for_s=0.2, comment="sensor is being changed"))
    assert shelved.result.shelved_until is not None
    await plant.listener.until(lambda: "shelved_until" not in plant.listener.last(TOPIC))

    await plant.listener.until(lambda: len(plant.events()) >= 3)
    assert [event["type"] for event in plant.events()] == ["alarm.raised", "alarm.shelved", "alarm.unshelved"]


async def test_a_shelving_can_be_taken_back(plant):
    plant.see(70.0)
    await plant.ask(SHELVE_ALARM, ShelveAlarm(for_s=3600))

    back = await plant.ask(UNSHELVE_ALARM, UnshelveAlarm())

    assert back.result.shelved_until is None
    assert "shelved_until" not in (await plant.until_state("normal"))


@pytest.mark.parametrize(
    ("command", "payload", "name", "code", "said"),
    [
        (ACK_ALARM, AckAlarm(), "pump-hot", "conflict", "nothing to acknowledge: it is normal"),
        (UNSHELVE_ALARM, UnshelveAlarm(), "pump-hot", "conflict", "not shelved"),
        (ACK_ALARM, AckAlarm(), "other", "not_found", "no alarm 'other'"),
    ],
)
async def test_what_cannot_be_done_with_an_alarm_is_refused(plant, command, payload, name, code, said):
    plant.see(70.0)

    outcome = await plant.ask(command, payload, name)

    assert outcome.error.code == code
    assert said in outcome.error.message


async def test_an_acknowledgement_counts_for_the_alarm_of_that_name_in_every_pipeline_of_the_workspace(plant):
    plant.see(90.0)
    plant.see(90.0, origin=Origin(pipeline="heating"))

    await plant.ask(ACK_ALARM, AckAlarm())

    await plant.until_state("active_acked")
    await plant.listener.until(
        lambda: plant.listener.last("alarm/main/heating/pump-hot").get("state") == "active_acked"
    )


async def test_alarms_are_the_same_after_a_restart(broker, tmp_path):
    async with site(broker, tmp_path / "data") as before:
        before.see(90.0)
        before.see(70.0)
        before.see(90.0, origin=Origin(pipeline="heating"))
        await before.until_state("cleared_unacked")
        await before.ask(SHELVE_ALARM, ShelveAlarm(for_s=3600))
        told = before.alarms.all()
    broker.kill()  # what it retained is gone
    broker.start()

    async with site(broker, tmp_path / "data") as after:
        assert sorted(after.alarms.all(), key=str) == sorted(told, key=str)
        shown = await after.until_state("cleared_unacked")
        assert shown["shelved_until"]

        await after.ask(ACK_ALARM, AckAlarm())

        assert (await after.until_state("normal"))["acked_by"] == "otto"


async def test_a_delay_goes_on_through_a_restart(broker, tmp_path):
    async with site(broker, tmp_path / "data") as before:
        before.see(90.0, delay="1s")
        await before.until_state("normal")

    async with site(broker, tmp_path / "data") as after:
        await after.until_state("active_unacked")


async def test_an_alarm_whose_pipeline_is_gone_stays_until_it_is_acknowledged_and_then_goes(broker, tmp_path):
    async with site(broker, tmp_path / "data") as plant:
        plant.see(90.0)
        await plant.until_state("active_unacked")

        plant.alarms.follow("main", "cooling", ())
        await plant.until_state("cleared_unacked")
        await plant.ask(ACK_ALARM, AckAlarm())
        await plant.listener.until(lambda: TOPIC in plant.listener.cleared)

    async with site(broker, tmp_path / "data") as after:
        assert after.alarms.all() == []


async def test_alarms_that_the_pipeline_still_has_stay_as_they_are(plant):
    plant.see(90.0)
    await plant.until_state("active_unacked")

    plant.alarms.follow("main", "cooling", {"pump-hot"})
    plant.alarms.follow("main", "another", ())

    assert [one.state for one in plant.alarms.all()] == ["active_unacked"]


async def test_an_alarm_is_told_though_the_disk_refuses_it_and_kept_when_it_takes_it_again(
    broker, tmp_path, monkeypatch
):
    async with site(broker, tmp_path / "data") as plant:
        plant.see(70.0)
        await plant.until_state("normal")
        store = plant.alarms._store
        database = store._database
        await database.transaction(
            lambda connection: connection.execute(
                "CREATE TRIGGER full BEFORE INSERT ON alarm BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            )
        )

        plant.see(90.0)
        await plant.until_state("active_unacked")
        await database.transaction(lambda connection: connection.execute("DROP TRIGGER full"))

    async with site(broker, tmp_path / "data") as after:
        assert [one.state for one in after.alarms.all()] == ["active_unacked"]


ALARMED = {
    "inputs": {"x": {"type": "number"}},
    "nodes": {
        "hot": {
            "type": "alarm",
            "alarm": "pump-hot",
            "priority": 1,
            "when": "x > limit",
            "clear": "x < limit - 5",
            "inputs": {"x": "inputs.x"},
            "constants": {"limit": 80.0},
            "limit": 80.0,
            "text": "Pump too hot",
        }
    },
    "outputs": {"active": "hot.active"},
}


async def test_a_pipelines_runs_raise_and_clear_its_alarm_and_its_deletion_clears_it(broker, tmp_path):
    otto = make_bus(broker, "otto-tool")
    async with listening(broker) as listener, running(otto), running_orchestrator(broker, tmp_path) as site:
        await site.save("cooling", ALARMED)
        outcomes = [await run_pipeline(otto, "cooling", {"x": x}) for x in (79.0, 81.0, 78.0, 74.0, 90.0)]
        await listener.until(lambda: listener.last(TOPIC).get("state") == "active_unacked")
        await site.orchestrator.repository.delete("main", "cooling", by="anna", at_ms=1)
        await listener.until(lambda: listener.last(TOPIC).get("state") == "cleared_unacked")

    assert [outcome.result.outputs["active"] for outcome in outcomes] == [False, True, True, False, True]
    assert listener.last(TOPIC)["limit"] == 80.0
