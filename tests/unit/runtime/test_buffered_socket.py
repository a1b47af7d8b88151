"""The buffer before the socket to the broker: nothing is lost, doubled or turned round, whatever the pieces."""

import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.runtime.mqtt.buffered_socket import BufferedSocket

Pair = tuple[BufferedSocket, socket.socket]


def pair() -> Pair:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return BufferedSocket(ours, now_s=time.monotonic), theirs


@pytest.fixture
def sockets() -> Iterator[Pair]:
    ours, theirs = pair()
    with theirs:
        yield ours, theirs
        ours.close()


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=10), size=st.integers(1, 60))
def test_what_is_received_in_pieces_is_what_was_sent(chunks: list[bytes], size: int) -> None:
    ours, theirs = pair()
    with theirs:
        theirs.sendall(b"".join(chunks))
        got = b""
        while len(got) < sum(map(len, chunks)):
            got += ours.recv(size)
        ours.close()

    assert got == b"".join(chunks)


def test_pending_tells_what_no_selector_knows_of(sockets: Pair) -> None:
    ours, theirs = sockets
    assert ours.pending() == 0
    theirs.sendall(b"abcdef")

    assert ours.recv(2) == b"ab"
    assert ours.pending() == 4
    assert ours.recv(10) == b"cdef"
    assert ours.pending() == 0
    with pytest.raises(BlockingIOError):
        ours.recv(1)


def test_the_end_of_the_stream_is_told(sockets: Pair) -> None:
    ours, theirs = sockets
    theirs.sendall(b"x")
    theirs.close()

    assert ours.recv(5) == b"x"
    assert ours.recv(5) == b""


def test_nothing_is_sent_before_flush_and_then_everything_in_order(sockets: Pair) -> None:
    ours, theirs = sockets
    theirs.setblocking(False)
    ours.send(b"one ")
    ours.send(b"two")
    with pytest.raises(BlockingIOError):
        theirs.recv(1)

    assert ours.flush()
    assert theirs.recv(100) == b"one two"


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(1, 300_000), min_size=1, max_size=6))
def test_a_socket_that_takes_only_a_part_gets_the_rest_later(sizes: list[int]) -> None:
    ours, theirs = pair()
    sent = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    got = bytearray()
    with theirs:
        for number, size in enumerate(sizes):
            ours.send(bytes([number]) * size)
        while not ours.flush():
            got += theirs.recv(1 << 16)
        ours.close()
        while more := theirs.recv(1 << 16):
            got += more

    assert got == sent


def test_closing_sends_what_has_gathered(sockets: Pair) -> None:
    ours, theirs = sockets
    ours.send(b"farewell")
    ours.close()

    assert theirs.recv(100) == b"farewell"
    assert ours.fileno() == -1


def test_what_may_have_waited_for_long_is_taken_to_have_come_when_the_socket_was_last_seen_empty() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    now_s = 100.0
    buffered = BufferedSocket(ours, now_s=lambda: now_s)
    with ours, theirs:
        now_s = 110.0
        buffered.look()
        theirs.sendall(b"x")
        now_s = 111.5
        assert buffered.recv(1) == b"x"
        assert buffered.arrival_s() == 111.5
        theirs.sendall(b"y")
        now_s = 115.0
        buffered.look()
        assert buffered.recv(1) == b"y"
        assert buffered.arrival_s() == 111.5
