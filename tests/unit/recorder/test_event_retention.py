"""Old events removed from a real store: what is left is provable, counted rightly, and still says how things were."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from contracts.v1.event_chain import Anchor, Removal, VerifyEvents
from contracts.v1.event_state import ReplayEvents
from contracts.v1.event_store import AuditEvents, ReadEvents
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.events import removal, replay, retention, snapshot, verification
from services.recorder.events.anchor_file import AnchorFile
from services.recorder.events.archive import EventArchive
from services.recorder.events.extent import bytes_of
from services.recorder.events.reading import NothingStored
from services.recorder.events.replay import EventReplay
from services.recorder.events.retention import EventRetention
from services.recorder.events.seals import ChainBroken
from services.recorder.events.table import link_of
from services.recorder.events.verification import EventVerifier
from services.recorder.lived_time import LivedTime
from services.runtime.clock import SystemClock
from tests.recorder_rig import Rig, event_message, rig

DAY_S = 86_400.0
YEAR_US = 365 * 86_400_000_000


class Clock(SystemClock):
    """ahead_us: of the machine's time."""

    ahead_us = 0

    def now_us(self) -> int:
        """Microseconds since 1970."""
        return super().now_us() + self.ahead_us


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path / "recorder.db", EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as one:
        yield one


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)
    monkeypatch.setattr(removal, "MOST_DELIVERIES", 3)


def keeper(
    recorder: Rig, *, ahead_us: int = 0, anchors: AnchorFile | None = None, most_bytes: int | None = None
) -> EventRetention:
    clock = Clock()
    clock.ahead_us = ahead_us
    return EventRetention(
        database=recorder.database,
        spool=recorder.spool,
        lived=LivedTime(database=recorder.database, clock=clock, log=recorder.log),
        keep_s=DAY_S,
        most_bytes=most_bytes,
        anchors=anchors,
        recorder="recorder",
        clock=clock,
        random=Random(1),
        metrics=recorder.metrics,
        log=recorder.log,
    )


async def age(recorder: Rig) -> None:
    """What was committed so far came two years ago: stored anew with that time, links and all."""
    await recorder.database.transaction(_aged)


def _aged(sql: sqlite3.Connection) -> None:
    before = removal.beginning(sql)
    link, ahead = before.link, -2 * YEAR_US
    for step in list(removal.walk(sql, before)):
        epoch, seq = sql.execute("SELECT epoch, seq FROM delivery WHERE id = ?", (step.number,)).fetchone()
        content = [event.content for event in step.events]
        arrived = step.arrived + ahead
        link = link_of(link, [step.number, step.owner, step.stream, epoch, seq, arrived, content])
        sql.execute("UPDATE delivery SET arrived = ?, link = ? WHERE id = ?", (arrived, link, step.number))


def faults(recorder: Rig) -> list[str]:
    found, after = [], None
    while True:
        check = EventVerifier(recorder.database.path).verify(VerifyEvents(after=after))
        found += [fault.text for fault in check.faults]
        if check.next is None:
            return found
        after = check.next


def removed(recorder: Rig) -> Removal | None:
    return EventVerifier(recorder.database.path).verify(VerifyEvents()).removed


def read(recorder: Rig, **asked: object):
    whole = {"scope": "plant", "aggregate": "device", "aggregate_id": "pump", **asked}
    return EventArchive(recorder.database.path).read(ReadEvents.model_validate(whole))


def state(recorder: Rig, **asked: object):
    whole = {"scope": "plant", "aggregate": "device", "aggregate_id": "pump", **asked}
    return EventReplay(recorder.database.path).replay(ReplayEvents.model_validate(whole)).shown


def counted(recorder: Rig, name: str = "pump") -> tuple[int, int, int] | None:
    with sqlite3.connect(recorder.database.path) as sql:
        found = sql.execute("SELECT held, last, cut FROM aggregate WHERE name = ?", (name,)).fetchone()
    sql.close()
    return found


