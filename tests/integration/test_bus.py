"""The bus against a real mosquitto: publications, subscriptions and retained values."""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.v1.frame import FRAME
from contracts.v1.tag import TAG, TagValue
from services.cli.broker_config import MESSAGE_BYTES
from services.runtime.bus.bus import BusUnavailable, Delivery, PublishRefused
from tests.conftest import Eventually
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running
from tests.tcp_proxy import Wire, stretched


def value(number: float, **more: Any) -> TagValue:
    return TagValue(value=number, ts=1, q=192, seen=1, **more)


FRAME_TOPIC = FRAME.build(site=SITE, device="filler", group="fast")


async def test_a_published_message_arrives_with_levels_payload_and_expiry(broker: Broker) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle, device="filler")

    async with running(sender, receiver):
        await sender.publish(TAG, value(1.5), expiry_s=77, device="filler", tag="level")
        await inbox.wait(1)

    (delivery,) = inbox
    assert delivery.levels == {"site": SITE, "device": "filler", "tag": "level"}
    assert delivery.payload == value(1.5)
    assert delivery.expiry_s is not None
    assert 47 <= delivery.expiry_s <= 77
    assert not delivery.retained


async def test_what_comes_alone_is_acknowledged_though_nothing_goes_out(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", replace={"max_inflight_messages 200": "max_inflight_messages 1"})
    broker.start()
    try:
        inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
        receiver.subscribe(TAG, inbox.handle)
        async with running(sender, receiver):
            for number in range(3):
                await sender.publish(TAG, value(float(number)), device="filler", tag="level")
            await inbox.wait(3)
    finally:
        broker.stop()

    assert inbox.payloads == [value(0.0), value(1.0), value(2.0)]


class Tally(Wire):
    """A wire that counts publications without an answer. most: at a time."""

    unanswered = most = 0

    async def _requests(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        await self._counted(reader, there, packet=0x30, by=1)

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._counted(there, writer, packet=0x40, by=-1)

    async def _counted(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, packet: int, by: int
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(2)
                while head[-1] & 0x80:  # the length goes on (MQTT 5.0, 1.5.5)
                    head += await reader.readexactly(1)
                size = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(head[1:]))
                body = await reader.readexactly(size)
                self.unanswered += by * (head[0] & 0xF0 == packet)
                self.most = max(self.most, self.unanswered)
                writer.write(head + body)
        writer.close()


async def test_no_more_is_on_its_way_than_the_broker_says_it_takes(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", replace={"max_inflight_messages 200": "max_inflight_messages 5"})
    broker.start()
    try:
        inbox, receiver = Inbox(), make_bus(broker, "receiver")
        receiver.subscribe(TAG, inbox.handle)
        async with running(receiver), stretched(Tally(broker.port)) as wire:
            sender = make_bus(broker, "sender", port=wire.port)
            async with running(sender):
                for number in range(100):
                    sender.retain(TAG, value(float(number)), device="filler", tag=f"t{number}")
                async with asyncio.TaskGroup() as tasks:
                    for number in range(30):
                        tasks.create_task(sender.publish(TAG, value(1.0), device="mixer", tag=f"t{number}"))
                await inbox.wait(130)
    finally:
        broker.stop()

    assert 1 <= wire.most <= 5


async def test_what_is_posted_is_on_its_way_without_waiting_and_the_future_is_the_answer(broker: Broker) -> None:
    inbox, registry = Inbox(), CollectorRegistry()
    bus = make_bus(broker, "sender", registry=registry)
    bus.subscribe_raw(FRAME, inbox.handle)
    with pytest.raises(BusUnavailable):
        bus.post_bytes(FRAME_TOPIC, b"too early", kind="FRAME")

    async with running(bus):
        answers = [bus.post_bytes(FRAME_TOPIC, b"%d" % number, kind="FRAME") for number in range(30)]
        await inbox.wait(30)
        await asyncio.gather(*answers)

    assert inbox.payloads == [b"%d" % number for number in range(30)]
    assert registry.get_sample_value("databus_messages_total", {"direction": "sent", "class": "FRAME"}) == 30


async def test_a_late_subscriber_gets_the_last_retained_value(broker: Broker) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle)

    async with running(sender):
        for number in range(100):
            sender.retain(TAG, value(float(number)), device="filler", tag="level")
        await sender.publish(TAG, value(0.0), device="filler", tag="other")
    async with running(receiver):
        await inbox.wait(2)

    assert {delivery.levels["tag"]: delivery.payload.value for delivery in inbox} == {"level": 99.0, "other": 0.0}
    assert all(delivery.retained for delivery in inbox)


async def test_a_wildcard_subscriber_gets_5000_retained_values(broker: Broker) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle, queue_size=10_000)

    async with running(sender):
        for number in range(5000):
            sender.retain(TAG, value(float(number)), device="filler", tag=f"t{number}")
    async with running(receiver):
        await inbox.wait(5000, timeout_s=30)

    assert {delivery.payload.value for delivery in inbox} == {float(number) for number in range(5000)}


async def test_a_cleared_value_is_gone_for_late_subscribers(broker: Broker) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle)

    async with running(sender):
        sender.retain(TAG, value(1.0), device="filler", tag="removed")
        sender.retain(TAG, value(2.0), device="filler", tag="stays")
    async with running(sender_again := make_bus(broker, "sender")):
        sender_again.retain(TAG, None, device="filler", tag="removed")
    async with running(receiver):
        await inbox.wait(1)

    assert inbox.topics == ["tag/filler/stays"]


