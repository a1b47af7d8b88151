"""Which messages of a durable session fire: each frame once, whichever way it comes."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.backfill import BACKFILL
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct, SampleStruct, encode_frame
from services.orchestrator.seen import Seen
from services.orchestrator.session import FrameSource
from services.runtime.intake import IntakeMessage

LIVE = FRAME.build(site="test", device="pump", group="fast")
LATE = BACKFILL.build(site="test", kind="frame", owner="pump", stream="fast")
BEGUN = 1_000


def message(seq, *, topic=LIVE, epoch=1, t=BEGUN + 1, empty=False):
    samples = [] if empty else [SampleStruct(t=t, v={"level": float(seq)})]
    frame = FrameStruct(epoch=epoch, seq=seq, rev="r", samples=samples)
    return IntakeMessage(topic, encode_frame(frame, topic=topic))


def source():
    return FrameSource(path="pump/fast", site="test", begun_us=BEGUN, seen=Seen())


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30), st.sampled_from([LIVE, LATE]))))
def test_a_frame_fires_once_however_often_and_whichever_way_it_comes(frames):
    one, fired = source(), []
    for epoch, seq, topic in frames:
        if (firing := one.firing(message(seq, epoch=epoch, topic=topic))) is not None:
            fired.append((epoch, firing.values["values"]["level"]))

    assert len(fired) == len(set(fired))
    assert set(fired) == {(epoch, float(seq)) for epoch, seq, _ in frames}


def test_frames_of_an_outage_come_out_of_the_journal_but_not_those_from_before_the_trigger():
    one = source()

    assert one.firing(message(7, topic=LATE, t=BEGUN)) is not None
    assert one.firing(message(6, topic=LATE, t=BEGUN - 1)) is None


def test_a_frame_without_values_fires_nothing():
    assert source().firing(message(1, empty=True)) is None


def test_it_listens_to_its_group_live_and_out_of_the_journal_and_to_nothing_else():
    assert source().filters == (LIVE, LATE)
