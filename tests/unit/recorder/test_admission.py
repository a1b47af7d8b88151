"""What becomes of a batch of messages, before anything is written."""

from dataclasses import dataclass

import pytest

from services.recorder.spool.admission import admit as admit_with
from services.recorder.spool.marks import EpochMarks, Missing
from services.runtime.gaps import Gaps, StreamKey

FAST = StreamKey("frame", "plc", "fast")
TOPIC = "dinrail/v1/test/frame/plc/fast"


def admit(messages, known, *, gaps=None, site="test"):
    return admit_with(messages, known, gaps or Gaps(), site=site)


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
def test_a_message_that_keeps_no_contract_is_set_aside(message):
    admission = admit([message, frame(1)], {}, site="test")

    (letter,) = admission.dead
    assert (letter.topic, letter.payload) == (message.topic, message.payload)
    assert len(admission.kept) == 1


def backfilled(message):
    return Message(message.payload, topic="dinrail/v1/test/backfill/frame/plc/fast")


def events(seq, owner="gateway", topic="dinrail/v1/test/event/plant/device/pump"):
    content = f'{{"owner":"{owner}","epoch":1,"seq":{seq},"events":[]}}'
    return Message(content.encode(), topic=topic)


def test_a_backfilled_frame_fills_its_place_in_the_stream_and_one_that_is_had_is_a_duplicate():
    known = {FAST: {1: EpochMarks(1, ((1, 2), (5, 9)))}}

    admission = admit([backfilled(frame(3)), backfilled(frame(5))], known)

    assert admission.marks == {FAST: {1: EpochMarks(1, ((1, 3), (5, 9)))}}
    assert (admission.duplicates, admission.late) == (1, 1)
    assert FAST not in admission.announced


def test_a_gap_that_a_live_frame_announces_is_not_found_missing():
    known = {FAST: {1: EpochMarks(1, ((1, 2),))}}

    admission = admit([frame(9, more=',"backlog":[[1,3,6]]')], known)

    assert admission.missing == [(FAST, Missing(1, 7, 8))]
    assert admission.announced == {FAST: [(1, 3, 6)]}


def test_what_a_backfilled_frame_once_announced_does_not_count():
    admission = admit([backfilled(frame(9, more=',"backlog":[[1,1,8]]'))], {})

    assert admission.missing == [(FAST, Missing(1, 1, 8))]


def test_events_are_kept_apart_from_frames_live_or_late():
    late = events(2, topic="dinrail/v1/test/backfill/event/gateway/main")

    admission = admit([events(1), late, late], {})

    assert [(kept.stream.owner, kept.message.seq) for kept in admission.events] == [("gateway", 1), ("gateway", 2)]
    assert admission.marks == {StreamKey("event", "gateway", "main"): {1: EpochMarks(1, ((1, 2),))}}
    assert (admission.kept, admission.duplicates, admission.late) == ([], 1, 1)


@pytest.mark.parametrize(
    "message",
    [
        events(1, topic="dinrail/v1/test/backfill/event/another/main"),
        events(1, owner="No Name"),
        Message(frame(1).payload, topic="dinrail/v1/test/event/plant/device/pump"),
        Message(frame(1).payload, topic="dinrail/v1/test/backfill/value/plc/fast"),
    ],
)
def test_events_that_keep_no_contract_are_set_aside(message):
    admission = admit([message], {})

    assert [letter.payload for letter in admission.dead] == [message.payload]
    assert admission.marks == {}


BROKEN_EVENTS = (
    b'{"owner":"gateway","epoch":1,"seq":2,"events":[{}]}',
    b'{"owner":"gateway","epoch":1,"seq":2,"events":7}',
)


@pytest.mark.parametrize("payload", BROKEN_EVENTS)
@pytest.mark.parametrize(
    "topic", ["dinrail/v1/test/event/plant/device/pump", "dinrail/v1/test/backfill/event/gateway/main"]
)
def test_the_number_of_a_message_that_keeps_no_contract_is_lost_and_not_asked_for_again(topic, payload):
    stream = StreamKey("event", "gateway", "main")
    known = {stream: {1: EpochMarks(1, ((1, 1),))}}

    admission = admit([Message(payload, topic), events(3), Message(payload, topic)], known)

    (marks,) = admission.marks[stream].values()
    assert (marks.lost, marks.holes, admission.refused) == (((2, 2, "contract"),), (), 1)
    assert len(admission.dead) == 2


def test_a_number_that_was_lost_for_its_message_is_had_once_it_comes_whole():
    stream = StreamKey("event", "gateway", "main")
    known = {stream: {1: EpochMarks(1, ((1, 1),), lost=((2, 2, "contract"),))}}

    admission = admit([events(2)], known)

    assert admission.marks == {stream: {1: EpochMarks(1, ((1, 2),))}}


@pytest.mark.parametrize(
    ("payload", "topic"),
    [
        (b'{"epoch":1,"seq":2,"prev":7}', TOPIC),
        (b'{"epoch":1,"seq":2,"prev":7}', "dinrail/v1/test/backfill/frame/plc/fast"),
    ],
)
def test_a_frame_with_a_broken_header_is_lost_by_its_number(payload, topic):
    admission = admit([Message(payload, topic)], {FAST: {1: EpochMarks(1, ((1, 1), (3, 3)))}})

    assert admission.marks[FAST][1].holes == ()


@pytest.mark.parametrize(
    ("payload", "topic"),
    [
        (b'{"epoch":1,"seq":2,"prev":7}', "dinrail/v1/other/frame/plc/fast"),
        (b'{"epoch":0,"seq":2}', TOPIC),
        (b'{"epoch":1,"seq":9007199254740992}', TOPIC),
        (b'{"epoch":1,"seq":2,"events":7}', "dinrail/v1/test/event/plant/device/pump"),
        (b'{"epoch":1,"seq":2,"prev":7}', "dinrail/v1/test/backfill/other/plc/fast"),
        (b"[" * 500_000, TOPIC),
    ],
)
def test_a_message_that_does_not_say_its_place_changes_no_marks(payload, topic):
    admission = admit([Message(payload, topic)], {})

    assert (admission.marks, admission.refused, len(admission.dead)) == ({}, 0, 1)
