"""The answers in what the broker sends: each is taken once, and everything else reaches its reader as it came."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.runtime.mqtt.puback import PubackSieve, pack_puback

Packet = tuple[bytes, tuple[int, int] | None]
"""A packet, and its packet identifier and reason if it is an answer."""


def length_of(body: bytes) -> bytes:
    """A variable byte integer (MQTT 5.0, 1.5.5)."""
    number, encoded = len(body), bytearray()
    while True:
        number, byte = number >> 7, number & 0x7F
        encoded.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def answer(mid: int, reason: int | None, properties: bytes | None) -> Packet:
    body = mid.to_bytes(2)
    if reason is not None:
        body += bytes((reason,))
        if properties is not None:
            body += length_of(properties) + properties
    return b"\x40" + length_of(body) + body, (mid, reason or 0)


ANSWERS = st.builds(
    answer, st.integers(1, 0xFFFF), st.none() | st.integers(0, 0xFF), st.none() | st.binary(max_size=200)
)
OTHERS = st.tuples(st.sampled_from([0x20, 0x30, 0x32, 0x90, 0xD0, 0xE0]), st.binary(max_size=300)).map(
    lambda packet: (bytes((packet[0],)) + length_of(packet[1]) + packet[1], None)
)


@example(packets=[answer(mid, None, None) for mid in (1, 515, 0x4002)], cuts=[])
@example(packets=[answer(mid, 0x10, None) for mid in (1, 515, 0x4003)], cuts=[])
@example(packets=[answer(1, 0x10, None), answer(2, None, None)], cuts=[5])
@given(packets=st.lists(ANSWERS | OTHERS, max_size=12), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_whatever_the_pieces_each_answer_is_taken_and_the_rest_is_left(packets: list[Packet], cuts: list[int]) -> None:
    taken: list[tuple[int, int]] = []
    sieve = PubackSieve(taken.extend)
    stream = b"".join(data for data, _ in packets)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    left = b"".join(sieve.sift(stream[begin:end]) for begin, end in pairwise(edges))

    assert taken == [told for _, told in packets if told]
    assert left == b"".join(data for data, told in packets if not told)


@example(b"\x40\x81\x00\x07")
@given(st.binary(max_size=200))
def test_a_broker_that_talks_nonsense_raises_nothing(data: bytes) -> None:
    PubackSieve(lambda answers: None).sift(data)


@pytest.mark.parametrize("short", [b"\x40\x00", b"\x40\x01\x07"])
def test_an_answer_without_an_identifier_is_left_to_who_refuses_it(short: bytes) -> None:
    assert PubackSieve(lambda answers: None).sift(short) == short


@pytest.mark.parametrize("kind", [b"\x30", b"\x40", b"\xd0"])
def test_a_length_of_more_than_four_bytes_is_left_to_who_refuses_it_at_once(kind: bytes) -> None:
    data = kind + bytes.fromhex("ff ff ff ff 01 40 02 00 01")
    for cut in range(len(data) + 1):
        sieve = PubackSieve(lambda answers: None)
        assert sieve.sift(data[:cut]) + sieve.sift(data[cut:]) == data
    assert PubackSieve(lambda answers: None).sift(data[:5]) == data[:5]


def test_our_own_answer_is_as_short_as_may_be() -> None:
    assert pack_puback(0x1234) == bytes.fromhex("40 02 12 34")
