"""A socket that takes what is there in one call, and sends what has gathered in one call.

paho reads a packet in at least three calls, byte by byte at first, and sends each packet by itself; the system calls
were half of what a message cost (figures in bench/RESULTS.md).
"""

import select
import socket
import ssl
from collections.abc import Callable

_AT_ONCE = 1 << 16
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_UNSEEN_S = 2.0
_LOOK_S = 1.0


class ReadAhead:
    """Stands in for a socket that does not block, and reads more than is asked for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = b""
        self._taken = 0
        self.fileno: Callable[[], int] = sock.fileno
        self.setblocking: Callable[[bool], None] = sock.setblocking
        self.setsockopt = sock.setsockopt
        self.getsockopt = sock.getsockopt
        self.shutdown: Callable[[int], None] = sock.shutdown

    def recv(self, count: int) -> bytes:
        """At most `count` bytes. Raises as the socket does when there are none."""
        begin = self._taken
        if begin >= len(self._received):
            self._receive()
            begin = 0
        self._taken = begin + count
        return self._received[begin : self._taken]

    def pending(self) -> int:
        """How many bytes are here that no selector knows of."""
        held = max(0, len(self._received) - self._taken)
        return held + (self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0)

    def send(self, data: bytes) -> int:
        """As the socket does."""
        return self._sock.send(data)

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()

    def _receive(self) -> None:
        self._received, self._taken = self._sock.recv(_AT_ONCE), 0


class BufferedSocket(ReadAhead):
    """What is sent waits for flush(), or for close().

    sift: takes what has come and gives what of it recv() is to give. Whoever waits for the socket is woken by the first
    byte: to let answers gather (SO_RCVLOWAT) holds up the broker, which has ten segments on the way at first and waits
    for their acknowledgement, put off by 40 ms where nobody reads.
    """

    def __init__(
        self, sock: socket.socket, *, now_s: Callable[[], float], sift: Callable[[bytes], bytes] = bytes
    ) -> None:
        super().__init__(sock)
        self._sift = sift
        self._now_s = now_s
        self._empty_s = self._since_s = now_s()
        self._gathered = bytearray()

    def look(self) -> None:
        """To be called every second or so: the socket may have been empty until now."""
        if self._sock.fileno() < 0:
            return
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if not poll.poll(0):
            self._empty_s = self._now_s()

    def arrival_s(self) -> float:
        """When what was received last came, by now_s: now, unless it may have waited for long, as a process that was
        stopped or starved finds it. Then it is the earliest that it can have been."""
        now_s = self._now_s()
        return self._since_s if now_s - self._since_s > _UNSEEN_S else now_s

    def _receive(self) -> None:
        since_s = self._empty_s
        try:
            received = self._sock.recv(_AT_ONCE)
        except _AGAIN:
            self._empty_s = self._now_s()
            raise
        self._since_s = since_s
        if len(received) < _AT_ONCE and not isinstance(self._sock, ssl.SSLSocket):  # which gives but a record
            self._empty_s = self._now_s()
        elif self._now_s() - since_s > _LOOK_S:
            self.look()
        self._received, self._taken = self._sift(received), 0
        if received and not self._received:
            raise BlockingIOError("nothing else has come")  # no bytes would mean the end of the stream

    def send(self, data: bytes) -> int:
        """Takes all of it, to be sent by flush()."""
        self._gathered += data
        return len(data)

    def flush(self) -> bool:
        """Sends what has gathered. False if the socket does not take all of it now. Raises OSError."""
        while self._gathered:
            try:
                sent = self._sock.send(self._gathered)
            except _AGAIN:
                return False
            del self._gathered[:sent]
        return True

    def close(self) -> None:
        """Sends what it can and closes."""
        try:
            self.flush()
        except OSError:
            pass  # the other side is gone
        finally:
            self._sock.close()
