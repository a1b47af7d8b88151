"""`dinrail events` as a person types it, against a running recorder."""

import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from contracts.v1.command import ErrorCode
from contracts.v1.event_chain import VERIFY_EVENTS, ChainCheck, VerifyEvents
from contracts.v1.event_state import REPLAY_EVENTS, AggregateState, ReplayEvents
from contracts.v1.event_store import READ_EVENTS, AggregateEvents, AuditEvents, ReadEvents
from services.cli.when import micros
from services.recorder.events.archive import EventArchive
from services.runtime.bus.bus import CommandFailed, Delivery
from tests.conftest import Eventually
from tests.integration.test_cli_pipelines import dinrail, site  # noqa: F401 - a fixture
from tests.integration.test_recorder import READY_S, RecorderProcess, client
from tests.real_broker import Broker
from tests.real_bus import make_bus, running
from tests.recorder_rig import event_message

T = 1_763_700_000_000_000


@pytest.fixture
async def told(broker: Broker, tmp_path: Path, eventually: Eventually) -> AsyncIterator[None]:
    """A recorder that has stored a few events."""
    recorder = RecorderProcess(tmp_path / "recorder", broker)
    recorder.start()
    try:
        await eventually(recorder.ready, READY_S)
        async with client(broker) as service:
            for message in (
                event_message(1, "write.accepted", "write.done", user="anna", t=T),
                event_message(2, "offline", version=6, t=T + 60_000_000),
                event_message(3, "run.started", aggregate="run", name="r1", scope="main", user="bernd", t=T + 1),
            ):
                await service.publish(message.topic, message.payload, qos=1)
        archive = EventArchive(recorder.path)
        await eventually(lambda: len(archive.audit(AuditEvents()).events) == 4)
        yield
    finally:
        recorder.end(signal.SIGKILL)


async def test_events_are_listed_and_shown_for_people_and_for_programs(told: None, site: Path) -> None:  # noqa: F811
    listed = await dinrail(site, "events", "list")
    of_anna = await dinrail(site, "events", "list", "--user", "anna", "--type", "write.done", "--json")
    latest = await dinrail(site, "events", "list", "--limit", "1")
    shown = await dinrail(site, "events", "show", "device", "pump")
    run = await dinrail(site, "events", "show", "run", "r1")
    then = await dinrail(site, "events", "show", "device", "pump", "--until", "2025-11-21T04:40:00.000001+00:00")
    nobody = await dinrail(site, "events", "show", "device", "pomp")
    wrong = await dinrail(site, "events", "list", "--since", "yesterday")
    no_type = await dinrail(site, "events", "list", "--type", "Write")
    silent = await dinrail(site, "events", "show", "device", "pump", "--recorder", "other")

    lines = [line.split() for line in listed[1].splitlines()]
    assert [line[-4] for line in lines[1:]] == ["write.accepted", "write.done", "run.started", "offline"]
    assert "anna" in lines[1]
    assert "main/run" in lines[3]
    (event,) = map(json.loads, of_anna[1].splitlines())
    assert (event["version"], event["data"]) == (2, {"seq": 1})
    assert "offline" in latest[1]
    assert "there are older ones" in latest[2]
    assert shown[0] == 1
    assert shown[2] == "versions 3 to 5 are missing: lost, or still to come"
    assert run[0] == then[0] == 0
    assert "write.done" in then[1]
    assert "offline" not in then[1]
    assert nobody[0] == 1
    assert "nothing is stored of the device 'pomp' in 'plant'" in nobody[2]
    assert (wrong[0], no_type[0]) == (2, 2)
    assert "not a time" in wrong[2]
    assert no_type[2].startswith("type: ")
    assert silent[0] == 2
    assert silent[2].startswith("no answer within 5 s\nis a recorder running? `recorder.answers_queries`")


def test_a_time_is_so_long_ago_or_one_of_the_calendar() -> None:
    now = micros("0s")
    ago = micros("2h")
    assert now is not None
    assert ago is not None
    assert 7_199_000_000 < now - ago < 7_201_000_000
    assert micros("2025-11-21 04:40+00:00") == T
    assert micros(None) is None


