"""One suite for every history: what a frame held is what the history gives back, in value, type and microsecond."""

import asyncio
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.v1.frame_codec import QualityStruct, SampleStruct
from tests.recorder_rig import DEVICE, rig
from tests.unit.recorder.test_chunk import FLOATS, INT64, TEXT, exact

START = 1_700_000_000_000_000


FLOAT32 = struct.unpack("<f", struct.pack("<f", 50.3))[0]
VALUES = [
    *(0.0, -0.0, 1.0, 50.0, FLOAT32, 0.1, 1e20, -1e-7, 5e-324, 1.7976931348623157e308),
    *(0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)),
    *(True, False),
    *(
        "",
        "on",
        "a b,c=d",
        'say "hi"',
        "back\\slash",
        "ends with \\",
        "two\nlines",
        "tab\t",
        "µ°€ 漢字 🏭",
        "1i",
        "true",
    ),
    *([1, 2, 3], [1.0, 2.5], [], [1, 2.0]),
]


async def test_value_type_and_microsecond_come_back(recorder, place):
    await recorder.record([SampleStruct(t=START + 7 * at, v={f"v{at}": value}) for at, value in enumerate(VALUES)])
    await recorder.flush()

    found = {at: place.read(f"v{at}") for at in range(len(VALUES))}

    assert {at: [(t, exact(v), q) for t, v, q in points] for at, points in found.items()} == {
        at: [(START + 7 * at, exact(value), 192)] for at, value in enumerate(VALUES)
    }
    assert await recorder.dead() == []


async def test_a_tag_whose_type_changes_keeps_every_value(recorder, place):
    values = [1, 1.5, True, "text", [1], 2]
    await recorder.record([SampleStruct(t=START + at, v={"x": value}) for at, value in enumerate(values)])
    await recorder.flush()

    assert [exact(value) for _, value, _ in place.read("x")] == [exact(value) for value in values]
    assert await recorder.dead() == []


async def test_values_of_equal_milliseconds_stay_apart(recorder, place):
    await recorder.record([SampleStruct(t=START + at, v={"x": float(at)}) for at in range(20)])
    await recorder.flush()

    assert place.read("x") == [(START + at, float(at), 192) for at in range(20)]


async def test_bad_and_doubtful_values_keep_their_quality_and_own_times(recorder, place):
    await recorder.record(
        [
            SampleStruct(
                t=START,
                v={"bad": None, "doubtful": 3.5, "late": 1},
                q={"bad": QualityStruct(q=0, cause="comm"), "doubtful": QualityStruct(q=64, cause="range")},
                dt={"late": -250},
            )
        ]
    )
    await recorder.flush()

    assert place.read("bad") == [(START, None, 0)]
    assert place.read("doubtful") == [(START, 3.5, 64)]
    assert place.read("late") == [(START - 250, 1, 192)]


async def test_of_two_values_at_one_time_the_later_one_counts(recorder, place):
    for value in (1.5, 2.5):
        await recorder.record([SampleStruct(t=START, v={"x": value})])
        await recorder.flush()

    assert place.read("x") == [(START, 2.5, 192)]


async def test_an_empty_frame_stores_nothing_and_leaves_the_spool(recorder, place):
    await recorder.record([])
    await recorder.flush()

    assert recorder.spool.rows == 0
    assert place.read("x") == []


async def test_a_frame_that_keeps_no_contract_is_set_aside_and_the_next_one_arrives(recorder, place):
    await recorder.record([SampleStruct(t=START, v={"Not A Level": 1})])
    await recorder.record([SampleStruct(t=START, v={"x": 1})])
    await recorder.flush()

    (letter,) = await recorder.dead()
    assert "'Not A Level' is no tag name" in letter.detail
    assert place.read("x") == [(START, 1, 192)]
    assert recorder.metric("dead_letters_total", reason="contract") == 1


async def test_the_writer_stores_what_comes_without_being_asked(recorder, place, eventually):
    writing = asyncio.create_task(recorder.writer.run())
    await recorder.record([SampleStruct(t=START, v={"x": 1})])

    await eventually(lambda: recorder.spool.rows == 0)

    assert place.read("x") == [(START, 1, 192)]
    await recorder.writer.stop()
    await writing


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.booleans() | INT64 | FLOATS | TEXT, min_size=1, max_size=30))
def test_any_value_comes_back_from_a_real_influxdb(values, influx, tmp_path):
    influx.query('DROP MEASUREMENT "tag"')

    async def run() -> None:
        async with rig(tmp_path / "any.db", influx.store()) as open_rig:
            open_rig.seq = max(
                (m.top for m in open_rig.spool.marks.get(("frame", DEVICE, "fast"), {}).values()), default=0
            )
            await open_rig.record([SampleStruct(t=START + at, v={"x": value}) for at, value in enumerate(values)])
            await open_rig.flush()

    asyncio.run(run())

    assert [(t, exact(value)) for t, value, _ in influx.read("x")] == [
        (START + at, exact(value)) for at, value in enumerate(values)
    ]
