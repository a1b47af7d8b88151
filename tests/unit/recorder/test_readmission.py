"""Dead letters that are tried again, and the frame of one value that a refused point becomes."""

from contracts.v1.frame_codec import FrameStruct, QualityStruct, SampleStruct, decode_frame, encode_frame
from services.recorder.spool.deadletters import DeadLetter, KeptLetter
from services.recorder.spool.frames import FrameReader, Spooled, single
from services.recorder.spool.marks import EpochMarks
from services.recorder.spool.readmission import readmit
from services.runtime.gaps import Gaps, StreamKey
from tests.recorder_rig import SITE, TOPIC, Message, event_message, message

STREAM = StreamKey("frame", "plc", "fast")


def kept(*messages: Message) -> list[KeptLetter]:
    return [
        KeptLetter(at, 5, DeadLetter("contract", "why", one.topic, one.payload)) for at, one in enumerate(messages, 1)
    ]


def test_a_letter_whose_number_is_had_goes_past_the_marks_and_another_changes_them():
    known = {STREAM: {1: EpochMarks(1, ((1, 3),))}}

    given = readmit(kept(message(2), message(5), message(5)), known, Gaps(), site=SITE)

    assert given.back == [1, 2, 3]
    assert [one.payload for one in given.admission.kept] == [message(seq).payload for seq in (2, 5, 5)]
    assert given.admission.marks == {STREAM: {1: EpochMarks(1, ((1, 3), (5, 5)))}}
    assert given.admission.bytes == sum(len(one.payload) for one in given.admission.kept)
    assert known == {STREAM: {1: EpochMarks(1, ((1, 3),))}}


def test_what_breaks_its_contract_still_stays_a_letter():
    bad = message(2, [SampleStruct(t=1, v={"No Level": 1})])
    letters = kept(Message(b"{"), bad, Message(b"x", topic=""), message(1, topic=TOPIC.replace(SITE, "other")))

    given = readmit(letters, {}, Gaps(), site=SITE)

    assert (given.back, given.refused) == ([], 4)
    assert not given.admission.marks


def test_events_come_back_as_events():
    given = readmit(kept(event_message(1, "online")), {}, Gaps(), site=SITE)

    assert [event.type for one in given.admission.events for event in one.message.events] == ["online"]


def test_a_value_alone_keeps_all_that_belongs_to_it():
    frame = FrameStruct(
        epoch=3,
        seq=4,
        rev="r",
        samples=[
            SampleStruct(t=1, v={"a": 1.5, "b": None}),
            SampleStruct(
                t=9,
                v={"a": 2, "big": str(2**70), "c": [1, 2.5]},
                q={"big": QualityStruct(q=64, cause="range"), "a": QualityStruct(q=0, cause="comm")},
                dt={"big": -3, "c": 2},
                big=["big"],
            ),
        ],
    )
    whole = FrameReader().read(Spooled(1, "plc", "fast", TOPIC, encode_frame(frame, topic=TOPIC))).frame

    alone = [decode_frame(encode_frame(single(whole, at), topic=TOPIC), topic=TOPIC) for at in range(5)]

    assert [(one.epoch, one.seq) for one in alone] == [(3, 4)] * 5
    assert [one.samples for one in alone] == [
        [SampleStruct(t=1, v={"a": 1.5})],
        [SampleStruct(t=1, v={"b": None})],
        [SampleStruct(t=9, v={"a": 2}, q={"a": QualityStruct(q=0, cause="comm")})],
        [
            SampleStruct(
                t=9, v={"big": str(2**70)}, q={"big": QualityStruct(q=64, cause="range")}, dt={"big": -3}, big=["big"]
            )
        ],
        [SampleStruct(t=9, v={"c": [1, 2.5]}, dt={"c": 2})],
    ]
