"""Events of a service over a real mosquitto and a real journal: numbered, in order, none lost without the broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from contracts.codec import ContractError
from contracts.v1.event import EVENT, Events
from services.runtime import event_log
from services.runtime.clock import SystemClock
from services.runtime.event_log import EventLog, Subject
from services.runtime.journal import Journal
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.versions import Versions
from tests.conftest import Eventually
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running


@asynccontextmanager
async def logging_events(broker: Broker, folder: Path, name: str = "gateway") -> AsyncIterator[tuple[EventLog, Any]]:
    """A running event log and its bus; the journal is closed behind it."""
    clock, metrics = SystemClock(), Metrics(CollectorRegistry())
    bus = make_bus(broker, f"{name}-bus")
    journal = Journal.open(folder, clock=clock, metrics=metrics)
    log = EventLog(
        site=SITE,
        instance=name,
        bus=bus,
        journal=journal,
        versions=Versions(folder / "versions"),
        clock=clock,
        metrics=metrics,
        log=Log(None, [], {}),
        random=Random(1),
    )
    async with running(bus):
        task = asyncio.create_task(log.run())
        try:
            yield log, bus
        finally:
            await log.stop()
            await task
    journal.close()


@asynccontextmanager
async def hearing(broker: Broker) -> AsyncIterator[Inbox]:
    inbox, bus = Inbox(), make_bus(broker, "listener")
    bus.subscribe(EVENT, inbox.handle)
    async with running(bus):
        yield inbox


def told(inbox: Inbox) -> list[Any]:
    return [event for message in inbox.payloads for event in message.events]


async def test_an_event_arrives_with_who_what_and_why(broker: Broker, tmp_path: Path, eventually: Eventually) -> None:
    async with hearing(broker) as inbox, logging_events(broker, tmp_path) as (log, _):
        accepted = log.tell("write.accepted", aggregate="device", id="pump", user="anna", data={"value": 5.0})
        log.tell("write.done", aggregate="device", id="pump", user="anna", cause=accepted)
        log.tell("online", aggregate="device", id="servo")
        await eventually(lambda: len(told(inbox)) == 3)

    first, second, third = told(inbox)
    assert (first.type, first.user, first.data, str(UUID(first.id))) == (
        "write.accepted", "anna", {"value": 5.0}, accepted,
    )  # fmt: skip
    assert (second.cause, second.version) == (accepted, 2)
    assert (third.aggregate_id, third.version, third.user) == ("servo", 1, None)
    topics = [delivery.topic.split("/", 3)[3] for delivery in inbox if delivery.payload.events]
    assert topics == ["event/plant/device/pump", "event/plant/device/pump", "event/plant/device/servo"]


async def test_events_of_one_message_follow_from_each_other_and_say_when_they_happened(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with hearing(broker) as inbox, logging_events(broker, tmp_path) as (log, _):
        pump = Subject(scope="plant", aggregate="device", id="pump")
        step: list[tuple[str, dict[str, Any]]] = [("write.verified", {}), ("write.done", {})]
        last = log.tell_step(pump, step, cause="word", times_us=[1_000_000, 1_000_002])
        log.tell("online", aggregate="device", id="pump")
        await eventually(lambda: len(told(inbox)) == 3)

    verified, done, online = told(inbox)
    assert len([message for message in inbox.payloads if message.events]) == 2
    assert (verified.cause, done.cause, done.id) == ("word", verified.id, last)
    assert [verified.version, done.version, online.version] == [1, 2, 3]
    assert (verified.t, done.t) == (1_000_000, 1_000_002)


async def test_the_stream_is_numbered_without_gaps_and_says_where_the_epoch_before_ended(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with hearing(broker) as inbox:
        for _ in range(2):
            async with logging_events(broker, tmp_path) as (log, _bus):
                log.tell("online", aggregate="device", id="pump")
        await eventually(lambda: sum(bool(message.closed) for message in inbox.payloads) == 2)

    messages: list[Events] = inbox.payloads
    epochs = sorted({message.epoch for message in messages})
    first, second = ([message for message in messages if message.epoch == epoch] for epoch in epochs)
    for stream in (first, second):
        assert [message.seq for message in stream] == list(range(1, len(stream) + 1))
        assert [message.closed for message in stream] == [None] * (len(stream) - 1) + [True]
    assert first[0].prev is None
    assert second[0].prev is not None
    assert (second[0].prev.epoch, second[0].prev.last_seq) == (epochs[0], first[-1].seq)
    assert [event.version for event in told(inbox)] == [1, 2], "versions go on over a restart"


async def test_events_told_while_the_broker_is_away_come_afterwards_in_order(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with hearing(broker) as inbox, logging_events(broker, tmp_path) as (log, bus):
        log.tell("online", aggregate="device", id="pump")
        await eventually(lambda: len(told(inbox)) == 1)
        broker.kill()
        await eventually(lambda: not bus.connected)
        for number in range(20):
            log.tell("away", aggregate="device", id="pump", data={"number": number})
        broker.start()
        await eventually(lambda: len(told(inbox)) >= 21)

    assert [event.version for event in told(inbox)] == list(range(1, 22))


async def test_a_stream_with_nothing_to_say_sends_an_empty_message(
    broker: Broker, tmp_path: Path, eventually: Eventually, monkeypatch: Any
) -> None:
    monkeypatch.setattr(event_log, "SILENCE_S", 0.05)
    async with hearing(broker) as inbox, logging_events(broker, tmp_path):
        await eventually(lambda: len(inbox) >= 2)

    assert inbox.topics[0] == "event/plant/service/gateway"
    assert not told(inbox)


async def test_what_was_told_is_in_the_journal_before_it_is_sent(broker: Broker, tmp_path: Path) -> None:
    async with logging_events(broker, tmp_path) as (log, _):
        log.tell("online", aggregate="device", id="pump")
        (epoch,) = log._journal.epochs("event", "gateway", "main")
        assert list(log._journal.held("event", "gateway", "main", epoch)) == [(1, 1)]
        ((seq, data),) = log._journal.read("event", "gateway", "main", epoch, 1, 1)

    assert seq == 1
    assert Events.model_validate_json(data).events[0].type == "online"


async def test_what_is_no_message_takes_no_number_so_that_there_is_no_gap(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with hearing(broker) as inbox, logging_events(broker, tmp_path) as (log, _):
        log.tell("online", aggregate="device", id="pump")
        with pytest.raises(ContractError, match="over the bound"):
            log.tell("read.done", aggregate="device", id="pump", data={"value": "a" * (1 << 20)})
        with pytest.raises(ValueError, match="serialize"):
            log.tell("read.done", aggregate="device", id="pump", data={"value": object()})
        log.tell("offline", aggregate="device", id="pump")
        await eventually(lambda: len(told(inbox)) == 2)

    assert [event.version for event in told(inbox)] == [1, 2]
    assert [message.seq for message in inbox.payloads][:2] == [1, 2]


async def test_an_aggregate_is_forgotten_only_when_its_last_event_is_in_the_journal(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Subject(scope="main", aggregate="run", id="r1")
    async with logging_events(broker, tmp_path) as (log, _):
        log.tell_step(run, [("run.started", {})])
        with monkeypatch.context() as killed:
            killed.setattr(log._journal, "append", _die)
            with pytest.raises(_Killed):
                log.tell_step(run, [("run.completed", {})], over=True)
        (tmp_path / "after").write_bytes((tmp_path / "versions").read_bytes())
        log.tell_step(run, [("run.completed", {})], over=True)
        assert log.open_of("run") == []

    with closing(Versions(tmp_path / "after")) as left:
        assert (left.open_of(), left.last("main/run/r1")) == (["main/run/r1"], 1)
    with closing(Versions(tmp_path / "versions")) as left:
        assert left.open_of() == []


class _Killed(Exception):
    """Stands for the process's end."""


def _die(*_: object) -> None:
    raise _Killed
