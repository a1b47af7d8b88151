"""What becomes of each message: in the spool, written or set aside; and in which minute it was first heard of."""

from pathlib import Path

import pytest

from services.recorder.completeness import heard, settled
from services.recorder.completeness.heard import MINUTE_US, Heard
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.spool.marks import EpochMarks
from services.runtime.gaps import StreamKey
from tests.recorder_rig import Message, SampleStruct, event_message, message, rig

FAST = StreamKey("frame", "plc", "fast")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


def store() -> EmbeddedStore:
    return EmbeddedStore(batch_bytes=1 << 20, flush_s=3600, chunk_values=10)


async def known(recorder, stream=1, epoch=1):
    found = await recorder.database.transaction(lambda sql: settled.read(sql, stream, epoch))
    waiting = await recorder.database.transaction(
        lambda sql: sql.execute("SELECT seq FROM spool ORDER BY id").fetchall()
    )
    return list(found.written), list(found.dead), [seq for (seq,) in waiting]


async def test_a_frame_is_in_the_spool_until_it_is_written_or_set_aside(path):
    async with rig(path, store()) as recorder:
        good = [message(seq, [SampleStruct(t=seq, v={"a": 1.0})]) for seq in (1, 2, 4)]
        broken = Message(message(3).payload.replace(b'"samples":[]', b'"samples":7'))
        await recorder.commit(*good, broken)

        assert await known(recorder) == ([], [], [1, 2, 4, 3])
        await recorder.flush()
        assert await known(recorder) == ([(1, 2), (4, 4)], [(3, 3)], [])


async def test_events_are_written_at_once_also_those_that_say_nothing(path):
    async with rig(path, store()) as recorder:
        await recorder.commit(event_message(1, "online"), event_message(2))

        assert await known(recorder) == ([(1, 2)], [], [])


async def test_what_was_set_aside_and_is_written_later_counts_once(path):
    async with rig(path, store()) as recorder:
        await recorder.commit(message(1))

        def book(sql):
            settled.book(sql, [], [(1, 1, 1)])
            settled.book(sql, [(1, 1, 1)])
            settled.book(sql, [], [(1, 1, 1)])

        await recorder.database.transaction(book)

        assert (await known(recorder))[:2] == ([(1, 1)], [])


def test_a_minute_has_one_row_of_an_epoch_and_only_if_the_epoch_went_on():
    one, other = Heard(), EpochMarks(1, have=((1, 5),))
    rows = one.due({}, {FAST: {1: other}}, now_us=5 * MINUTE_US)
    one.noted(rows)

    assert rows == [(FAST, 1, 0, 5)]
    assert one.due({FAST: {1: other}}, {FAST: {1: EpochMarks(1, have=((1, 9),))}}, now_us=6 * MINUTE_US - 1) == []
    assert one.due({FAST: {1: other}}, {FAST: {1: other}}, now_us=6 * MINUTE_US) == []
    assert one.due({FAST: {1: other}}, {FAST: {1: EpochMarks(1, have=((1, 9),))}}, now_us=6 * MINUTE_US) == [
        (FAST, 1, 5, 6)
    ]


@pytest.mark.parametrize(
    ("since", "until", "numbers"),
    [
        (None, None, [(1, 90)]),
        (None, 10, []),
        (10, 11, [(1, 20)]),
        (11, 13, [(21, 50)]),
        (11, 12, [(21, 30), (41, 50)]),
        (12, None, [(31, 40), (51, 90)]),
        (99, 100, [(51, 60)]),
        (200, None, []),
    ],
)
async def test_each_number_belongs_to_one_minute_also_where_the_clock_was_set(path, since, until, numbers):
    async with rig(path, store()) as recorder:

        def look(sql):
            sql.execute("INSERT INTO stream VALUES (1, 'frame', 'plc', 'fast')")
            # 12 -> 11: set back by a minute; 99: far ahead for a moment.
            minutes = [(0, 10), (20, 11), (30, 12), (40, 11), (50, 99), (60, 13)]
            heard.put(sql, [(FAST, 1, seq, minute) for seq, minute in minutes], {FAST: 1})
            return heard.between(sql, 1, 1, top=90, since=since, until=until)

        assert list(await recorder.database.transaction(look)) == numbers


async def test_what_is_older_than_the_oldest_checkpoint_belongs_to_no_minute(path):
    async with rig(path, store()) as recorder:

        def look(sql):
            sql.execute("INSERT INTO stream VALUES (1, 'frame', 'plc', 'fast')")
            heard.put(sql, [(FAST, 1, 20, 1)], {FAST: 1})
            heard.put(sql, [(FAST, 1, 30, heard.KEPT_MINUTES + 2)], {FAST: 1})
            wanted = [(None, None), (0, None), (None, 5)]
            return [list(heard.between(sql, 1, 1, top=40, since=a, until=b)) for a, b in wanted]

        assert await recorder.database.transaction(look) == [[(1, 40)], [(31, 40)], [(1, 30)]]
