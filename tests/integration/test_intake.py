"""The intake against a real mosquitto: nothing that was not acknowledged is lost, whoever dies."""

import asyncio
import gc
import threading
from pathlib import Path

import aiomqtt
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.v1.frame import FRAME
from services.runtime.bus.bus import Bus
from services.runtime.intake import Intake, IntakeBatch, IntakeClosed
from tests.conftest import Eventually
from tests.integration.clients import child, make_intake, taking
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus, running
from tests.tcp_proxy import wire_to

TOPIC = FRAME.build(site=SITE, device="filler", group="fast")


async def open_session(broker: Broker) -> None:
    """From now on the broker keeps what is sent."""
    async with taking(make_intake(broker)):
        pass


async def send(bus: Bus, numbers: range) -> None:
    await asyncio.gather(*(bus.publish_bytes(TOPIC, b"%d" % number, kind="FRAME") for number in numbers))


def numbers_in(batch: IntakeBatch) -> list[int]:
    return [int(message.payload) for message in batch.messages]


async def take(intake: Intake, count: int, *, ack: bool = True, linger_s: float = 0.0) -> list[int]:
    taken: list[int] = []
    async with asyncio.timeout(30):
        while len(taken) < count:
            batch = await intake.batch(most=count - len(taken), linger_s=linger_s)
            taken += numbers_in(batch)
            if ack:
                batch.ack()
    return taken


async def test_all_messages_come_in_order_with_their_topic(broker: Broker) -> None:
    registry = CollectorRegistry()
    intake, bus = make_intake(broker, registry=registry), make_bus(broker, "sender")

    async with running(bus), taking(intake):
        await send(bus, range(2000))
        batch = await intake.batch(most=1)
        batch.ack()
        taken = await take(intake, 1999)

    assert batch.messages[0].topic == TOPIC
    assert [*numbers_in(batch), *taken] == list(range(2000))
    assert registry.get_sample_value("dinrail_intake_messages_total") == 2000


async def test_a_connection_that_has_ended_leaves_no_socket_open_until_memory_is_collected(
    broker: Broker, eventually: Eventually
) -> None:
    def sockets() -> set[str]:
        """That this process has open: one of another test may be closed at any moment."""
        targets = (fd.resolve().name for fd in Path("/proc/self/fd").iterdir())
        return {name for name in targets if name.startswith("socket")}

    await open_session(broker)
    gc.collect()
    gc.disable()
    try:
        before = sockets()
        for _ in range(3):
            await open_session(broker)
        await eventually(lambda: sockets() <= before)  # the executor's thread may hold the last call for a moment
    finally:
        gc.enable()


async def test_what_was_sent_while_nobody_took_it_is_there_afterwards(broker: Broker) -> None:
    bus = make_bus(broker, "sender")
    await open_session(broker)

    async with running(bus):
        await send(bus, range(100))
        async with taking(intake := make_intake(broker)):
            taken = await take(intake, 100)

    assert taken == list(range(100))


async def test_a_backlog_that_the_broker_sends_faster_than_asked_for_is_taken_whole_and_in_order(
    broker: Broker,
) -> None:
    """Mosquitto 2.0.11 answers each acknowledgement with more than one message, so that more arrive than agreed."""
    registry, bus = CollectorRegistry(), make_bus(broker, "sender")
    await open_session(broker)

    async with running(bus):
        await send(bus, range(4000))
        async with taking(intake := make_intake(broker, registry=registry, receive_maximum=50)):
            taken = await take(intake, 4000, linger_s=0.02)

    assert taken == list(range(4000))
    assert not registry.get_sample_value("dinrail_dropped_items_total", {"queue": "intake", "reason": "overflow"})


async def test_a_killed_process_loses_nothing_that_it_has_not_acknowledged(broker: Broker) -> None:
    bus = make_bus(broker, "sender")
    await open_session(broker)

    async with running(bus):
        await send(bus, range(1000))
        with child("intake", broker) as process:
            process.kill()
        async with taking(intake := make_intake(broker)):
            taken = await take(intake, 850)
            await send(bus, range(1000, 1001))
            after = await take(intake, 1)

    assert taken == list(range(150, 1000))
    assert after == [1000]


async def test_no_more_arrives_than_may_be_unacknowledged(broker: Broker) -> None:
    bus, intake = make_bus(broker, "sender"), make_intake(broker, receive_maximum=50, drain_s=0.1)

    async with running(bus), taking(intake), aiomqtt.Client("127.0.0.1", broker.port) as plain:
        await send(bus, range(200))
        taken = await take(intake, 50, ack=False)
        await plain.publish(TOPIC, b"200", qos=0)  # does not count (MQTT 5.0, 4.9), and comes behind all that came
        behind = await take(intake, 1, ack=False)

    assert taken == list(range(50))
    assert behind == [200]


async def test_acknowledgements_go_out_in_the_order_of_arrival(broker: Broker) -> None:
    bus = make_bus(broker, "sender")
    await open_session(broker)

    async with running(bus):
        await send(bus, range(4))
        async with taking(intake := make_intake(broker, drain_s=0.1)):
            first, second, third = [await intake.batch(most=1) for _ in range(3)]
            third.ack()
            first.ack()
        # 1 and 3 were acknowledged, but 3 may not be before 2 is: only 1 is known to be stored.
        async with taking(again := make_intake(broker)):
            taken = await take(again, 3)

    assert numbers_in(first) == [0]
    assert numbers_in(second) == [1]
    assert taken == [1, 2, 3]