async def test_a_publication_that_the_access_rules_forbid_raises(broker_with_accounts: Broker) -> None:
    registry = CollectorRegistry()
    bus = make_bus(broker_with_accounts, "viewer-1", account="viewer", registry=registry)

    async with running(bus):
        with pytest.raises(PublishRefused, match=r"tag/filler/level.*Not authorized") as refusal:
            await bus.publish(TAG, value(1.0), device="filler", tag="level")

    assert refusal.value.reason == 0x87
    counted = registry.get_sample_value("dinrail_publish_refused_total", {"class": "TAG", "reason": "0x87"})
    assert counted == 1


async def test_refused_retained_values_are_logged_and_do_not_hold_up_others(broker_with_accounts: Broker) -> None:
    log, inbox = CapturingLogger(), Inbox()
    gateway = make_bus(broker_with_accounts, "gateway-bus", account="gateway", log=log)
    viewer = make_bus(broker_with_accounts, "viewer-1", account="viewer")
    viewer.subscribe(TAG, inbox.handle)

    async with running(viewer, gateway):
        gateway.retain(FRAME, None, device="filler", group="fast")  # its own: allowed
        viewer.retain(TAG, value(0.0), device="filler", tag="forged")
        gateway.retain(TAG, value(1.0), device="filler", tag="level")
        await inbox.wait(1)

    assert inbox.topics == ["tag/filler/level"]


async def test_a_message_longer_than_the_broker_takes_is_refused_and_the_connection_lives(broker: Broker) -> None:
    broker.stop()
    broker.replace = {f"max_packet_size {MESSAGE_BYTES}": "max_packet_size 5000"}
    broker.start()
    inbox, bus = Inbox(), make_bus(broker, "sender")
    bus.subscribe_raw(FRAME, inbox.handle)

    async with running(bus):
        with pytest.raises(PublishRefused) as refusal:
            await bus.publish_bytes(FRAME_TOPIC, b"x" * 5000, kind="FRAME")
        await bus.publish_bytes(FRAME_TOPIC, b"short", kind="FRAME")
        await inbox.wait(1)

    assert refusal.value.reason == 0x95
    assert inbox.payloads == [b"short"]


async def test_without_a_connection_publishing_fails_at_once_and_retain_keeps_the_value(broker: Broker) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle)

    sender.retain(TAG, value(3.0), device="filler", tag="level")
    with pytest.raises(BusUnavailable):
        await sender.publish(TAG, value(4.0), device="filler", tag="level")
    async with running(sender, receiver):
        await inbox.wait(1)

    assert inbox.payloads == [value(3.0)]


async def test_malformed_messages_are_counted_and_the_next_one_is_handled(broker: Broker) -> None:
    registry, log, inbox = CollectorRegistry(), CapturingLogger(), Inbox()
    sender, receiver = make_bus(broker, "sender"), make_bus(broker, "receiver", registry=registry, log=log)
    receiver.subscribe(TAG, inbox.handle)

    async with running(sender, receiver):
        await sender.publish_bytes(TAG.build(site=SITE, device="filler", tag="a"), b"{", kind="TAG")
        await sender.publish_bytes(f"dinrail/v1/{SITE}/tag/Filler/a", value(1.0).model_dump_json().encode(), kind="TAG")
        await sender.publish(TAG, value(2.0), device="filler", tag="a")
        await inbox.wait(1)

    assert inbox.payloads == [value(2.0)]
    dropped = registry.get_sample_value("dinrail_dropped_items_total", {"queue": "bus.TAG", "reason": "malformed"})
    assert dropped == 2
    assert [call.kwargs["event"] for call in log.calls if call.method_name == "warning"] == ["message_malformed"]


async def test_overlapping_subscriptions_each_get_their_own_copy(broker: Broker) -> None:
    one, every, sender, receiver = Inbox(), Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, one.handle, device="filler")
    receiver.subscribe(TAG, every.handle)

    async with running(sender, receiver):
        await sender.publish(TAG, value(1.0), device="filler", tag="a")
        await sender.publish(TAG, value(2.0), device="oven", tag="a")
        await every.wait(2)

    assert one.topics == ["tag/filler/a"]
    assert every.topics == ["tag/filler/a", "tag/oven/a"]


