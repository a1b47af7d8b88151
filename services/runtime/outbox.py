"""Retained topics on their way to the broker: the latest value of each topic, and all of them again when asked."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

Encode = Callable[[bool], bytes]


class Retained(NamedTuple):
    """The value of one retained topic.

    kind: the name of its Topic. encode: gives the payload when it is sent, told whether it has been published before
    (raises ContractError on one too long); None clears the topic.
    """

    kind: str
    encode: Encode | None
    expiry_s: int | None


class Parcel(NamedTuple):
    """A topic's value, taken from the outbox. again: it has been published before."""

    topic: str
    value: Retained
    again: bool

    def encode(self) -> bytes:
        """See Retained.encode; no bytes clear the topic."""
        return self.value.encode(self.again) if self.value.encode else b""


class Outbox:
    """The values that the broker should hold, and which of them it still has to be given.

    Per topic the latest value wins, and keeps the place in line of the one before it, so that a topic that changes fast
    does not hold back the others. Holds one value per topic ever put, until that topic is cleared; so its bound is the
    number of topics.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Retained] = {}
        self._waiting: OrderedDict[str, bool] = OrderedDict()  # topic: published before

    def __len__(self) -> int:
        """How many topics wait."""
        return len(self._waiting)

    @property
    def kept(self) -> int:
        """How many topics there are."""
        return len(self._kept)

    def put(self, topic: str, value: Retained) -> None:
        """This is the topic's value from now on."""
        self._kept[topic] = value
        self._waiting[topic] = False

    def take(self, most: int) -> list[Parcel]:
        """The topics that have waited longest, at most `most`; they wait no more. Each is settled or put back."""
        return [
            Parcel(topic, self._kept[topic], again)
            for topic, again in (self._waiting.popitem(last=False) for _ in range(min(most, len(self._waiting))))
        ]

    def settle(self, parcel: Parcel) -> None:
        """The parcel needs sending no more. A topic that was cleared is now forgotten."""
        if parcel.value.encode is None and self._kept.get(parcel.topic) is parcel.value:
            del self._kept[parcel.topic]
            self._waiting.pop(parcel.topic, None)

    def put_back(self, parcel: Parcel) -> None:
        """The parcel could not be sent. Where its topic has a newer value, that one waits already."""
        if self._kept.get(parcel.topic) is parcel.value:
            self._waiting.setdefault(parcel.topic, parcel.again)

    def forget(self, topic: str) -> None:
        """The topic is somebody else's from now on."""
        self._kept.pop(topic, None)
        self._waiting.pop(topic, None)

    def repeat(self) -> None:
        """The broker may have lost what it held: every topic waits again, behind those that wait already."""
        for topic in self._kept:
            self._waiting.setdefault(topic, True)
