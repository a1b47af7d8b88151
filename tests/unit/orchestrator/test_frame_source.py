"""Which messages of a durable session fire: each frame once, whichever way it comes, and what is missing is known."""

import json

from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.backfill import BACKFILL
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct, PreviousStruct, SampleStruct, encode_frame
from services.orchestrator.triggers.sources import FrameSource

LIVE = FRAME.build(site="test", device="pump", group="fast")
LATE = BACKFILL.build(site="test", kind="frame", owner="pump", stream="fast")
BEGUN = 1_000


def payload(seq, *, epoch=1, times=(BEGUN + 1,), prev=None, backlog=None):
    samples = [SampleStruct(t=t, v={"level": float(seq)}) for t in times]
    previous = PreviousStruct(*prev) if prev else None
    frame = FrameStruct(epoch=epoch, seq=seq, rev="r", samples=samples, prev=previous, backlog=backlog)
    return encode_frame(frame, topic=LIVE)


def source(state=None):
    return FrameSource("pump/fast", site="test", begun_us=BEGUN, state=state)


def fire(one, seq, *, topic=LIVE, **more):
    """What the frame fires, its run done at once; None if the frame was done with before."""
    data = payload(seq, **more)
    name = one.name(topic, data)
    if one.is_done(name):
        return None
    firing = one.firing(topic, data)
    one.done(name)
    return firing


def missing(one):
    return {epoch: list(marks.holes) for epoch, marks in one.seen.marks.items() if marks.holes}


def after_a_kill(one):
    return source(json.loads(json.dumps(one.state())))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30), st.sampled_from([LIVE, LATE]), st.booleans())))
def test_a_frame_fires_once_however_often_and_whichever_way_it_comes_and_whatever_is_killed(frames):
    one, fired = source(), []
    for epoch, seq, topic, killed in frames:
        one = after_a_kill(one) if killed else one
        if (firing := fire(one, seq, epoch=epoch, topic=topic)) is not None:
            fired.append((epoch, firing.values["values"]["level"]))

    assert len(fired) == len(set(fired))
    assert set(fired) == {(epoch, float(seq)) for epoch, seq, *_ in frames}


def test_a_frame_whose_run_is_not_over_fires_again_after_a_kill():
    one = source()
    assert one.firing(LIVE, payload(1)) is not None

    assert fire(after_a_kill(one), 1) is not None


def test_frames_of_an_outage_come_out_of_the_journal_but_not_those_from_before_the_trigger():
    one = source()

    assert fire(one, 7, topic=LATE, times=[BEGUN]) is not None
    assert fire(one, 6, topic=LATE, times=[BEGUN - 1]) is None
    assert missing(one) == {}


def test_a_frame_without_values_fires_nothing():
    assert fire(source(), 1, times=[]) is None


def test_a_frame_of_several_samples_fires_one_run_that_knows_them_all():
    firing = fire(source(), 1, times=[BEGUN + 1, BEGUN + 2])

    assert [sample["t"] for sample in firing.values["samples"]] == [BEGUN + 1, BEGUN + 2]
    assert firing.values["values"] == firing.values["samples"][-1]["values"]
    assert (firing.trigger.t, firing.trigger.epoch, firing.trigger.seq) == (BEGUN + 2, 1, 1)


def test_it_listens_to_its_group_live_and_out_of_the_journal_and_to_nothing_else():
    assert source().filters == (LIVE, LATE)


def test_a_hole_is_what_lies_before_the_newest_and_not_before_the_first():
    one = source()
    for seq in (7, 8, 12):
        fire(one, seq)
    assert missing(one) == {1: [(9, 11)]}

    fire(one, 10, topic=LATE)
    assert missing(one) == {1: [(9, 9), (11, 11)]}
    one.seen.done_with(1, 9, 11)
    assert missing(one) == {}


def test_a_hole_is_found_that_a_kill_lies_in():
    one = source()
    fire(one, 7)
    one = after_a_kill(one)
    assert missing(one) == {}

    fire(one, 9)
    assert missing(one) == {1: [(8, 8)]}


def test_what_is_missing_at_the_end_of_an_epoch_and_of_epochs_never_heard_is_found_by_the_next():
    one = source()
    fire(one, 7)
    fire(one, 1, epoch=3, prev=(2, 4))

    assert missing(one) == {2: [(1, 4)]}
    fire(one, 1, epoch=2, topic=LATE, prev=(1, 9))
    assert missing(one) == {1: [(8, 9)], 2: [(2, 4)]}


def test_of_an_epoch_that_is_heard_from_its_midst_all_before_is_missing_if_one_before_it_was_heard():
    one = source()
    fire(one, 7)
    fire(one, 3, epoch=2)

    assert missing(one) == {2: [(1, 2)]}


def test_what_the_stream_announces_is_known_from_its_newest_live_frame():
    one = source()
    fire(one, 7, backlog=[(1, 2, 5)])
    fire(one, 5, topic=LATE)
    assert one.seen.announced == ((1, 2, 5),)

    fire(one, 8)
    assert one.seen.announced == ()
