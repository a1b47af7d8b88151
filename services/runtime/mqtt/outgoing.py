"""Publications on their way over one connection: numbered, so many at a time, each until the broker has answered it.

In place of paho's publish(), which was half of what a tag message cost: it keeps each message for a session that a
connection of ours never resumes. Nothing is sent a second time here, since each connection begins a session of its own
(clean start; OASIS MQTT 5.0, 4.4): who published hears that there was no answer, and decides. What is sent together is
answered together: one wait for hundreds of tags, not one for each.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from services.runtime.mqtt.delivery import BusUnavailable, NobodyListens, PublishRefused
from services.runtime.mqtt.envelope import Envelope

MOST_IN_FLIGHT = 80
"""Publications on the wire without an answer, unless the broker takes fewer; the rest waits here."""

Message = tuple[Envelope, bytes]
Refusals = list[PublishRefused]

_REFUSED = 0x80  # and above: MQTT 5.0, 2.4
_NO_SUBSCRIBERS = 0x10
_TOO_LARGE = 0x95
_TOPIC_INVALID = 0x90


def packet_numbers() -> Iterator[int]:
    """Packet identifiers, 1 to 65535, in turn and for ever (2.2.1)."""
    while True:
        yield from range(1, 1 << 16)


class _Lot:
    """Messages that were sent together. unanswered: how many of them."""

    __slots__ = ("answer", "refusals", "since_s", "unanswered")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[Refusals] = loop.create_future()
        self.refusals: Refusals = []
        self.since_s = loop.time()
        self.unanswered = 0

    def settle(self) -> None:
        """If all are answered, the future has its result."""
        if not self.unanswered and not self.answer.done():
            self.answer.set_result(self.refusals)


_Sent = tuple[Envelope, bytes, _Lot]


class Outgoing:
    """next_mid: a packet identifier, 1 to 65535, in turn. put: takes packets for the broker.

    window: publications that may be on the wire without an answer.
    """

    def __init__(
        self, *, next_mid: Callable[[], int], put: Callable[[bytes], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._next_mid = next_mid
        self._put = put
        self._loop = loop
        self.window = MOST_IN_FLIGHT
        self._most_bytes: int | None = None
        self._waiting: deque[_Sent] = deque()
        self._awaited: dict[int, _Sent] = {}

    def limit(self, *, receive_maximum: int | None, most_bytes: int | None) -> None:
        """What the broker takes: publications without an answer, and bytes of a packet (3.2.2.3.3, 3.2.2.3.6)."""
        self.window = min(MOST_IN_FLIGHT, receive_maximum or MOST_IN_FLIGHT)
        self._most_bytes = most_bytes

    def send(self, messages: Sequence[Message]) -> asyncio.Future[Refusals]:
        """Sends the messages as soon as there is room, in the order of the calls. The future is the broker's answer.

        It has those that were refused, also what the broker would end the connection for, again and again; and raises
        BusUnavailable once nothing more is answered.
        """
        lot = _Lot(self._loop)
        for envelope, data in messages:
            if envelope.to_many:
                lot.refusals.append(PublishRefused(envelope.topic, _TOPIC_INVALID, "a wildcard in a topic"))
            elif self._most_bytes is not None and envelope.most_bytes(data) > self._most_bytes:
                lot.refusals.append(PublishRefused(envelope.topic, _TOO_LARGE, "longer than the broker takes"))
            else:
                lot.unanswered += 1
                self._waiting.append((envelope, data, lot))
        lot.settle()
        self._begin()
        return lot.answer

    def settle(self, answers: Iterable[tuple[int, int]]) -> None:
        """The broker has answered these packet identifiers, with these reasons."""
        for mid, reason in answers:
            found = self._awaited.pop(mid, None)
            if found is not None:
                envelope, _, lot = found
                lot.unanswered -= 1
                if reason >= _REFUSED:
                    lot.refusals.append(PublishRefused(envelope.topic, reason, _told(reason)))
                elif reason == _NO_SUBSCRIBERS and envelope.to_somebody:
                    lot.refusals.append(NobodyListens(envelope.topic, reason, _told(reason)))
                if not lot.unanswered:
                    lot.settle()
        self._begin()

    def oldest_s(self) -> float:
        """For how long the oldest has been without an answer; 0 if none is."""
        oldest = next(iter(self._awaited.values()), None)
        return self._loop.time() - oldest[2].since_s if oldest else 0.0

    def give_up(self) -> None:
        """The connection is over: nothing more will be answered."""
        lots = {lot for *_, lot in (*self._awaited.values(), *self._waiting)}
        self._awaited.clear()
        self._waiting.clear()
        for lot in lots:
            if not lot.answer.done():
                lot.answer.set_exception(BusUnavailable("the connection broke before the broker had answered"))
                lot.answer.exception()  # counts as looked at, should nobody wait for it any more

    def __len__(self) -> int:
        """How many have no answer yet."""
        return len(self._awaited) + len(self._waiting)

    def _begin(self) -> None:
        """Sends what waits, as far as there is room."""
        waiting, awaited = self._waiting, self._awaited
        packets = []
        while waiting and len(awaited) < self.window:
            mid = self._next_mid()
            while mid in awaited:
                mid = self._next_mid()
            awaited[mid] = sent = waiting.popleft()
            envelope, data, _ = sent
            packets.append(envelope.packet(data, mid))
        if packets:
            self._put(b"".join(packets))


def _told(reason: int) -> str:
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=reason))
    except (KeyError, ValueError):
        return "for a reason that MQTT does not give to a publication"