async def test_an_acknowledgement_from_an_earlier_connection_has_no_effect(
    broker: Broker, eventually: Eventually
) -> None:
    """Packet identifiers begin anew after the broker's death: the late one would acknowledge another message."""
    bus, intake = make_bus(broker, "sender"), make_intake(broker, drain_s=0.1)

    async with running(bus), taking(intake):
        await send(bus, range(5))
        early = await intake.batch(most=5, linger_s=5)
        broker.kill()
        await eventually(lambda: not intake.connected and not bus.connected)
        broker.start()
        await bus.wait_connected(30)
        await intake.wait_connected(30)
        await send(bus, range(5, 10))
        unacknowledged = await take(intake, 5, ack=False)
        early.ack()
        await intake.stop()
    async with taking(again := make_intake(broker)):
        taken = await take(again, 5)

    assert unacknowledged == taken == [5, 6, 7, 8, 9]


async def test_after_the_brokers_death_the_intake_comes_back_by_itself(broker: Broker, eventually: Eventually) -> None:
    log = CapturingLogger()
    bus, intake = make_bus(broker, "sender"), make_intake(broker, log=log)

    async with running(bus), taking(intake):
        broker.kill()
        await eventually(lambda: not intake.connected and not bus.connected)
        broker.start()
        await intake.wait_connected(30)
        await bus.wait_connected(30)
        await send(bus, range(10))
        taken = await take(intake, 10)

    assert taken == list(range(10))
    assert "broker_unavailable" in [call.kwargs["event"] for call in log.calls]


async def test_messages_that_only_we_hold_when_the_broker_dies_are_handed_out(
    broker: Broker, eventually: Eventually
) -> None:
    bus, intake = make_bus(broker, "sender"), make_intake(broker)

    async with running(bus), taking(intake):
        await send(bus, range(10))
        await eventually(lambda: len(intake._arrivals) == 10)
        broker.kill()
        await eventually(lambda: not intake.connected)
        broker.start()
        await intake.wait_connected(30)
        taken = await take(intake, 10)

    assert taken == list(range(10))


async def test_after_a_broken_connection_each_message_is_handed_out_once(
    broker: Broker, eventually: Eventually
) -> None:
    async with wire_to(broker.port) as wire:
        bus, intake = make_bus(broker, "sender"), make_intake(broker, port=wire.port)
        async with running(bus), taking(intake):
            await send(bus, range(10))
            await eventually(lambda: len(intake._arrivals) == 10)
            wire.cut()
            await eventually(lambda: wire.connections == 2 and intake.connected)
            await send(bus, range(10, 11))
            taken = await take(intake, 11)

    assert taken == list(range(11))


async def test_a_batch_that_is_never_acknowledged_holds_up_nothing_after_a_broken_connection(
    broker: Broker, eventually: Eventually
) -> None:
    async with wire_to(broker.port) as wire:
        bus, intake = make_bus(broker, "sender"), make_intake(broker, port=wire.port)
        async with running(bus), taking(intake):
            await send(bus, range(5))
            await take(intake, 5, ack=False)
            wire.cut()
            await eventually(lambda: wire.connections == 2 and intake.connected)
            again = await take(intake, 5)
        async with running(other := make_bus(broker, "other")), taking(later := make_intake(broker)):
            await send(other, range(5, 6))
            afterwards = await take(later, 1)

    assert again == [0, 1, 2, 3, 4]
    assert afterwards == [5]


async def test_a_batch_waits_for_more_only_as_long_as_it_is_told_to(broker: Broker) -> None:
    bus, intake = make_bus(broker, "sender"), make_intake(broker)

    async with running(bus), taking(intake):
        waiting = asyncio.create_task(intake.batch(most=3, linger_s=30))
        await send(bus, range(3))
        async with asyncio.timeout(30):
            full = await waiting
        await send(bus, range(3, 4))
        async with asyncio.timeout(30):
            part = await intake.batch(most=3, linger_s=0.05)
        full.ack()
        part.ack()

    assert numbers_in(full) == [0, 1, 2]
    assert numbers_in(part) == [3]


async def test_a_stop_waits_for_what_was_handed_out_and_hands_out_no_more(broker: Broker) -> None:
    bus, intake = make_bus(broker, "sender"), make_intake(broker)

    async with running(bus), taking(intake):
        await send(bus, range(3))
        batch = await intake.batch(most=2, linger_s=5)
        waiting = asyncio.create_task(intake.batch(most=2))
        await intake.stop()
        with pytest.raises(IntakeClosed):
            await waiting
        assert intake.connected
        batch.ack()
    async with taking(again := make_intake(broker)):
        taken = await take(again, 1)

    assert taken == [2]


async def test_no_thread_is_left_behind(broker: Broker) -> None:
    before = set(threading.enumerate())

    async with taking(make_intake(broker)):
        during = {thread.name for thread in set(threading.enumerate()) - before}
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("paho")]

    assert any(name.startswith("paho") for name in during)
    assert not left