async def test_what_is_old_goes_and_what_is_left_is_provable_and_says_what_went(recorder):
    await recorder.commit(*(event_message(seq, "online", "offline", version=2 * seq - 1, t=seq) for seq in range(1, 8)))
    await age(recorder)
    await recorder.commit(event_message(8, "online", version=15, t=8), event_message(9, "on", name="servo"))
    whole = state(recorder)

    assert await keeper(recorder).look() == 14

    assert faults(recorder) == []
    gone = removed(recorder)
    assert gone is not None
    assert (gone.number, gone.deliveries, gone.events) == (7, 7, 14)
    told = EventArchive(recorder.database.path).audit(AuditEvents(type="events.removed")).events
    assert [(event.data["first"], event.data["last"]) for event in reversed(told)] == [(1, 3), (4, 6), (7, 7)]
    assert counted(recorder) == (15, 15, 14)
    assert (read(recorder).first, [event.version for event in read(recorder).events]) == (15, [15])
    assert (read(recorder).missing, read(recorder, from_version=15).first) == ([], None)
    assert state(recorder) == whole.model_copy(update={"first": 15})
    assert await keeper(recorder).look() == 0


async def test_beyond_their_bytes_the_oldest_events_go_though_they_are_young_and_what_is_left_is_provable(recorder):
    await recorder.commit(*(event_message(seq, "on", "off", version=2 * seq - 1, t=seq) for seq in range(1, 61)))
    whole, held = state(recorder), await recorder.database.transaction(bytes_of)
    assert await keeper(recorder, most_bytes=held).look() == 0

    gone = await keeper(recorder, most_bytes=held // 2).look()

    left = await recorder.database.transaction(bytes_of)
    assert held / 3 < left <= held / 2
    assert faults(recorder) == []
    first = read(recorder).first
    assert first is not None
    assert [event.version for event in read(recorder, limit=1000).events] == [*range(first, 121)]
    assert state(recorder) == whole.model_copy(update={"first": first})
    told = EventArchive(recorder.database.path).audit(AuditEvents(type="events.removed")).events
    assert {event.data["reason"] for event in told} == {"size"}
    assert recorder.metric("events_removed_total", reason="size") == gone > 0
    assert recorder.metric("events_removed_total", reason="age") == 0


@pytest.mark.parametrize("at_once", [1, 3])
async def test_a_bound_below_what_tells_of_the_removals_ends_too(recorder, monkeypatch, at_once):
    monkeypatch.setattr(removal, "MOST_DELIVERIES", at_once)
    await recorder.commit(*(event_message(seq, "online", version=seq) for seq in range(1, 11)))

    assert await asyncio.wait_for(keeper(recorder, most_bytes=1).look(), 30) >= 10

    assert (counted(recorder), faults(recorder)) == ((10, 10, 10), [])


async def test_a_state_before_what_is_kept_is_refused_and_one_at_its_beginning_told(recorder):
    await recorder.commit(event_message(1, "online", "offline", "online", t=100))
    await age(recorder)
    await recorder.commit(event_message(2, "offline", version=4, t=200))
    await keeper(recorder).look()

    assert state(recorder, to_version=3).status.type == "online"
    assert state(recorder, to_t=199).version == 3
    assert state(recorder, to_t=200).version == 4
    for asked in ({"to_version": 2}, {"to_t": 101}):
        with pytest.raises(NothingStored, match="it begins with version 3"):
            state(recorder, **asked)


async def test_missing_versions_that_go_are_missing_no_more_and_others_stay_missing(recorder):
    await recorder.commit(event_message(1, "a", "b"), event_message(2, "f", version=6))
    await age(recorder)
    await recorder.commit(event_message(3, "i", version=9))
    assert recorder.spool.versions_missing == 5

    await keeper(recorder).look()

    assert recorder.spool.versions_missing == 2
    assert counted(recorder) == (7, 9, 6)
    assert read(recorder).missing == [(7, 8)]
    assert faults(recorder) == []


async def test_a_late_event_of_what_was_cut_is_told_and_kept_and_changes_no_count_and_no_state(recorder):
    await recorder.commit(event_message(1, "a", "b"), event_message(3, "d", version=4))
    await age(recorder)
    await recorder.commit(event_message(4, "e", version=5))
    await keeper(recorder).look()
    before = state(recorder)

    await recorder.commit(event_message(2, "late", version=3))

    assert [version for _, version in recorder.found.repeated] == [3]
    assert (recorder.found.holes, recorder.spool.versions_missing) == ([], 0)
    assert counted(recorder) == (5, 5, 4)
    assert state(recorder) == before
    assert [event.type for event in read(recorder).events] == ["late", "e"]
    assert faults(recorder) == []


async def test_runs_that_are_over_go_wholly_and_devices_stay_with_their_state(recorder):
    for seq in range(1, 6):
        run = {"aggregate": "run", "scope": "main", "owner": "orchestrator", "name": f"r{seq}"}
        await recorder.commit(event_message(seq, "run.started", "run.completed", **run))
    await recorder.commit(event_message(1, "online", user="anna", t=7))
    await age(recorder)
    await recorder.commit(event_message(2, "x", name="servo"))

    await keeper(recorder).look()

    assert counted(recorder, "r1") is None
    assert counted(recorder) == (1, 1, 1)
    assert (state(recorder).status.user, state(recorder).t, state(recorder).first) == ("anna", 7, 2)
    assert (read(recorder).events, read(recorder).first) == ([], 2)
    assert faults(recorder) == []

    for table, column in (("snapshot", "aggregate"), ("aggregate", "id")):
        tampering = f"DELETE FROM {table} WHERE {column} = (SELECT id FROM aggregate WHERE name = 'pump')"
        await recorder.database.transaction(lambda sql, done=tampering: sql.execute(done))
    assert faults(recorder) == ["device pump in plant, whose state was kept, is not there"]


async def test_states_stay_provable_though_what_told_of_them_goes_too(recorder):
    await recorder.commit(event_message(1, "online"))
    await age(recorder)
    await recorder.commit(event_message(2, "on", name="servo"))
    await keeper(recorder).look()

    await keeper(recorder, ahead_us=YEAR_US).look()

    assert (read(recorder).events, state(recorder).status.type) == ([], "online")
    assert faults(recorder) == []
    gone = removed(recorder)
    assert gone is not None
    assert (gone.deliveries, gone.events) == (3, 4)
    await recorder.database.transaction(
        lambda sql: sql.execute("UPDATE snapshot SET state = replace(state, 'on', 'ON')")
    )
    assert any("device pump at version 1" in text for text in faults(recorder))


async def test_a_store_with_nothing_but_notes_of_removals_is_left_alone(recorder):
    await recorder.commit(event_message(1, "online"))
    await age(recorder)
    await keeper(recorder).look()
    assert removed(recorder).number == 1

    assert await keeper(recorder, ahead_us=YEAR_US).look() == 0


async def test_what_was_tampered_with_is_not_removed(recorder):
    await recorder.commit(*(event_message(seq, "online", version=seq) for seq in range(1, 9)))
    await age(recorder)
    await recorder.database.transaction(lambda sql: sql.execute("UPDATE event SET user = 'eve' WHERE version = 5"))

    with pytest.raises(ChainBroken, match="delivery 5"):
        await keeper(recorder).look()

    assert [event.version for event in read(recorder).events] == [4, 5, 6, 7, 8]
    assert len(faults(recorder)) == 1


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE snapshot SET state = replace(state, 'on', 'ON')",
        "UPDATE snapshot SET state = 'none'",
        "UPDATE aggregate SET cut = 2 WHERE name = 'pump'",
        "UPDATE snapshot SET sealed = NULL",
        "DELETE FROM snapshot",
    ],
)
@pytest.mark.parametrize("more", [0, 4])
async def test_a_state_that_was_tampered_with_is_not_sealed_anew(recorder, tampering, more):
    await recorder.commit(event_message(1, "online"))
    await age(recorder)
    await recorder.commit(*(event_message(1 + seq, "online", version=1 + seq) for seq in range(1, 1 + more)))
    await recorder.commit(event_message(6, "on", name="servo"))
    await keeper(recorder).look()
    assert faults(recorder) == []
    await recorder.database.transaction(lambda sql: sql.execute(tampering))

    with pytest.raises(ChainBroken, match="device pump"):
        await keeper(recorder, ahead_us=YEAR_US).look()

    assert any("device pump" in text for text in faults(recorder))


