"""The MQTT 5 properties that our packets carry."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, cast

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from services.runtime.publication import pack_properties

WILL_DELAY_S = 2
"""Long enough for a reconnect to forestall the will. Mosquitto looks at its wills once a second, so that a crash is
seen within 3 s and a little: with a delay of 3 s it was often 4, which is the promise's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes, retained, if the connection breaks and does not come back within WILL_DELAY_S."""

    topic: str
    payload: bytes
    expiry_s: int


class _Packed(NamedTuple):
    """Properties packed once: to pack them anew for each message costs more than all the rest of publishing it."""

    data: bytes

    def pack(self) -> bytes:
        """All that paho asks of properties."""
        return self.data


def properties_of(packet_type: int) -> Properties:
    """Properties for a packet of this type, none set yet."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def publish_properties(
    expiry_s: int | None, *, response_topic: str | None = None, correlation: bytes | None = None
) -> Properties:
    """What a publication carries: that it is JSON in UTF-8, its expiry, and for commands and answers their pairing."""
    if response_topic is None and correlation is None:
        return _plain_properties(expiry_s)
    return cast("Properties", _Packed(pack_properties(expiry_s, response_topic, correlation)))


def broker_will(will: Will) -> aiomqtt.Will:
    """The will as aiomqtt takes it."""
    properties = properties_of(PacketTypes.WILLMESSAGE)
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1  # UTF-8
    properties.WillDelayInterval = WILL_DELAY_S
    properties.MessageExpiryInterval = will.expiry_s
    return aiomqtt.Will(topic=will.topic, payload=will.payload, qos=1, retain=True, properties=properties)


@lru_cache(maxsize=256)
def _plain_properties(expiry_s: int | None) -> Properties:
    return cast("Properties", _Packed(pack_properties(expiry_s, None, None)))
