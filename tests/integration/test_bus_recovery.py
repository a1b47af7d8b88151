"""The bus when the broker dies, hangs or refuses, and what others see of a service that starts, stops or crashes."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from contracts.v1.tag import TAG, TagValue
from services.runtime.bus.bus import BusUnavailable, TakenOver
from services.runtime.mqtt.connection import ANSWER_S, Connection
from services.runtime.mqtt.delivery import Login
from services.runtime.settings import BrokerSettings
from tests.conftest import Eventually
from tests.integration.clients import PRESENCE, child, make_intake
from tests.real_broker import Broker
from tests.real_bus import Inbox, make_bus, running
from tests.tcp_proxy import wire_to


def value(number: float, **more: Any) -> TagValue:
    return TagValue(value=number, ts=1, q=192, seen=1, **more)


def as_snapshot(payload: TagValue) -> TagValue:
    return payload.model_copy(update={"snapshot": True})


def logged(log: CapturingLogger, event: str) -> list[dict[str, Any]]:
    return [call.kwargs for call in log.calls if call.kwargs["event"] == event]


def states(inbox: Inbox) -> list[ServiceStatus]:
    return [payload.state for payload in inbox.payloads]


async def test_after_the_brokers_death_subscriptions_retained_values_and_presence_come_back(broker: Broker) -> None:
    registry, tags, services, late = CollectorRegistry(), Inbox(), Inbox(), Inbox()
    sender = make_bus(broker, "sender", presence=PRESENCE, registry=registry)
    receiver, latecomer = make_bus(broker, "receiver"), make_bus(broker, "latecomer")
    receiver.subscribe(TAG, tags.handle)
    receiver.subscribe(SERVICE, services.handle)
    latecomer.subscribe(TAG, late.handle)
    latecomer.subscribe(SERVICE, late.handle)

    async with running(receiver, sender):
        for number in range(50):
            sender.retain(TAG, value(float(number)), republish=as_snapshot, device="filler", tag=f"t{number}")
        sender.retain(TAG, value(0.0), device="filler", tag="removed")
        sender.retain(TAG, None, device="filler", tag="removed")
        await tags.wait(50)
        broker.kill()
        broker.start()
        await tags.wait(100)
        await services.wait(2)
        async with running(latecomer):
            await late.wait(51)

    assert {payload.value for payload in tags.payloads[50:100]} == {float(number) for number in range(50)}
    assert {payload.snapshot for payload in tags.payloads[:50]} == {None}
    assert {payload.snapshot for payload in tags.payloads[50:100]} == {True}
    assert states(services)[:2] == [ServiceStatus.STARTING] * 2
    assert "tag/filler/removed" not in late.topics
    assert registry.get_sample_value("dinrail_bus_reconnects_total") == 1


async def test_hooks_are_called_after_each_connect(broker: Broker, eventually: Eventually) -> None:
    bus, calls = make_bus(broker, "sender"), []
    bus.on_connect(lambda: calls.append(bus.connected))

    async with running(bus):
        await eventually(lambda: calls == [True])
        broker.kill()
        broker.start()
        await eventually(lambda: calls == [True, True])


async def test_a_value_that_changed_while_away_is_no_snapshot(broker: Broker, eventually: Eventually) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle)

    async with running(receiver, sender):
        for tag in ("changes", "stays"):
            sender.retain(TAG, value(1.0), republish=as_snapshot, device="filler", tag=tag)
        await inbox.wait(2)
        broker.kill()
        await eventually(lambda: not sender.connected)
        sender.retain(TAG, value(2.0), republish=as_snapshot, device="filler", tag="changes")
        broker.start()
        await eventually(lambda: {"changes", "stays"} <= {delivery.levels["tag"] for delivery in inbox[2:]})

    latest = {delivery.levels["tag"]: delivery.payload for delivery in inbox}
    assert latest == {"changes": value(2.0), "stays": value(1.0, snapshot=True)}


async def test_a_crashed_service_is_reported_offline_at_once(broker: Broker) -> None:
    inbox, watcher = Inbox(), make_bus(broker, "watcher")
    watcher.subscribe(SERVICE, inbox.handle)

    async with running(watcher):
        with child("presence", broker) as process:
            await inbox.wait(1)
            process.kill()
            # sooner than by its keep-alive, which is 7 s: the broker waits one and a half of them
            await inbox.wait(2, timeout_s=10)

    birth, death = inbox.payloads
    assert (birth.state, death.state) == (ServiceStatus.ONLINE, ServiceStatus.OFFLINE)
    assert birth.sid == death.sid == PRESENCE.sid
    assert inbox[1].expiry_s is not None


async def test_a_service_that_ends_in_good_order_says_so_at_once(broker: Broker) -> None:
    inbox, watcher, service = Inbox(), make_bus(broker, "watcher"), make_bus(broker, "gateway-bus", presence=PRESENCE)
    watcher.subscribe(SERVICE, inbox.handle)

    async with running(watcher):
        async with running(service):
            await service.announce(ServiceStatus.ONLINE)
            await service.announce(ServiceStatus.DRAINING)
        await inbox.wait(4)

    assert states(inbox) == list(ServiceStatus)
    assert isinstance(inbox.payloads[0], ServiceState)
    assert [payload.since for payload in inbox.payloads] == sorted(payload.since for payload in inbox.payloads)


async def test_what_was_retained_last_goes_out_before_the_connection_ends(broker: Broker) -> None:
    inbox, sender, receiver = Inbox(), make_bus(broker, "sender"), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle, queue_size=2000)

    async with running(receiver):
        async with running(sender):
            for number in range(1000):
                sender.retain(TAG, value(float(number)), device="filler", tag=f"t{number}")
        await inbox.wait(1000)


async def test_a_handler_finishes_its_message_before_the_connection_ends(broker: Broker) -> None:
    begun, finished = asyncio.Event(), []
    sender, receiver = make_bus(broker, "sender"), make_bus(broker, "receiver")

    async def handle(delivery: object) -> None:
        begun.set()
        await receiver._link.stopping.wait()
        for _ in range(50):  # longer than the end of the connection alone would take
            await sender.publish(TAG, value(2.0), device="oven", tag="a")
        finished.append(delivery)

    receiver.subscribe(TAG, handle, device="filler")
    async with running(sender), running(receiver):
        await sender.publish(TAG, value(1.0), device="filler", tag="a")
        await begun.wait()

    assert len(finished) == 1


async def test_a_refused_login_is_told_with_user_and_reason_and_tried_again(
    broker_with_accounts: Broker, eventually: Eventually
) -> None:
    log = CapturingLogger()
    bus = make_bus(broker_with_accounts, "gateway-bus", account="gateway", password="wrong", log=log)

    task = asyncio.create_task(bus.run())
    await eventually(lambda: len(logged(log, "broker_refuses_login")) == 2)
    await bus.stop()
    await task

    refusal = logged(log, "broker_refuses_login")[0]
    assert refusal["user"] == "gateway"
    assert refusal["reason"] == "Not authorized"
    assert "wrong" not in str(log.calls)


async def test_waits_between_attempts_grow(broker: Broker, eventually: Eventually) -> None:
    broker.kill()
    log = CapturingLogger()
    bus = make_bus(broker, "sender", log=log)

    task = asyncio.create_task(bus.run())
    await eventually(lambda: len(logged(log, "broker_unavailable")) == 3)
    await bus.stop()
    await task

    waits = [entry["retry_in_s"] for entry in logged(log, "broker_unavailable")]
    assert waits == sorted(waits)
    assert waits[0] <= 0.2 < waits[2]


async def test_what_was_under_way_when_the_connection_broke_fails_or_is_sent_again(
    broker: Broker, eventually: Eventually
) -> None:
    inbox, receiver = Inbox(), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle)

    async with running(receiver), wire_to(broker.port) as wire:
        bus = make_bus(broker, "sender", port=wire.port)
        async with running(bus):
            wire.deaden()
            bus.retain(TAG, value(1.0), republish=as_snapshot, device="filler", tag="retained")
            publication = asyncio.create_task(bus.publish(TAG, value(2.0), device="filler", tag="a"))
            await eventually(lambda: bus._link.connection and len(bus._link.connection._outgoing) == 2)
            wire.cut()
            with pytest.raises(BusUnavailable):
                await publication
            wire.mend()
            await inbox.wait(1)

    assert inbox.topics == ["tag/filler/retained"]
    assert inbox.payloads == [value(1.0)]  # and no snapshot: nobody has seen it yet


async def test_a_broker_that_answers_no_more_is_left_and_sought_again(
    broker: Broker, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.runtime.mqtt.connection.ANSWER_S", ANSWER_S / 20)
    inbox, receiver = Inbox(), make_bus(broker, "receiver")
    receiver.subscribe(TAG, inbox.handle)
    async with running(receiver), wire_to(broker.port) as wire:
        sender = make_bus(broker, "sender", port=wire.port)
        async with running(sender):
            wire.deaden()
            sender.retain(TAG, value(1.0), device="filler", tag="a")
            async with asyncio.timeout(30):
                with pytest.raises(BusUnavailable):
                    await sender.publish(TAG, value(2.0), device="filler", tag="b")
            wire.mend()
            # What the wire held back passes too, and may be the first to come.
            await eventually(lambda: wire.connections > 1 and "tag/filler/a" in inbox.topics)


@asynccontextmanager
async def broker_that_hands_the_session_over() -> AsyncIterator[int]:
    """Accepts one login and says at once that another client has taken over, as mosquitto does from 2.0.15 on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(bytes.fromhex("20 03 00 00 00"))  # CONNACK: no session, success, no properties
        await reader.readexactly(2)  # something of what the client sends once it is in
        writer.write(bytes.fromhex("e0 01 8e"))  # DISCONNECT: session taken over
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("kind", ["bus", "intake"])
async def test_a_client_whose_place_another_has_taken_does_not_fight_for_it(broker: Broker, kind: str) -> None:
    async with broker_that_hands_the_session_over() as port:
        client = (
            make_bus(broker, "gateway-bus", port=port, presence=PRESENCE)
            if kind == "bus"
            else make_intake(broker, port=port)
        )
        async with asyncio.timeout(30):
            with pytest.raises(TakenOver, match="two instances of one name"):
                await client.run()


