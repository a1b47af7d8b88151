"""What becomes of a batch of messages, before anything is written."""

from dataclasses import dataclass

import pytest

from services.recorder.admission import admit
from services.recorder.marks import EpochMarks, Missing, StreamKey

FAST = StreamKey("frame", "plc", "fast")
TOPIC = "dinrail/v1/test/frame/plc/fast"


@dataclass
class Message:
    payload: bytes
    topic: str = TOPIC


def frame(seq, epoch=1, more=""):
    return Message(f'{{"epoch":{epoch},"seq":{seq},"rev":"r","samples":[]{more}}}'.encode())


def test_a_batch_is_kept_in_order_and_its_marks_grow():
    admission = admit([frame(1), frame(2), frame(3)], {}, site="test")

    assert [kept.payload for kept in admission.kept] == [frame(seq).payload for seq in (1, 2, 3)]
    assert admission.marks == {FAST: {1: EpochMarks(1, ((1, 3),))}}
    assert admission.bytes == sum(len(frame(seq).payload) for seq in (1, 2, 3))


def test_a_frame_that_is_had_or_stands_twice_in_the_batch_is_a_duplicate():
    admission = admit([frame(2), frame(3), frame(3)], {FAST: {1: EpochMarks(1, ((1, 2),))}}, site="test")

    assert admission.duplicates == 2
    assert len(admission.kept) == 1


def test_the_marks_given_stay_as_they_are():
    known = {FAST: {1: EpochMarks(1, ((1, 2),))}}

    admit([frame(3)], known, site="test")

    assert known == {FAST: {1: EpochMarks(1, ((1, 2),))}}


def test_a_gap_is_named():
    admission = admit([frame(5)], {FAST: {1: EpochMarks(1, ((1, 2),))}}, site="test")

    assert admission.missing == [(FAST, Missing(1, 3, 4))]


@pytest.mark.parametrize(
    "message",
    [
        Message(b"{"),
        Message(b'{"epoch":1}'),
        Message(b'{"epoch":1,"seq":1,"rev":"r","samples":' + b"[" * 500_000),
        frame(0),
        frame(2**53),
        frame(1, more=f',"prev":{{"epoch":1,"last_seq":{2**60}}}'),
        Message(frame(1).payload, topic="dinrail/v1/test/tag/plc/x"),
        Message(frame(1).payload, topic="dinrail/v1/other/frame/plc/fast"),
    ],
)
def test_a_message_that_keeps_no_contract_is_set_aside_and_changes_no_marks(message):
    admission = admit([message, frame(1)], {}, site="test")

    (letter,) = admission.dead
    assert (letter.topic, letter.payload) == (message.topic, message.payload)
    assert len(admission.kept) == 1
