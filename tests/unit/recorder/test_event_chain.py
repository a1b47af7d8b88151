"""That whatever somebody does to the rows of the event store is found, and nothing else."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.v1.event_chain import Anchor, ChainCheck, ChainFault, VerifyEvents
from contracts.v1.event_state import ReplayEvents
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.events import removal, replay, snapshot, verification
from services.recorder.events.replay import EventReplay
from services.recorder.events.table import link_of
from services.recorder.events.verification import EventVerifier
from tests.recorder_rig import event_message, rig

TABLES = ("delivery", "event", "aggregate", "snapshot", "meta")
DAY_US = 86_400_000_000


async def _store(path: Path) -> None:
    """Thirty deliveries on pumps, a run and an alarm; the first ten are removed; a few snapshots are kept."""
    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as one:
        for seq in range(1, 31):
            name, version = f"pump-{seq % 3}", 2 * (seq // 3) + 1
            await one.commit(event_message(seq, "online", "write.done", name=name, version=version, user="anna", t=seq))
            if seq == 10:
                run = event_message(1, "run.started", aggregate="run", name="r", scope="main", owner="orchestrator")
                await one.commit(run)
        await one.database.transaction(lambda sql: removal.remove_oldest(sql, **_until(sql, 11)))
        found = EventReplay(path).replay(ReplayEvents(scope="plant", aggregate="device", aggregate_id="pump-1"))
        await one.database.transaction(lambda sql: snapshot.keep(sql, found.made))
        assert found.made


def _until(sql: sqlite3.Connection, number: int) -> dict[str, object]:
    """What makes retention remove the deliveries up to this number."""
    (arrived,) = sql.execute("SELECT arrived FROM delivery WHERE id = ?", (number + 1,)).fetchone()
    return {"before_us": arrived, "now_us": arrived + DAY_US, "recorder": "recorder", "new_id": lambda: "an-id"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "EACH", 4)
        patch.setattr(replay, "_LOOK", 1)
        path = tmp_path_factory.mktemp("whole") / "recorder.db"
        asyncio.run(_store(path))
        with closing(sqlite3.connect(path)) as sql:
            sql.execute("PRAGMA journal_mode = DELETE")
        yield path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "recorder.db"))


def check(path: Path, *anchors: Anchor) -> list[ChainCheck]:
    verifier, checks, after = EventVerifier(path), [], None
    while after is not None or not checks:
        asked = VerifyEvents(anchors=list(anchors) if after is None else [], after=after)
        checks.append(verifier.verify(asked))
        after = checks[-1].next
    return checks


def faults(path: Path, *anchors: Anchor) -> list[ChainFault]:
    return [fault for one in check(path, *anchors) for fault in one.faults]


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as sql, sql:
        for statement in statements:
            sql.execute(statement)


def rows(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as sql:
        sql.text_factory = bytes
        return [sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES]


def test_what_nobody_has_touched_is_without_fault_and_said_to_be_cut(path: Path) -> None:
    checks = check(path)

    assert [fault for one in checks for fault in one.faults] == []
    assert checks[0].removed is not None
    assert (checks[0].removed.number, checks[0].removed.deliveries, checks[0].removed.events) == (11, 11, 21)
    assert sum(one.checked for one in checks) == 21, "those left of the 31, and the one that tells of the removal"
    assert checks[0].head is not None
    assert faults(path, checks[0].head) == []


def test_a_check_in_the_smallest_pieces_goes_over_everything_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = check(path)
    monkeypatch.setattr(verification, "MOST_S", -1.0)

    pieces = check(path)

    assert len(pieces) > sum(one.checked for one in whole)
    assert sum(one.checked for one in pieces) == sum(one.checked for one in whole)
    assert [fault for one in pieces for fault in one.faults] == []


@pytest.mark.parametrize(
    ("done", "kind", "text"),
    [
        ("UPDATE event SET data = '{\"seq\":0}' WHERE id = 40", "changed", "rows 40 to 41"),
        ("UPDATE event SET user = NULL WHERE id = 40", "changed", "delivery 21 of 'gateway', 2 event"),
        ("UPDATE event SET delivery = 25 WHERE id = 40", "inserted", "event row 40 names delivery 25"),
        ("UPDATE delivery SET arrived = arrived + 1 WHERE id = 21", "changed", "delivery 21"),
        ("UPDATE delivery SET link = zeroblob(32) WHERE id = 21", "changed", "delivery 21"),
        ("UPDATE aggregate SET name = 'other' WHERE name = 'pump-2'", "changed", "device other"),
        ("UPDATE stream SET owner = 'other' WHERE owner = 'gateway'", "changed", "delivery 12 of 'other'"),
        ("UPDATE event SET type = CAST(x'ff41' AS TEXT) WHERE id = 40", "changed", "delivery 21"),
        (
            "UPDATE aggregate SET name = CAST(x'ff' AS TEXT) || hex(zeroblob(900000)) WHERE name = 'pump-2'",
            "changed",
            "\\udcff000",
        ),
        ("DELETE FROM event WHERE id = 40", "removed", "event row 40 is missing"),
        ("DELETE FROM delivery WHERE id = 21", "removed", "delivery 21 is missing"),
        ("DELETE FROM delivery WHERE id = 12", "removed", "delivery 12 is missing"),
        ("UPDATE delivery SET id = 9007199254740992 WHERE id = 21", "removed", "delivery 21 is missing"),
        (
            "INSERT INTO delivery SELECT 1 << 53, stream, epoch, 999, arrived, link FROM delivery WHERE id = 21",
            "removed",
            "to 9007199254740991 are missing",
        ),
        (
            "INSERT INTO delivery SELECT (1 << 53) + id, stream, 5, seq, arrived, link FROM delivery WHERE id > 20",
            "changed",
            "delivery 9007199254741014 of 'gateway', 0 event(s)",
        ),
        ("DELETE FROM meta WHERE key = 'events_removed'", "removed", "deliveries 1 to 11 are missing"),
        ("UPDATE meta SET value = 'other' WHERE key = 'store'", "changed", "this was the store"),
        ("UPDATE snapshot SET state = replace(state, 'anna', 'bert')", "changed", "snapshot of device pump-0"),
        ("DELETE FROM snapshot WHERE sealed IS NOT NULL", "removed", "its state at version"),
        ("UPDATE snapshot SET number = number - 1 WHERE sealed IS NOT NULL", "changed", "not the one that was sealed"),
        ("INSERT INTO aggregate VALUES (-1, 'plant', 'device', 'new', 0, 0, 0)", "inserted", "aggregate -1"),
        ("INSERT INTO aggregate VALUES (99, 'plant', 'device', 'new', 0, 0, 0)", "removed", "device new in plant"),
        (
            "INSERT INTO event SELECT 99, 21, aggregate, 99, type, t, uuid, user, cause, data FROM event WHERE id = 40",
            "inserted",
            "event row 99 names delivery 21",
        ),
        (
            "INSERT INTO delivery SELECT 99, stream, epoch, 99, arrived, link FROM delivery WHERE id = 21",
            "removed",
            "deliveries 33 to 98 are missing",
        ),
        (
            "INSERT INTO delivery SELECT 33, stream, epoch, 99, arrived, link FROM delivery WHERE id = 21",
            "changed",
            "delivery 33",
        ),
        (
            "INSERT INTO delivery SELECT -1, stream, epoch, 99, arrived, link FROM delivery WHERE id = 21",
            "inserted",
            "delivery -1 stands before",
        ),
    ],
)  # fmt: skip
def test_a_row_that_was_tampered_with_is_named(path: Path, done: str, kind: str, text: str) -> None:
    change(path, done)

    assert any(fault.kind == kind and text in fault.text for fault in faults(path)), faults(path)


def test_a_changed_row_is_one_fault_and_leaves_the_others_in_peace(path: Path) -> None:
    change(path, "UPDATE event SET user = 'bert' WHERE id = 40")
    assert [fault.delivery for fault in faults(path)] == [21]

    change(path, "UPDATE event SET user = 'anna' WHERE id = 40", "UPDATE delivery SET link = x'00' WHERE id = 21")
    assert [fault.delivery for fault in faults(path) if fault.kind == "changed"][:1] == [21]
    assert not any(fault.delivery == 22 for fault in faults(path))


def test_an_end_that_was_cut_off_is_found_by_the_counts_and_with_them_mended_by_an_anchor(path: Path) -> None:
    head = check(path)[0].head
    assert head is not None
    change(path, "DELETE FROM event WHERE delivery >= 31", "DELETE FROM delivery WHERE id >= 31")
    assert {fault.kind for fault in faults(path)} >= {"removed"}

    change(
        path,
        "DELETE FROM snapshot WHERE sealed IS NULL",
        "UPDATE aggregate SET last = max(cut, (SELECT max(version) FROM event WHERE aggregate = aggregate.id)),"
        " held = cut + (SELECT count(DISTINCT version) FROM event WHERE aggregate = aggregate.id AND version > cut)"
        " WHERE kind <> 'event-store'",
    )
    found = faults(path, head)
    assert [fault.text for fault in found if fault.kind == "cut"] == [
        f"delivery {head.number}, whose link was kept elsewhere, is not there"
    ]


def test_a_chain_that_was_written_anew_as_a_whole_is_found_by_an_anchor_alone(path: Path) -> None:
    head = check(path)[0].head
    assert head is not None
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute("UPDATE event SET user = 'bert' WHERE id = 40")
        for step in verification.walk(sql, verification.beginning(sql)):
            content = [event.content for event in step.events]
            stream = sql.execute("SELECT epoch, seq FROM delivery WHERE id = ?", (step.number,)).fetchone()
            (before,) = sql.execute("SELECT link FROM delivery WHERE id = ?", (step.number - 1,)).fetchone() or (None,)
            if before is not None:
                about = [step.number, step.owner, step.stream, *stream, step.arrived, content]
                link = link_of(before, about)
                sql.execute("UPDATE delivery SET link = ? WHERE id = ?", (link, step.number))
        sql.execute("DELETE FROM snapshot WHERE sealed IS NULL")
        sql.execute("UPDATE snapshot SET link = (SELECT link FROM delivery WHERE id = number)")

    assert faults(path) == []
    assert [fault.kind for fault in faults(path, head)] == ["cut"]


def test_an_anchor_of_what_was_removed_since_is_said_to_be_unknown(path: Path) -> None:
    assert check(path, Anchor(number=3, link="0" * 64))[0].unknown == [3]
    with closing(sqlite3.connect(path)) as sql:
        (note,) = sql.execute("SELECT value FROM meta WHERE key = 'events_removed'").fetchone()
    assert faults(path, Anchor(number=11, link=note.split('"')[1])) == []
    assert [fault.kind for fault in faults(path, Anchor(number=11, link="0" * 64))] == ["cut"]


VALUES = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, 120),
    st.sampled_from(["", "anna", "online", "{}", "\x00", '{"seq":3}']),
    st.binary(max_size=4),
    st.floats(allow_nan=False),
    st.none(),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_change_of_any_row_is_found(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = Path(shutil.copy(whole, tmp_path / "recorder.db"))
    before = rows(path)
    table = data.draw(st.sampled_from(TABLES))
    with closing(sqlite3.connect(path)) as sql, sql:
        columns = [name for _, name, *_ in sql.execute(f"PRAGMA table_info({table})")]
        there = sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        if table == "meta":
            there = [row for row in there if row[0] in ("store", "events_removed")]
        row = data.draw(st.sampled_from(there))
        where = " AND ".join(f"{name} IS ?" for name in columns)
        what = data.draw(st.sampled_from(["change", "copy", "delete", "insert"]))
        try:
            if what == "delete":
                sql.execute(f"DELETE FROM {table} WHERE {where}", row)
            elif what == "insert" and table in ("delivery", "event"):
                given = [data.draw(VALUES) if name == "id" else value for name, value in zip(columns, row, strict=True)]
                sql.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", given)
            else:
                at = data.draw(st.integers(0, len(columns) - 1))
                value = data.draw(st.sampled_from(there))[at] if what == "copy" else data.draw(VALUES)
                sql.execute(f"UPDATE {table} SET {columns[at]} = ? WHERE {where}", (value, *row))
        except (sqlite3.IntegrityError, sqlite3.DataError):
            return  # SQLite itself does not take it
    gone_for_nothing = table == "snapshot" and what == "delete" and row[5] is None
    if rows(path) == before or gone_for_nothing:
        return

    assert faults(path)
