"""Retained topics on their way to the broker: the latest value of each topic, and all of them again when asked."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, Protocol

from services.runtime.mqtt.envelope import Envelope
from services.runtime.mqtt.outgoing import Message

Encode = Callable[[bool], bytes]


class Retained(Protocol):
    """The value of one retained topic; it may change before it is put again."""

    @property
    def envelope(self) -> Envelope:
        """Of the topic."""
        ...

    @property
    def encode(self) -> Encode | None:
        """Gives the payload when it is sent, told whether it has been published before (raises ContractError on one too
        long); None clears the topic."""
        ...


class RetainedValue(NamedTuple):
    """See Retained."""

    envelope: Envelope
    encode: Encode | None


Parcel = tuple[Retained, bool]
"""A topic's value, taken from the outbox, and whether it has been published before."""


def message_of(parcel: Parcel) -> Message:
    """What is sent; see Retained.encode. No bytes clear the topic."""
    value, again = parcel
    encode = value.encode
    return value.envelope, encode(again) if encode else b""


class Outbox:
    """The values that the broker should hold, and which of them it still has to be given.

    Per topic the latest value wins, and keeps the place in line of the one before it, so that a topic that changes fast
    does not hold back the others. Holds one value per topic ever put, until that topic is cleared; so its bound is the
    number of topics.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Retained] = {}
        self._waiting: dict[str, bool] = {}  # topic: published before

    def __len__(self) -> int:
        """How many topics wait."""
        return len(self._waiting)

    @property
    def kept(self) -> int:
        """How many topics there are."""
        return len(self._kept)

    def put(self, values: Iterable[Retained]) -> None:
        """These are their topics' values from now on."""
        for value in values:
            topic = value.envelope.topic
            self._kept[topic] = value
            self._waiting[topic] = False

    def take(self, most: int) -> list[Parcel]:
        """The topics that have waited longest, at most `most`; they wait no more. All are settled or put back."""
        return [(self._kept[topic], self._waiting.pop(topic)) for topic in list(islice(self._waiting, most))]

    def settle(self, parcels: Iterable[Parcel]) -> None:
        """The parcels need sending no more. A topic that was cleared is now forgotten."""
        for value, _ in parcels:
            if value.encode is None and self._kept.get(value.envelope.topic) is value:
                self.forget(value.envelope.topic)

    def put_back(self, parcels: Iterable[Parcel]) -> None:
        """The parcels could not be sent. Where a topic has a newer value, that one waits already."""
        for value, again in parcels:
            topic = value.envelope.topic
            if self._kept.get(topic) is value:
                self._waiting.setdefault(topic, again)

    def forget(self, topic: str) -> None:
        """The topic is somebody else's from now on."""
        self._kept.pop(topic, None)
        self._waiting.pop(topic, None)

    def repeat(self) -> None:
        """The broker may have lost what it held: every topic waits again, behind those that wait already."""
        for topic in self._kept:
            self._waiting.setdefault(topic, True)
