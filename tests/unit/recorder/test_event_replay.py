"""What aggregates were like, put together from real stored events, with snapshots and without."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.v1.event import EVENT, Event, Events
from contracts.v1.event_state import ReplayEvents
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.events import fold, replay, snapshot
from services.recorder.events.fold import Row, State, decode_state
from services.recorder.events.reading import NothingStored
from services.recorder.events.replay import EventReplay, Replayed
from services.runtime.commands.replies import encode_done
from tests.recorder_rig import SITE, Message, Rig, event_message, rig

PUMP = {"scope": "plant", "aggregate": "device", "aggregate_id": "pump"}


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path / "recorder.db", EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as one:
        yield one


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot after each third event."""
    monkeypatch.setattr(replay, "EACH", 3)
    monkeypatch.setattr(replay, "_LOOK", 1)


def told(seq: int, version: int, type_: str, **data: object) -> Message:
    event = Event(
        id=f"{seq}",
        aggregate="device",
        aggregate_id="pump",
        scope="plant",
        version=version,
        type=type_,
        t=seq,
        data=dict(data),  # type: ignore[arg-type]
    )
    payload = Events(owner="gateway", epoch=1, seq=seq, events=[event]).model_dump_json().encode()
    return Message(payload, EVENT.build(site=SITE, scope="plant", aggregate="device", id="pump"))


async def replayed(recorder: Rig, **asked: object) -> Replayed:
    """As the desk does: what was made on the way is kept."""
    found = EventReplay(recorder.database.path).replay(ReplayEvents.model_validate({**PUMP, **asked}))
    await recorder.database.transaction(lambda sql: snapshot.keep(sql, found.made))
    return found


def snapshots(recorder: Rig) -> list[int]:
    with closing(sqlite3.connect(recorder.database.path)) as sql:
        return [version for (version,) in sql.execute("SELECT version FROM snapshot ORDER BY version")]


async def test_a_state_tells_how_it_is_what_happened_how_often_and_what_of_each_part(recorder):
    await recorder.commit(
        told(1, 1, "online"),
        told(2, 2, "write.done", tag="speed", value=1),
        told(3, 3, "write.failed", tag="level", value=2),
        told(4, 4, "write.done", tag="speed", value=3),
        told(5, 5, "call.done", function="reset"),
    )

    shown = (await replayed(recorder)).shown

    assert (shown.version, shown.t, shown.events, shown.missing, shown.first) == (5, 5, 5, 0, None)
    assert (shown.status.type, shown.status.version) == ("online", 1)
    assert {name: (one.count, one.last.version) for name, one in shown.types.items()} == {
        "online": (1, 1), "write.failed": (1, 3), "write.done": (2, 4), "call.done": (1, 5),
    }  # fmt: skip
    assert {name: (one.type, one.data) for name, one in shown.parts.items()} == {
        "tag level": ("write.failed", {"tag": "level", "value": 2}),
        "tag speed": ("write.done", {"tag": "speed", "value": 3}),
        "function reset": ("call.done", {"function": "reset"}),
    }


async def test_a_state_is_had_of_any_version_and_any_time(recorder, often):
    await recorder.commit(*(event_message(n, ["online", "offline"][n % 2], version=n, t=10 * n) for n in range(1, 21)))
    await replayed(recorder)

    assert snapshots(recorder) == [3, 6, 9, 12, 15, 18]
    for version in range(1, 21):
        shown = (await replayed(recorder, to_version=version)).shown
        assert (shown.version, shown.events, shown.status.version) == (version, version, version)
        for t in (10 * version, 10 * version + 9):
            assert (await replayed(recorder, to_t=t)).shown == shown
    assert (await replayed(recorder, to_version=99)).shown.version == 20
    with pytest.raises(NothingStored):
        await replayed(recorder, to_t=9)
    with pytest.raises(NothingStored):
        await replayed(recorder, aggregate_id="pomp")


async def test_what_comes_late_makes_the_states_after_it_anew(recorder, often):
    await recorder.commit(*(event_message(n, "online", version=n) for n in (1, 2, 3, 4, 6, 7, 8, 9, 10)))
    assert (await replayed(recorder)).shown.missing == 1
    assert snapshots(recorder) == [3, 7]

    await recorder.commit(event_message(5, "offline", version=5))

    assert snapshots(recorder) == [3]
    shown = (await replayed(recorder)).shown
    assert (shown.missing, shown.events, shown.types["offline"].count) == (0, 10, 1)


