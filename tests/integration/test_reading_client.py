"""The recorder's own MQTT client against a real broker, and against a socket that says what a broker never would."""

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes

from services.runtime.mqtt.buffered_socket import ReadAhead
from services.runtime.mqtt.properties import properties_of
from services.runtime.mqtt.publication import Publication
from services.runtime.mqtt.reading_client import ReadingClient
from tests.conftest import Eventually
from tests.integration.test_recorder import client
from tests.real_broker import Broker
from tests.real_bus import WAIT_S

TOPIC = "dinrail/v1/test/frame/plc/fast"


def reading(take: Callable[[Publication], None]) -> ReadingClient:
    """A client as the session makes it."""

    def read_ahead(one, userdata, sock) -> None:
        one._sock = ReadAhead(sock)

    made = ReadingClient(client_id="reader", take=take)
    made.on_socket_open = read_ahead
    made.on_connect = lambda one, *_: one.subscribe(TOPIC, qos=1)
    return made


@asynccontextmanager
async def connected(broker: Broker, eventually: Eventually, taken: list[Publication]) -> AsyncIterator[ReadingClient]:
    """In its session, which outlives it; what it takes goes to `taken`.

    Ends once the broker has read the acknowledgements. It reads them one by one, and whoever takes the session over in
    between is sent again what it had not come to.
    """
    one, subscribed = reading(taken.append), []
    one.on_subscribe = lambda *_: subscribed.append(True)
    connect = properties_of(PacketTypes.CONNECT)
    connect.SessionExpiryInterval = 300
    one.connect("127.0.0.1", broker.port, clean_start=False, properties=connect)
    one.loop_start()
    try:
        await eventually(lambda: subscribed)
        yield one
        subscribed.clear()
        one.subscribe(TOPIC, qos=1)
        await eventually(lambda: subscribed)  # which is answered after all that was sent before it
    finally:
        one.disconnect()
        one.loop_stop()


async def test_each_message_is_taken_and_comes_again_unless_it_was_acknowledged(broker, eventually):
    lives: list[list[Publication]] = [[], [], []]

    def payloads(life: int) -> list[bytes]:
        return [one.payload for one in lives[life]]

    async with connected(broker, eventually, lives[0]) as reader, client(broker) as sender:
        for at in range(10):
            await sender.publish(TOPIC, f"{at}", qos=1)
        await eventually(lambda: len(lives[0]) == 10)
        reader.acknowledge([one.mid for one in lives[0][:3]])
    async with connected(broker, eventually, lives[1]) as reader:
        await eventually(lambda: len(lives[1]) == 7)
        reader.acknowledge([one.mid for one in lives[1]])
    async with connected(broker, eventually, lives[2]), client(broker) as sender:
        await sender.publish(TOPIC, "new", qos=1)
        await eventually(lambda: lives[2])

    assert payloads(0) == [b"%d" % at for at in range(10)]
    assert payloads(1) == [b"%d" % at for at in range(3, 10)]
    assert payloads(2) == [b"new"]
    assert {(one.topic, one.qos, one.retain) for one in lives[0]} == {(TOPIC, 1, False)}


def publish(topic: str, mid: int, payload: bytes) -> bytes:
    """A PUBLISH packet with QoS 1 and no properties."""
    body = struct.pack("!H", len(topic)) + topic.encode() + struct.pack("!HB", mid, 0) + payload
    return bytes((0x32, len(body))) + body


@asynccontextmanager
async def spoken_to(taken: list[Publication]) -> AsyncIterator[tuple[ReadingClient, socket.socket]]:
    """A client that has connected to us, to be driven by hand, and our end of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = reading(taken.append)
        one.connect("127.0.0.1", listening.getsockname()[1])
        with listening.accept()[0] as here:
            here.settimeout(WAIT_S)
            here.sendall(bytes((0x20, 3, 0, 0, 0)))
            while not one.is_connected():
                one.loop(1.0)
            yield one, here
        one.disconnect()


def all_that_came(one: ReadingClient, size: int) -> None:
    """Returns once so many bytes wait for the client."""
    sock = one.socket()
    assert sock is not None
    while len(socket.socket.recv(sock._sock, size, socket.MSG_PEEK | socket.MSG_WAITALL)) < size:
        pass


async def test_what_has_come_at_once_is_taken_by_one_read_and_answered_by_one_packet_queue():
    taken: list[Publication] = []
    async with spoken_to(taken) as (one, here):
        packets = b"".join(publish(TOPIC, mid, b"x") for mid in range(1, 51))
        one.socket()._sock.setblocking(True)
        here.sendall(packets)
        all_that_came(one, len(packets))

        assert one.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
        assert [message.mid for message in taken] == list(range(1, 51))
        one.acknowledge([message.mid for message in taken])
        one.loop_write()
        answers = b""
        while len(answers) < 4 * 50:
            answers += here.recv(4096)

    # What comes before is the subscription.
    assert answers.endswith(b"".join(bytes((0x40, 2, 0, mid)) for mid in range(1, 51)))


@pytest.mark.parametrize("body", [b"", b"\x00", struct.pack("!H", 60) + b"short", struct.pack("!H", 1) + b"t\x00"])
async def test_a_message_that_is_none_ends_the_connection_and_is_not_taken(body):
    taken: list[Publication] = []
    async with spoken_to(taken) as (one, here):
        one.socket()._sock.setblocking(True)
        packet = bytes((0x32, len(body))) + body
        here.sendall(packet)
        all_that_came(one, len(packet))

        assert one.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS
        assert taken == []
        assert one.socket() is None