async def test_a_connection_that_comes_after_it_was_given_up_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        fillers = [socket.create_connection(("127.0.0.1", port))]  # the next one has to wait until it is accepted
        connection = Connection(
            BrokerSettings(port=port),
            login=Login(client_id="late", username=None, password=None),
            will=None,
            deliver=lambda _identifiers, _delivery: None,
            now_s=time.monotonic,
        )
        opening = asyncio.create_task(connection.open().__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait((opening,))

        server.settimeout(30)
        fillers += [(await asyncio.to_thread(server.accept))[0] for _ in range(2)]
        fillers[-1].settimeout(30)
        assert await asyncio.to_thread(fillers[-1].recv, 1) == b""
        for filler in fillers:
            filler.close()


@pytest.fixture
def ticking_broker(tmp_path: Path) -> Iterator[Broker]:
    """A running mosquitto that tells its uptime each second."""
    ticking = Broker(tmp_path / "broker", replace={"autosave_interval 60": "autosave_interval 60\nsys_interval 1"})
    ticking.start()
    yield ticking
    ticking.stop()


@asynccontextmanager
async def ticks(broker: Broker) -> AsyncIterator[AsyncIterator[object]]:
    """One each second of the broker's clock; the first at once."""
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe("$SYS/broker/uptime")
        yield client.messages


@pytest.mark.slow
async def test_a_service_whose_connection_dies_silently_is_told_offline_within_20_s(ticking_broker: Broker) -> None:
    broker = ticking_broker
    services, tags = Inbox(), Inbox()
    watching = make_bus(broker, "watching")
    watching.subscribe(SERVICE, services.handle)
    watching.subscribe(TAG, tags.handle)

    async def offline_after_s(name: str, alive_s: int) -> float:
        def is_told(state: ServiceStatus) -> bool:
            return any(one.topic.endswith(f"/{name}") and one.payload.state is state for one in services)

        async with wire_to(broker.port) as wire:
            bus = make_bus(broker, name, port=wire.port, presence=replace(PRESENCE, instance=name))
            async with running(bus), ticks(broker) as beats:
                for _ in range(alive_s + 1):
                    await bus.publish(TAG, value(1.0), device=name, tag="a")
                    await anext(beats)
                wire.deaden()
                dead_at = time.monotonic()
                while not is_told(ServiceStatus.OFFLINE):
                    await services.wait(len(services) + 1, timeout_s=30)
                told_at = time.monotonic()
                wire.mend()
            return told_at - dead_at

    async with running(watching):
        # mosquitto looks every 5 s: whatever the moment, it must be soon enough
        seconds = await asyncio.gather(*(offline_after_s(f"dies-after-{alive_s}-s", alive_s) for alive_s in range(5)))

    assert max(seconds) <= 20
    assert len(tags) == 1 + 2 + 3 + 4 + 5, "they published until then"
