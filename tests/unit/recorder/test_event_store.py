"""Events as the recorder stores and finds them, in real files."""

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.event import Events
from contracts.v1.event_store import AuditEvents, ReadEvents
from contracts.v1.message import LAST_SAFE_INTEGER
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.events import archive as event_archive
from services.recorder.events import reading
from services.recorder.events.archive import EventArchive
from services.recorder.events.reading import NothingStored, TooLong
from services.recorder.events.table import Aggregate, Hole
from services.runtime.commands.replies import encode_done
from services.runtime.gaps import StreamKey
from tests.recorder_rig import Message, Rig, event_message, rig

PUMP = Aggregate("plant", "device", "pump")
STREAM = StreamKey("event", "gateway", "main")


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path / "recorder.db", EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as one:
        yield one


def late(message: Message) -> Message:
    return Message(message.payload, topic="dinrail/v1/test/backfill/event/gateway/main")


def read(recorder: Rig, **asked: object):
    whole = {"scope": "plant", "aggregate": "device", "aggregate_id": "pump", **asked}
    return EventArchive(recorder.database.path).read(ReadEvents.model_validate(whole))


def audit(recorder: Rig, **asked: object):
    return EventArchive(recorder.database.path).audit(AuditEvents.model_validate(asked))


def versions(found) -> list[int]:
    return [event.version for event in found.events]


async def test_what_happened_to_an_aggregate_is_read_back_as_it_was_told(recorder):
    first = event_message(1, "write.accepted", "write.done", user="anna", t=50)
    await recorder.commit(first, event_message(2, "online", name="servo"), event_message(3, "offline", version=3, t=60))

    found = read(recorder)

    assert [event.type for event in found.events] == ["write.accepted", "write.done", "offline"]
    told = found.events[1]
    assert (told.id, told.user, told.t, told.data) == ("gateway-1-1-1", "anna", 51, {"seq": 1})
    assert (found.next, found.missing, found.repeated) == (None, [], [])
    assert (recorder.found.holes, recorder.spool.versions_missing) == ([], 0)


async def test_a_part_is_read_by_versions_and_up_to_a_time(recorder):
    await recorder.commit(event_message(1, *["online", "offline"] * 5, t=100))

    assert versions(read(recorder, from_version=4, to_version=6)) == [4, 5, 6]
    assert versions(read(recorder, from_version=8)) == [8, 9, 10]
    assert versions(read(recorder, to_t=102)) == [1, 2, 3]
    assert versions(read(recorder, to_t=99)) == []
    assert versions(read(recorder, from_version=11)) == []


async def test_of_an_aggregate_that_nobody_told_of_nothing_is_stored(recorder):
    with pytest.raises(NothingStored, match="nothing is stored of the device 'pump' in 'plant'"):
        read(recorder)


async def test_versions_that_do_not_come_are_told_until_they_do(recorder):
    await recorder.commit(event_message(1, "a", "b"), event_message(3, "f", version=6))

    assert recorder.found.holes == [Hole(PUMP, 3, 5, STREAM)]
    assert recorder.spool.versions_missing == 3
    assert (versions(read(recorder)), read(recorder).missing) == ([1, 2, 6], [(3, 5)])

    await recorder.commit(late(event_message(2, "c", "d", "e", version=3)))

    assert (recorder.found.holes, recorder.found.repeated, recorder.spool.versions_missing) == ([], [], 0)
    assert (versions(read(recorder)), read(recorder).missing) == ([1, 2, 3, 4, 5, 6], [])


async def test_a_version_that_comes_again_is_told_and_kept_beside_the_other(recorder):
    await recorder.commit(event_message(1, "a", "b", "c"))
    await recorder.commit(event_message(1, "x", "y", epoch=2), event_message(2, "z", "z2", version=3, epoch=2))

    assert recorder.found.repeated == [(PUMP, 1), (PUMP, 2), (PUMP, 3)]
    found = read(recorder)
    assert [(event.version, event.type) for event in found.events] == [
        (1, "a"), (1, "x"), (2, "b"), (2, "y"), (3, "c"), (3, "z"), (4, "z2"),
    ]  # fmt: skip
    assert found.repeated == [1, 2, 3]
    assert recorder.spool.versions_missing == 0


async def test_what_is_missing_is_known_after_a_restart(tmp_path):
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(tmp_path / "recorder.db", store) as one:
        await one.commit(event_message(1, "a", version=5))
    async with rig(tmp_path / "recorder.db", store) as one:
        assert one.spool.versions_missing == 4


async def test_a_recorder_starts_however_many_versions_are_missing(tmp_path):
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    last, most = LAST_SAFE_INTEGER, (1 << 63) // LAST_SAFE_INTEGER + 1
    async with rig(tmp_path / "recorder.db", store) as one:
        await one.commit(*(event_message(seq, "a", name=f"n{seq}", version=last) for seq in range(1, most + 1)))
    async with rig(tmp_path / "recorder.db", store) as one:
        assert one.spool.versions_missing > 1 << 63