async def test_a_snapshot_made_before_a_late_event_and_kept_after_it_is_not_kept(recorder, often):
    await recorder.commit(*(event_message(n, "online", version=n) for n in (1, 2, 4, 5, 6)))
    found = EventReplay(recorder.database.path).replay(ReplayEvents.model_validate(PUMP))
    assert found.made
    await recorder.commit(event_message(3, "offline", version=3))

    await recorder.database.transaction(lambda sql: snapshot.keep(sql, found.made))

    assert snapshots(recorder) == []


async def test_a_snapshot_of_another_chain_is_not_used(recorder, often):
    await recorder.commit(*(event_message(n, "online", version=n) for n in range(1, 6)))
    whole = (await replayed(recorder)).shown
    tampering = "UPDATE snapshot SET state = replace(state, 'online', 'broken'), link = zeroblob(32)"
    await recorder.database.transaction(lambda sql: sql.execute(tampering))

    assert (await replayed(recorder)).shown == whole


async def test_who_asks_again_gets_to_the_end_of_what_takes_too_long_at_once(recorder, often, monkeypatch):
    monkeypatch.setattr(replay, "MOST_S", -1.0)
    await recorder.commit(*(event_message(n, "online", version=n) for n in range(1, 6)))

    reached = []
    while (found := await replayed(recorder)).shown is None:
        reached.append(found.version)

    assert reached == [1, 2, 3, 4]
    assert found.shown.events == 5


async def test_a_state_is_bounded_and_fits_into_a_message(recorder):
    long = "ü" * 499
    messages = [told(n, n, f"write.t{n % 70}", tag=f"{n}".ljust(200, "ä"), note=long) for n in range(1, 300)]
    await recorder.commit(*messages, told(300, 300, "x", tag="big", note="y" * 2000))

    shown = (await replayed(recorder)).shown

    assert (len(shown.types), len(shown.parts)) == (fold.MOST_TYPES, fold.MOST_PARTS)
    assert shown.omitted > 0
    assert (shown.parts["tag big"].data, shown.parts["tag big"].size) == (None, 2023)
    assert len(encode_done(shown, topic="x")) < 1 << 20


ROWS = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from(["online", "offline", "write.done", "x"]),
        st.sampled_from(["{}", '{"tag":"a"}', '{"tag":"b","node":"n"}', '{"tag":7}', '{"node":"é"}']),
    ),
    max_size=20,
)


@given(rows=ROWS, cut=st.integers(0, 20))
def test_going_on_from_a_kept_state_gives_the_same_as_going_through_all(rows, cut):
    ordered = [Row(version, type_, at, None, data) for at, (version, type_, data) in enumerate(sorted(rows))]
    whole, first = State(), State()
    for row in ordered:
        whole.add(row, kind="device")
    for row in ordered[:cut]:
        first.add(row, kind="device")
    second = decode_state(first.encode())
    for row in ordered[cut:]:
        second.add(row, kind="device")

    assert second == whole
    assert second.encode() == whole.encode()
    assert (whole.events, whole.versions) == (len(rows), len({version for version, *_ in rows}))


@settings(max_examples=15, deadline=None)
@given(order=st.lists(st.integers(1, 14), min_size=1, max_size=14), asked=st.lists(st.integers(1, 14), max_size=4))
def test_a_state_is_the_fold_of_all_events_whenever_they_came_and_whatever_was_kept(order, asked):
    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(replay, "EACH", 3)
            patch.setattr(replay, "_LOOK", 1)
            store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
            async with rig(Path(folder) / "recorder.db", store) as one:
                for seq, version in enumerate(order, start=1):
                    await one.commit(event_message(seq, f"t{seq}", version=version, t=seq))
                    if seq in asked:
                        await replayed(one)
                for to in sorted({*asked, max(order)}):
                    events = sorted((version, seq) for seq, version in enumerate(order, start=1) if version <= to)
                    state = State()
                    for version, seq in events:
                        state.add(Row(version, f"t{seq}", seq, None, f'{{"seq":{seq}}}'), kind="device")
                    if state.version:
                        shown = fold.shown(state, scope="plant", kind="device", name="pump", cut=0)
                        assert (await replayed(one, to_version=to)).shown == shown

    asyncio.run(scenario())
