"""Publications under way: no more than the broker takes, each number once, each answered or given up."""

import asyncio
import re
from itertools import cycle

import pytest

from services.runtime.mqtt.delivery import BusUnavailable, PublishRefused
from services.runtime.mqtt.envelope import Envelope, pack_properties, plain_properties
from services.runtime.mqtt.outgoing import MOST_IN_FLIGHT, Outgoing, Refusals
from services.runtime.mqtt.publication import Publication, read_publication


def message(topic: str, data: bytes, properties: bytes = plain_properties(None)) -> tuple[Envelope, bytes]:
    return Envelope(topic, kind="FRAME", retain=False, properties=properties), data


class Wire:
    """What has been put, read back; and an Outgoing that puts it. numbers: the packet identifiers, in turn."""

    def __init__(self, numbers: range = range(1, 65536)) -> None:
        self.sent: list[Publication] = []
        self.outgoing = Outgoing(next_mid=cycle(numbers).__next__, put=self._put, loop=asyncio.get_running_loop())

    def _put(self, packets: bytes) -> None:
        while packets:  # each is short: its length is one byte
            size = 2 + packets[1]
            self.sent.append(read_publication(packets[0], packets[2:size]))
            packets = packets[size:]

    def send(self, topic: str = "t", data: bytes = b"5") -> asyncio.Future[Refusals]:
        return self.outgoing.send([message(topic, data)])


@pytest.mark.parametrize(("receive_maximum", "at_once"), [(None, MOST_IN_FLIGHT), (3, 3), (65535, MOST_IN_FLIGHT)])
async def test_no_more_are_under_way_than_the_broker_takes(receive_maximum: int | None, at_once: int) -> None:
    wire = Wire()
    wire.outgoing.limit(receive_maximum=receive_maximum, most_bytes=None)
    answers = [wire.send(data=b"%d" % number) for number in range(100)]
    assert len(wire.sent) == at_once

    for number in range(100):
        wire.outgoing.settle([(wire.sent[number].mid, 0)])
        assert len(wire.sent) == min(100, at_once + number + 1)

    assert [one.payload for one in wire.sent] == [b"%d" % number for number in range(100)]
    assert all(answer.result() == [] for answer in answers)
    assert not wire.outgoing


async def test_a_number_that_is_in_use_is_not_given_twice() -> None:
    wire = Wire(range(1, 4))
    wire.send()
    second = wire.send()
    wire.outgoing.settle([(1, 0)])
    wire.send()
    wire.send()

    assert [one.mid for one in wire.sent] == [1, 2, 3, 1]
    assert not second.done()


async def test_a_refusal_names_its_topic_and_reason() -> None:
    wire = Wire()
    answer = wire.send("tag/a")
    wire.outgoing.settle([(wire.sent[0].mid, 0x87)])

    (refusal,) = await answer
    assert re.search(r"tag/a.*Not authorized", str(refusal))


@pytest.mark.parametrize("reason", range(0x80, 0x100))
async def test_whatever_the_reason_of_a_refusal_who_published_learns_it(reason: int) -> None:
    wire = Wire()
    answer = wire.send()
    wire.outgoing.settle([(wire.sent[0].mid, reason)])

    (refusal,) = await answer
    assert refusal.reason == reason


@pytest.mark.parametrize("topic", ["t", "ü" * 300])
async def test_a_packet_is_as_long_as_the_broker_takes_and_no_longer(topic: str) -> None:
    packets: list[bytes] = []
    outgoing = Outgoing(next_mid=cycle(range(1, 9)).__next__, put=packets.append, loop=asyncio.get_running_loop())
    outgoing.limit(receive_maximum=None, most_bytes=5000)
    properties = pack_properties(60, "r" * 200, bytes(2000))

    for size in range(1000, 3000):
        answer = outgoing.send([message(topic, bytes(size), properties)])
        if answer.done():
            assert [type(refusal) for refusal in answer.result()] == [PublishRefused]
            break
        outgoing.settle([(1 + (size - 1000) % 8, 0)])
    assert 4995 < max(map(len, packets)) <= 5000


async def test_what_would_end_the_connection_is_not_sent() -> None:
    wire = Wire()
    wire.outgoing.limit(receive_maximum=None, most_bytes=1000)

    for answer in (wire.send("reply/+/a"), wire.send(data=bytes(1000))):
        assert [type(refusal) for refusal in await answer] == [PublishRefused]
    assert not wire.sent


async def test_what_the_connection_leaves_unanswered_is_told_so_sent_or_not() -> None:
    wire = Wire()
    answers = [wire.send() for _ in range(MOST_IN_FLIGHT + 5)]
    wire.outgoing.give_up()
    wire.outgoing.settle([(wire.sent[0].mid, 0)])

    assert [type(answer.exception()) for answer in answers] == [BusUnavailable] * len(answers)
    assert len(wire.sent) == MOST_IN_FLIGHT


async def test_nobody_waits_for_an_answer_and_the_next_still_goes_out() -> None:
    wire = Wire()
    wire.outgoing.limit(receive_maximum=1, most_bytes=None)
    wire.send().cancel()
    wire.send(data=b"6")
    wire.outgoing.settle([(wire.sent[0].mid, 0)])

    assert wire.sent[1].payload == b"6"


async def test_what_is_sent_together_is_answered_once_and_names_what_was_refused() -> None:
    wire = Wire()
    wire.outgoing.limit(receive_maximum=2, most_bytes=1000)
    lot = [message(topic, b"5") for topic in ("a", "b", "c", "d/+")]
    answer = wire.outgoing.send([*lot, message("e", bytes(1000))])

    wire.outgoing.settle([(wire.sent[1].mid, 0x87), (wire.sent[0].mid, 0)])
    assert not answer.done()
    wire.outgoing.settle([(wire.sent[2].mid, 0x10)])  # nobody has subscribed, which is no refusal

    assert [refusal.topic for refusal in answer.result()] == ["d/+", "e", "b"]
    assert not wire.outgoing