def test_one_filter_is_subscribed_to_once(tmp_path: Path) -> None:
    bus = make_bus(Broker(tmp_path), "receiver")
    bus.subscribe(TAG, Inbox().handle, device="filler")

    with pytest.raises(ValueError, match="subscribed to already"):
        bus.subscribe(TAG, Inbox().handle, device="filler")


async def test_a_slow_handler_delays_no_other_and_drops_its_oldest(broker: Broker) -> None:
    registry, frames = CollectorRegistry(), Inbox()
    slow, release = Inbox(), asyncio.Event()
    sender, receiver = make_bus(broker, "sender"), make_bus(broker, "receiver", registry=registry)

    async def wait(delivery: Delivery[TagValue]) -> None:
        await release.wait()
        await slow.handle(delivery)

    receiver.subscribe(TAG, wait, queue_size=3)
    receiver.subscribe_raw(FRAME, frames.handle)
    async with running(sender, receiver):
        for number in range(10):
            await sender.publish(TAG, value(float(number)), device="filler", tag="a")
        await sender.publish_bytes(FRAME_TOPIC, b"frame", kind="FRAME")
        await frames.wait(1)
        release.set()
        await slow.wait(4)

    assert [payload.value for payload in slow.payloads] == [0.0, 7.0, 8.0, 9.0]
    dropped = registry.get_sample_value("dinrail_dropped_items_total", {"queue": "bus.TAG", "reason": "oldest"})
    assert dropped == 6


async def test_a_handler_past_its_deadline_is_cut_off_and_counted(broker: Broker) -> None:
    registry, inbox = CollectorRegistry(), Inbox()
    sender, receiver = make_bus(broker, "sender"), make_bus(broker, "receiver", registry=registry)

    async def hang_at_first(delivery: Delivery[TagValue]) -> None:
        if delivery.payload.value == 1.0:
            await asyncio.Event().wait()
        await inbox.handle(delivery)

    receiver.subscribe(TAG, hang_at_first, timeout_s=0.05)
    async with running(sender, receiver):
        await sender.publish(TAG, value(1.0), device="filler", tag="a")
        await sender.publish(TAG, value(2.0), device="filler", tag="a")
        await inbox.wait(1)

    assert inbox.payloads == [value(2.0)]
    assert registry.get_sample_value("dinrail_handler_errors_total", {"class": "TAG"}) == 1


async def test_a_crashing_handler_is_started_again_and_its_crash_counted(broker: Broker) -> None:
    registry, inbox = CollectorRegistry(), Inbox()
    sender, receiver = make_bus(broker, "sender"), make_bus(broker, "receiver", registry=registry)

    async def crash_at_first(delivery: Delivery[TagValue]) -> None:
        if delivery.payload.value == 1.0:
            raise ZeroDivisionError
        await inbox.handle(delivery)

    receiver.subscribe(TAG, crash_at_first)
    async with running(sender, receiver):
        await sender.publish(TAG, value(1.0), device="filler", tag="a")
        await sender.publish(TAG, value(2.0), device="filler", tag="a")
        await inbox.wait(1)

    assert registry.get_sample_value("dinrail_crashes_total", {"task": "bus.1.TAG.0"}) == 1


async def test_messages_go_out_in_the_order_of_the_calls(broker: Broker) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe_raw(FRAME, inbox.handle)

    async with running(sender, receiver):
        async with asyncio.TaskGroup() as group:
            for number in range(500):
                group.create_task(sender.publish_bytes(FRAME_TOPIC, b"%d" % number, kind="FRAME"))
        await inbox.wait(500)

    assert inbox.payloads == [b"%d" % number for number in range(500)]


async def test_frames_do_not_wait_behind_a_burst_of_retained_values(broker: Broker) -> None:
    tags, order = Inbox(), Inbox()
    sender, receiver = make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, tags.handle, queue_size=10_000)
    receiver.subscribe_raw(FRAME, order.handle)

    async with running(sender, receiver):
        for number in range(2000):
            sender.retain(TAG, value(float(number)), device="filler", tag=f"t{number}")
        for number in range(5):
            await sender.publish_bytes(FRAME_TOPIC, b"%d" % number, kind="FRAME")
        await order.wait(5)
        before = len(tags)
        await tags.wait(2000)

    assert before < 500, "each of the five waits behind one window (80 at most), not behind the 2000"


async def test_small_packets_are_sent_at_once(broker: Broker) -> None:
    bus = make_bus(broker, "sender")

    async with running(bus):
        assert bus._link.connection is not None
        sock = bus._link.connection._client.socket()
        assert sock is not None
        nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert nodelay


async def test_nothing_is_kept_of_messages_that_were_answered(broker: Broker, eventually: Eventually) -> None:
    bus = make_bus(broker, "sender")

    async with running(bus):
        connection = bus._link.connection
        assert connection is not None
        for _ in range(200):
            await bus.publish_bytes(FRAME_TOPIC, b"frame", kind="FRAME")
        for number in range(200):
            bus.retain(TAG, value(float(number)), device="filler", tag="a")
        await eventually(lambda: not connection._outgoing)
