"""Publications: what is packed here is what the broker and paho understand, and the other way round."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from services.runtime.mqtt.envelope import Envelope, pack_properties, plain_properties
from services.runtime.mqtt.publication import MalformedPublication, read_publication

HEADER = 0x32
"""PUBLISH with QoS 1 (MQTT 5.0, 3.3.1)."""
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
SOMETIMES = {
    "MessageExpiryInterval": st.integers(0, 0xFFFF_FFFF),
    "ResponseTopic": TEXTS,
    "CorrelationData": st.binary(max_size=200),
    "SubscriptionIdentifier": st.integers(1, 268_435_455),
    "UserProperty": st.tuples(TEXTS, TEXTS),
    "TopicAlias": st.integers(1, 0xFFFF),
    "ContentType": TEXTS,
    "PayloadFormatIndicator": st.integers(0, 1),
}


def packet(topic, properties, payload=b"5", mid=7):
    encoded = topic.encode()
    return len(encoded).to_bytes(2) + encoded + mid.to_bytes(2) + properties + payload


@given(
    topic=TEXTS,
    payload=st.binary(max_size=300),
    mid=st.integers(1, 0xFFFF),
    values=st.fixed_dictionaries({}, optional=SOMETIMES),
)
def test_what_paho_packs_is_read(topic, payload, mid, values):
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(properties, name, value)

    found = read_publication(HEADER, packet(topic, properties.pack(), payload, mid))

    assert (found.topic, found.payload, found.mid, found.qos, found.retain) == (topic, payload, mid, 1, False)
    assert found.expiry_s == values.get("MessageExpiryInterval")
    assert found.response_topic == values.get("ResponseTopic")
    assert found.correlation == values.get("CorrelationData")
    assert found.identifiers == [values[name] for name in ("SubscriptionIdentifier",) if name in values]


@given(
    expiry_s=st.none() | st.integers(0, 0xFFFF_FFFF),
    response=st.none() | TEXTS,
    correlation=st.none() | st.binary(max_size=200),
)
def test_what_is_packed_here_paho_reads(expiry_s, response, correlation):
    packed = pack_properties(expiry_s, response, correlation)

    found = Properties(PacketTypes.PUBLISH)
    _, length = found.unpack(packed)

    assert length == len(packed)
    assert (found.ContentType, found.PayloadFormatIndicator) == ("application/json", 1)
    assert getattr(found, "MessageExpiryInterval", None) == expiry_s
    assert getattr(found, "ResponseTopic", None) == response
    assert getattr(found, "CorrelationData", None) == correlation


@pytest.mark.parametrize(("header", "mid"), [(0x30, b""), (0x31, b"")])
def test_a_publication_of_qos_0_has_no_identifier(header, mid):
    found = read_publication(header, b"\x00\x01t" + mid + b"\x00" + b"5")

    assert (found.qos, found.mid, found.payload, found.retain) == (0, 0, b"5", header == 0x31)


@given(st.binary(max_size=60))
def test_what_is_no_publication_is_told_and_nothing_else_happens(data):
    with suppress(MalformedPublication):
        read_publication(HEADER, data)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_packet_that_ends_early_is_malformed(cut):
    whole = packet("t", pack_properties(5, "reply", b"1" * 16), b"")

    with pytest.raises(MalformedPublication):
        read_publication(HEADER, whole[:-cut])


@given(topic=TEXTS, payload=st.binary(max_size=20_000), mid=st.integers(1, 0xFFFF), retain=st.booleans())
def test_a_whole_packet_is_read_as_it_was_packed(topic, payload, mid, retain):
    envelope = Envelope(topic, kind="TAG", retain=retain, properties=plain_properties(180))

    packet = envelope.packet(payload, mid)
    length, shift, at = 0, 0, 0
    while not at or packet[at] & 0x80:  # MQTT 5.0, 1.5.5
        at += 1
        length, shift = length | (packet[at] & 0x7F) << shift, shift + 7
    found = read_publication(packet[0], packet[at + 1 :])

    assert length == len(packet) - at - 1
    assert (found.topic, found.payload, found.mid, found.qos, found.retain) == (topic, payload, mid, 1, retain)
    assert found.expiry_s == 180