async def test_the_chain_is_checked_at_work_and_a_copy_of_the_file_and_a_state_is_shown(
    broker: Broker,
    site: Path,  # noqa: F811
    tmp_path: Path,
    eventually: Eventually,
) -> None:
    recorder = RecorderProcess(tmp_path / "recorder", broker)
    recorder.start()
    try:
        await eventually(recorder.ready, READY_S)
        async with client(broker) as service:
            for message in (
                event_message(1, "online", "write.done", user="anna", t=T),
                event_message(2, "offline", version=4, t=T + 60_000_000),
            ):
                await service.publish(message.topic, message.payload, qos=1)
        archive = EventArchive(recorder.path)
        await eventually(lambda: len(archive.audit(AuditEvents()).events) == 3)
        fine = await dinrail(site, "events", "verify")
        head = fine[1].split()[-1]
        anchored = await dinrail(site, "events", "verify", "--anchor", head)
        other = await dinrail(site, "events", "verify", "--anchor", f"7:{'0' * 64}")
        (tmp_path / "anchors").write_text(f"2026-11-22 {head}\n2026-11-23 9:12\n")
        kept = await dinrail(site, "events", "verify", "--anchors", str(tmp_path / "anchors"))
        (tmp_path / "anchors").write_text(f"2026-11-22 7:{'0' * 64}\n")
        not_kept = await dinrail(site, "events", "verify", "--anchors", str(tmp_path / "anchors"))
        no_anchor = await dinrail(site, "events", "verify", "--anchor", "seven")
        then = await dinrail(site, "events", "replay", "device", "pump", "--at", "2025-11-21T04:40:00.5+00:00")
        now = await dinrail(site, "events", "replay", "device", "pump", "--json")
        nothing = await dinrail(site, "events", "replay", "device", "pomp")
    finally:
        assert recorder.end(signal.SIGTERM) == 0
    with closing(sqlite3.connect(recorder.path)) as sql, sql:
        sql.execute("UPDATE event SET user = 'eve' WHERE version = 2")
    by_file = await dinrail(site, "events", "verify", "--file", str(recorder.path))
    no_file = await dinrail(site, "events", "verify", "--file", str(tmp_path / "nowhere.db"))

    assert (fine[0], anchored[0]) == (0, 0)
    assert "3 events in 2 deliveries" in fine[1]
    assert head.startswith("2:")
    assert other[0] == 1
    assert "cut: delivery 7, whose link was kept elsewhere, is not there" in other[1]
    assert (kept[0], not_kept[0]) == (0, 1)
    assert "line 2: no anchor" in "".join(map(str, kept[1:]))
    assert (no_anchor[0], no_file[0]) == (2, 2)
    assert (then[0], now[0], nothing[0]) == (0, 1, 1)
    assert "online" in then[1]
    assert "offline" not in then[1]
    shown = json.loads(now[1])
    assert (shown["version"], shown["missing"], shown["status"]["type"]) == (4, 1, "offline")
    assert "nothing is stored of the device 'pomp'" in nothing[2]
    assert by_file[0] == 1
    assert by_file[1].startswith("changed: delivery 1 of 'gateway', 2 event(s) from device pump version 1 on")


async def test_a_recorder_that_needs_several_answers_is_asked_on_and_is_not_said_to_be_away(
    broker: Broker,
    site: Path,  # noqa: F811
) -> None:
    state = AggregateState(scope="plant", aggregate="device", aggregate_id="pump", version=7, t=T, events=7, types={})
    given = [CommandFailed(ErrorCode.TIMEOUT, "gone through up to version 5 so far")] * 2

    async def replay(_: Delivery[ReplayEvents]) -> AggregateState:
        """Comes further with each answer."""
        if given:
            raise given.pop()
        return state

    async def read(_: Delivery[ReadEvents]) -> AggregateEvents:
        """Finds nothing in time."""
        raise CommandFailed(ErrorCode.TIMEOUT, "not found within 3 s")

    async def verify(_: Delivery[VerifyEvents]) -> ChainCheck:
        """Cannot look."""
        raise CommandFailed(ErrorCode.UNAVAILABLE, "the disk refuses")

    recorder = make_bus(broker, "recorder-bus")
    recorder.serve(REPLAY_EVENTS, replay, id="recorder")
    recorder.serve(READ_EVENTS, read, id="recorder")
    recorder.serve(VERIFY_EVENTS, verify, id="recorder")
    async with running(recorder):
        await recorder.settled()
        replayed = await dinrail(site, "events", "replay", "device", "pump", "--json")
        shown = await dinrail(site, "events", "show", "device", "pump")
        unverified = await dinrail(site, "events", "verify")

    assert (replayed[0], json.loads(replayed[1])["version"]) == (0, 7)
    assert shown == (1, "", "timeout: not found within 3 s")
    assert unverified == (2, "", "unavailable: the disk refuses"), "1 is for rows that were changed"