async def test_counts_that_cannot_be_read_are_told_and_nothing_is_removed(recorder):
    await recorder.commit(event_message(1, "online"))
    await age(recorder)
    await recorder.database.transaction(lambda sql: sql.execute("UPDATE aggregate SET cut = 'none'"))

    with pytest.raises(ChainBroken, match="counts of the aggregate"):
        await keeper(recorder).look()


async def test_a_run_that_went_and_of_which_something_comes_late_keeps_nothing_from_going(recorder, monkeypatch):
    monkeypatch.setattr(removal, "MOST_DELIVERIES", 1)
    run = {"aggregate": "run", "name": "r", "scope": "main", "owner": "orchestrator"}
    await recorder.commit(event_message(1, "run.started", **run), event_message(2, "run.completed", version=2, **run))
    await age(recorder)
    assert await keeper(recorder).look() == 2
    await recorder.commit(event_message(3, "node.completed", version=3, **run), event_message(9, "on", name="servo"))

    assert await keeper(recorder, ahead_us=YEAR_US).look() > 0

    assert counted(recorder, "r") is None
    assert faults(recorder) == []


async def test_nothing_is_built_on_a_state_that_somebody_has_put_before_the_first_event(recorder):
    await recorder.commit(event_message(1, "online"), event_message(2, "online", version=2))
    await recorder.commit(event_message(3, "on", name="servo"))
    forged = "INSERT INTO snapshot SELECT 1, 0, id, link, '{\"events\":7}', NULL FROM delivery WHERE id = 1"
    await recorder.database.transaction(lambda sql: sql.execute(forged))

    await keeper(recorder, ahead_us=YEAR_US).look()

    assert state(recorder).events == 2


