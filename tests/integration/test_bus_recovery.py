"""The bus when the broker dies, hangs, refuses, or another client takes its place."""

from typing import Any

from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.tag import TAG, TagValue
from services.runtime.bus import Presence
from tests.real_broker import Broker
from tests.real_bus import Inbox, make_bus, running

PRESENCE = Presence(service="gateway", instance="gateway", sid="session-1", version="1.2.3")


def value(number: float, **more: Any) -> TagValue:
    return TagValue(value=number, ts=1, q=192, seen=1, **more)


def events(log: CapturingLogger) -> list[str]:
    return [call.kwargs["event"] for call in log.calls]


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
            sender.retain(
                TAG,
                value(float(number)),
                republish=lambda payload: payload.model_copy(update={"snapshot": True}),
                device="filler",
                tag=f"t{number}",
            )
        sender.retain(TAG, value(0.0), device="filler", tag="removed")
        sender.retain(TAG, None, device="filler", tag="removed")
        await tags.wait(50)
        broker.kill()
        broker.start()
        await tags.wait(100, timeout_s=15)
        await services.wait(2)
        async with running(latecomer):
            await late.wait(51)

    assert {payload.value for payload in tags.payloads[50:100]} == {float(number) for number in range(50)}
    assert {payload.snapshot for payload in tags.payloads[:50]} == {None}
    assert {payload.snapshot for payload in tags.payloads[50:100]} == {True}
    assert {payload.state for payload in services.payloads[:2]} == {ServiceStatus.STARTING}
    assert "tag/filler/removed" not in late.topics
    assert registry.get_sample_value("dinrail_bus_reconnects_total") == 1