async def test_page_by_page_everything_is_read_once(recorder):
    await recorder.commit(*(event_message(seq, "a", version=max(1, seq - seq % 3), t=seq) for seq in range(1, 20)))
    whole = read(recorder, limit=1000)
    assert whole.next is None

    pages, after = [], None
    while after is not None or not pages:
        pages.append(read(recorder, limit=2, after=after))
        after = pages[-1].next

    assert [event for page in pages for event in page.events] == whole.events
    assert {version for page in pages for version in page.repeated} == set(whole.repeated)
    assert [hole for page in pages for hole in page.missing] == whole.missing
    assert whole.missing
    assert whole.repeated


async def test_an_answer_is_no_longer_than_a_message_may_be(recorder, monkeypatch):
    await recorder.commit(event_message(1, *["a"] * 9))
    size = len(read(recorder).events[0].model_dump_json())
    monkeypatch.setattr(event_archive, "MOST_BYTES", 2 * size)

    first = read(recorder)

    assert versions(first) == [1, 2]
    assert versions(read(recorder, after=first.next)) == [3, 4]


async def test_events_with_long_names_and_causes_are_read_page_by_page(recorder):
    for seq in range(1, 5):
        short = event_message(seq, "a", version=seq)
        events = Events.model_validate_json(short.payload)
        long = {"id": f"{seq}".ljust(200_000, "i"), "cause": "c" * 200_000}
        events = events.model_copy(update={"events": [events.events[0].model_copy(update=long)]})
        await recorder.commit(Message(events.model_dump_json().encode(), topic=short.topic))

    first = read(recorder)

    assert versions(first) == [1]
    assert versions(read(recorder, after=first.next)) == [2]
    assert json.loads(encode_done(first, topic="x"))["ok"]


async def test_an_audit_finds_by_user_type_and_time_the_latest_first(recorder):
    await recorder.commit(
        event_message(1, "write.accepted", "write.done", user="anna", t=10),
        event_message(2, "write.done", user="bernd", name="servo", t=20),
        event_message(3, "pipeline.saved", user="anna", aggregate="pipeline", name="oee", scope="main", t=30),
        event_message(4, "offline", version=3, t=40),
    )

    def found(**asked: object) -> list[tuple[str, str]]:
        return [(event.aggregate_id, event.type) for event in audit(recorder, **asked).events]

    assert found() == [
        ("pump", "offline"), ("oee", "pipeline.saved"), ("servo", "write.done"), ("pump", "write.done"),
        ("pump", "write.accepted"),
    ]  # fmt: skip
    assert found(user="anna") == [("oee", "pipeline.saved"), ("pump", "write.done"), ("pump", "write.accepted")]
    assert found(type="write.done") == [("servo", "write.done"), ("pump", "write.done")]
    assert found(user="anna", type="write.done") == [("pump", "write.done")]
    assert found(since=20, until=40) == [("oee", "pipeline.saved"), ("servo", "write.done")]
    assert found(user="anna", until=30) == [("pump", "write.done"), ("pump", "write.accepted")]
    assert found(user="carla") == []


async def test_an_audit_goes_on_where_the_page_before_ended(recorder):
    await recorder.commit(*(event_message(seq, "a", version=seq, t=seq // 3) for seq in range(1, 12)))

    seen, after = [], None
    while not seen or after is not None:
        page = audit(recorder, type="a", limit=4, after=after)
        seen += versions(page)
        after = page.next

    assert seen == list(range(11, 0, -1))


async def test_a_search_without_an_end_is_given_up(recorder, monkeypatch):
    monkeypatch.setattr(reading, "LONGEST_S", 0.0)
    monkeypatch.setattr(reading, "_STEPS", 1)
    await recorder.commit(event_message(1, *["a"] * 100))

    with pytest.raises(TooLong):
        audit(recorder, type="a")


async def test_what_is_not_committed_is_not_stored(recorder):
    await recorder.database.transaction(lambda sql: sql.execute("ALTER TABLE dead_letter RENAME TO elsewhere"))

    with pytest.raises(sqlite3.Error):
        await recorder.commit(event_message(1, "a"), Message(b"{"))

    with pytest.raises(NothingStored):
        read(recorder)


async def test_each_delivery_has_the_link_that_follows_from_the_one_before(recorder):
    await recorder.commit(event_message(1, "a"), event_message(2), event_message(3, "b", version=2))
    await recorder.commit(event_message(4, "c", version=3))

    links = await recorder.database.transaction(
        lambda sql: sql.execute("SELECT id, seq, link FROM delivery").fetchall()
    )

    assert [(number, seq) for number, seq, _ in links] == [(1, 1), (2, 3), (3, 4)], "without those that say nothing"
    assert len({bytes(one) for _, _, one in links}) == 3
    assert all(len(one) == 32 for _, _, one in links)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=12))
def test_holes_and_repetitions_are_what_they_are_in_any_order(given_versions):
    ordered = sorted(given_versions)
    holes = list(event_archive._holes(0, ordered, ordered[-1]))

    there = {version for first, last in holes for version in range(first, last + 1)}
    assert there == set(range(1, ordered[-1] + 1)) - set(given_versions)
    assert event_archive._repeated(ordered) == sorted({v for v in given_versions if given_versions.count(v) > 1})