async def test_what_came_while_the_clock_was_not_set_goes_with_what_came_after(recorder):
    await recorder.commit(event_message(1, "a"), event_message(2, "b", version=2))

    def unset(sql: sqlite3.Connection) -> None:
        real = removal.beginning(sql).link
        for step in list(removal.walk(sql, removal.beginning(sql))):
            content = [event.content for event in step.events]
            real = link_of(real, [step.number, step.owner, step.stream, 1, step.number, 7, content])
            sql.execute("UPDATE delivery SET arrived = 7, link = ? WHERE id = ?", (real, step.number))

    await recorder.database.transaction(unset)
    await recorder.commit(event_message(3, "c", version=3))
    assert faults(recorder) == []

    assert await keeper(recorder).look() == 0
    assert await keeper(recorder, ahead_us=YEAR_US).look() == 3


async def test_a_kill_in_the_middle_leaves_a_piece_wholly_or_not_at_all(tmp_path):
    path = tmp_path / "recorder.db"
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(path, store) as one:
        await one.commit(*(event_message(seq, "online", version=seq) for seq in range(1, 9)))
    code = (
        "import os, signal, sqlite3, sys; from services.recorder.events import removal;"
        "sql = sqlite3.connect(sys.argv[1], isolation_level=None); now = 1 << 52; removal.MOST_DELIVERIES = 3\n"
        "def piece(): sql.execute('BEGIN IMMEDIATE'); removal.remove_oldest(sql, before_us=now - 1, now_us=now,"
        " recorder='recorder', new_id=lambda: 'i')\n"
        "piece(); sql.execute('COMMIT'); piece(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    argv = [sys.executable, "-c", code, str(path)]
    killed = await asyncio.to_thread(subprocess.run, argv, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL

    async with rig(path, store) as one:
        assert faults(one) == []
        assert removed(one).number == 3
        assert [event.version for event in read(one).events] == [4, 5, 6, 7, 8]


async def test_a_recorder_tells_its_log_the_chains_end_and_looks_each_period(recorder, monkeypatch, eventually):
    monkeypatch.setattr(retention, "PERIOD_S", 0.01)
    await recorder.commit(event_message(1, "online"))
    await age(recorder)
    await recorder.commit(event_message(2, "offline", version=2))
    part = keeper(recorder)

    running = asyncio.create_task(part.run())
    await eventually(lambda: any(line["event"] == "events_removed" for line in recorder.logged.entries))
    await part.stop()
    await running

    end = next(line for line in recorder.logged.entries if line["event"] == "event_chain")
    assert (end["number"], len(end["link"])) == (2, 64)


async def test_while_the_clock_is_being_set_nothing_is_removed(recorder, monkeypatch, eventually):
    monkeypatch.setattr(retention, "PERIOD_S", 0.01)
    await recorder.commit(event_message(1, "online"), event_message(2, "offline", version=2))
    part = keeper(recorder)
    clock = part._clock
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        return 0

    monkeypatch.setattr(part, "look", look)

    running = asyncio.create_task(part.run())
    await eventually(lambda: looks > 0)
    clock.ahead_us = YEAR_US
    await eventually(lambda: any(line["event"] == "event_retention_waits" for line in recorder.logged.entries))
    await part.stop()
    await running


async def test_a_check_finds_no_fault_while_events_come_and_go_between_its_pieces(recorder, monkeypatch):
    monkeypatch.setattr(verification, "MOST_S", -1.0)
    monkeypatch.setattr(replay, "EACH", 3)
    monkeypatch.setattr(replay, "_LOOK", 1)
    await recorder.commit(*(event_message(seq, "online", version=seq, t=seq) for seq in range(1, 13)))
    await age(recorder)
    part, verifier, after, seq, pieces = keeper(recorder), EventVerifier(recorder.database.path), None, 12, 0
    while after is not None or not pieces:
        check = verifier.verify(VerifyEvents(after=after))
        assert check.faults == []
        after, pieces = check.next, pieces + 1
        if pieces < 20:
            seq += 1
            await recorder.commit(event_message(seq, "offline", version=seq, t=seq))
            found = EventReplay(recorder.database.path).replay(
                ReplayEvents(scope="plant", aggregate="device", aggregate_id="pump")
            )
            await recorder.database.transaction(lambda sql, found=found: snapshot.keep(sql, found.made))
            await part._piece(await part._older(), "age")

    assert removed(recorder).number == 12
    assert pieces > 20
    assert faults(recorder) == []


async def test_a_clock_wrong_by_years_at_a_start_removes_no_event_and_says_so(recorder, monkeypatch, eventually):
    monkeypatch.setattr(retention, "PERIOD_S", 0.01)
    await recorder.commit(event_message(1, "online"))

    async def started(ahead_us: int) -> None:
        """A recorder's life with a clock so far ahead, in which it looks and has looked."""
        part, looked = keeper(recorder, ahead_us=ahead_us), asyncio.Event()
        look = part.look

        async def noted() -> int:
            count = await look()
            looked.set()
            return count

        monkeypatch.setattr(part, "look", noted)
        running = asyncio.create_task(part.run())
        await asyncio.wait_for(looked.wait(), 30)
        await part.stop()
        await running

    await started(0)
    await started(5 * YEAR_US)
    await recorder.commit(event_message(2, "offline", version=2))
    await started(5 * YEAR_US)

    assert [event.version for event in read(recorder).events] == [1, 2]
    (told,) = [line for line in recorder.logged.entries if line["event"] == "clock_leapt"]
    assert told["days"] == 5 * 365


async def test_the_chains_end_is_written_beside_it_once_a_day_and_proves_a_chain_cut_off(recorder, tmp_path):
    file = AnchorFile(tmp_path / "kept" / "anchors")
    for day, more in ((0, 1), (0, 2), (1, 3), (2, None), (3, 4)):
        if more is not None:
            await recorder.commit(event_message(more, "online", version=more))
        await keeper(recorder, ahead_us=day * 86_400_000_000, anchors=file)._tell_end()
        if day == 2:
            file.path.write_bytes(file.path.read_bytes()[:-1] + b" torn")

    lines = [line.split() for line in file.path.read_text().splitlines()]
    assert [line[1].partition(":")[0] for line in lines] == ["1", "3", "4"]
    assert len({line[0] for line in lines}) == 3
    anchors = [Anchor(number=int(number), link=link) for number, _, link in (line[1].partition(":") for line in lines)]
    verified = EventVerifier(recorder.database.path).verify(VerifyEvents(anchors=anchors))
    assert (verified.faults, verified.unknown or []) == ([], [])


async def test_an_anchor_that_cannot_be_written_is_told_and_holds_nothing_up(recorder, tmp_path):
    await recorder.commit(event_message(1, "online"))

    await keeper(recorder, anchors=AnchorFile(tmp_path))._tell_end()

    assert [line["file"] for line in recorder.logged.entries if line["event"] == "anchor_not_written"] == [
        str(tmp_path)
    ]
