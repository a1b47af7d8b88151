"""What the packets carry that paho makes: properties, options and filters of a subscription, the will (MQTT 5.0)."""

from dataclasses import dataclass

import aiomqtt
from paho.mqtt.client import topic_matches_sub
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

WILL_DELAY_S = 2
"""Long enough for a reconnect to forestall the will. Mosquitto looks at its wills once a second, so that a crash is
seen within 3 s and a little: with a delay of 3 s it was often 4, which is the promise's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes, retained, if the connection breaks and does not come back within WILL_DELAY_S."""

    topic: str
    payload: bytes
    expiry_s: int


def properties_of(packet_type: int) -> Properties:
    """Properties for a packet of this type, none set yet."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def subscribe_options(qos: int, *, commands: bool) -> SubscribeOptions:
    """What a subscription asks for. commands: see subscription.Wanted."""
    retained = SubscribeOptions.RETAIN_DO_NOT_SEND if commands else SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
    return SubscribeOptions(qos=qos, retainAsPublished=commands, retainHandling=retained)


def broker_will(will: Will) -> aiomqtt.Will:
    """The will as aiomqtt takes it."""
    properties = properties_of(PacketTypes.WILLMESSAGE)
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1  # UTF-8
    properties.WillDelayInterval = WILL_DELAY_S
    properties.MessageExpiryInterval = will.expiry_s
    return aiomqtt.Will(topic=will.topic, payload=will.payload, qos=1, retain=True, properties=properties)


def filter_matches(topic_filter: str, topic: str) -> bool:
    """Whether a subscription to this filter gets the messages of this topic."""
    return topic_matches_sub(topic_filter, topic)
