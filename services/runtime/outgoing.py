"""Publications on their way over one connection: numbered, so many at a time, each until the broker has answered it.

In place of paho's publish(), which was half of what a tag message cost: it keeps each message for a session that a
connection of ours never resumes. Nothing is sent a second time here, since each connection begins a session of its own
(clean start; OASIS MQTT 5.0, 4.4): who published hears that there was no answer, and decides.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from services.runtime.delivery import BusError, BusUnavailable, PublishRefused
from services.runtime.publication import pack_publication

MOST_IN_FLIGHT = 20
"""Publications on the wire without an answer, unless the broker takes fewer; the rest waits here."""

_REFUSED = 0x80  # and above: MQTT 5.0, 2.4
_TOO_LARGE = 0x95
_TOPIC_INVALID = 0x90
_MOST_FRAMING = 9
"""Bytes of a packet beside its topic, properties and payload, at most: kind, length, topic's length, identifier."""


@dataclass(slots=True)
class _Publication:
    topic: str
    data: bytes
    retain: bool
    properties: bytes
    since_s: float
    answer: asyncio.Future[None]


class Outgoing:
    """next_mid: a packet identifier, 1 to 65535, in turn. put: takes a packet for the broker."""

    def __init__(
        self, *, next_mid: Callable[[], int], put: Callable[[bytes], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._next_mid = next_mid
        self._put = put
        self._loop = loop
        self._window = MOST_IN_FLIGHT
        self._most_bytes: int | None = None
        self._waiting: deque[_Publication] = deque()
        self._awaited: dict[int, _Publication] = {}

    def limit(self, *, receive_maximum: int | None, most_bytes: int | None) -> None:
        """What the broker takes: publications without an answer, and bytes of a packet (3.2.2.3.3, 3.2.2.3.6)."""
        self._window = min(MOST_IN_FLIGHT, receive_maximum or MOST_IN_FLIGHT)
        self._most_bytes = most_bytes

    def send(self, topic: str, data: bytes, *, retain: bool, properties: bytes) -> asyncio.Future[None]:
        """Sends a message as soon as there is room, in the order of the calls. The future is the broker's answer.

        It raises PublishRefused, also of what the broker would end the connection for, again and again; and
        BusUnavailable once nothing more is answered.
        """
        answer: asyncio.Future[None] = self._loop.create_future()
        length = len(topic.encode()) + len(properties) + len(data) + _MOST_FRAMING
        if self._most_bytes is not None and length > self._most_bytes:
            _fail(answer, PublishRefused(topic, _TOO_LARGE, "longer than the broker takes"))
        elif "+" in topic or "#" in topic:
            _fail(answer, PublishRefused(topic, _TOPIC_INVALID, "a wildcard in a topic"))
        else:
            publication = _Publication(topic, data, retain, properties, self._loop.time(), answer)
            if len(self._awaited) < self._window:
                self._begin(publication)
            else:
                self._waiting.append(publication)
        return answer

    def settle(self, mid: int, reason: int) -> None:
        """The broker has answered: the future gets its result, or PublishRefused."""
        publication = self._awaited.pop(mid, None)
        if publication is None:
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        if publication.answer.done():
            return
        if reason >= _REFUSED:
            _fail(publication.answer, PublishRefused(publication.topic, reason, _told(reason)))
        else:
            publication.answer.set_result(None)

    def oldest_s(self) -> float:
        """For how long the oldest has been without an answer; 0 if none is."""
        oldest = next(iter(self._awaited.values()), None)
        return self._loop.time() - oldest.since_s if oldest else 0.0

    def give_up(self) -> None:
        """The connection is over: nothing more will be answered."""
        for publication in (*self._awaited.values(), *self._waiting):
            if not publication.answer.done():
                _fail(publication.answer, BusUnavailable("the connection broke before the broker had answered"))
        self._awaited.clear()
        self._waiting.clear()

    def __len__(self) -> int:
        """How many have no answer yet."""
        return len(self._awaited) + len(self._waiting)

    def _begin(self, publication: _Publication) -> None:
        mid = self._next_mid()
        while mid in self._awaited:
            mid = self._next_mid()
        self._awaited[mid] = publication
        self._put(
            pack_publication(
                publication.topic.encode(),
                publication.data,
                mid=mid,
                retain=publication.retain,
                properties=publication.properties,
            )
        )


def _told(reason: int) -> str:
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=reason))
    except (KeyError, ValueError):
        return "for a reason that MQTT does not give to a publication"


def _fail(answer: asyncio.Future[None], error: BusError) -> None:
    """The future raises the error, if somebody waits for it."""
    answer.set_exception(error)
    answer.exception()  # counts as looked at, should nobody wait for it any more
