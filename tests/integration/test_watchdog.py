"""What the orchestrator does when a gateway dies: with a real gateway process, and SIGKILL."""

import asyncio
import signal
from contextlib import asynccontextmanager

import pytest

from contracts.v1.device import (
    DEVICE,
    DEVICE_STATE,
    GATEWAY_LOST,
    Circuit,
    DeviceInfo,
    DeviceState,
    DeviceStatus,
    TagInfo,
    ValueType,
    tag_hash,
)
from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from contracts.v1.tag import TAG, TagValue
from services.orchestrator.hub import Hub
from services.orchestrator.lookout import Lookout
from services.orchestrator.watchdog import Watchdog
from services.runtime.bus.bus import PublishRefused
from tests.integration.gateway_site import listening
from tests.integration.orchestrator_parts import orchestrator_parts
from tests.integration.service_process import gateway_config, service_process

TAGS = ("tag/pump/level", "tag/pump/speed")
STATE = "device/pump/state"


@pytest.fixture
def config(broker_with_accounts, plc, tmp_path):
    """A site's settings file with one device of two tags."""
    tags = {name: {"address": "holding:10", "type": "float32", "unit": "%"} for name in ("level", "speed")}
    pump = {
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1},
        "groups": {"fast": {"interval": "20ms", "tags": tags}},
    }
    return gateway_config(broker_with_accounts, tmp_path, {"pump": pump})


@asynccontextmanager
async def watching(broker, folder, account="orchestrator"):
    """The lookout, with the orchestrator's account and no other right."""
    async with orchestrator_parts(broker, folder / "orchestrator", account=account) as parts:
        lookout = Lookout(bus=parts.bus, hub=Hub(bus=parts.bus), events=parts.events, clock=parts.clock, log=parts.log)
        await parts.bus.settled()
        await parts.start(lookout)
        yield parts


class StandIn:
    """Says what a gateway with one device of many tags would say."""

    def __init__(self, bus):
        self._bus = bus

    async def says(self, status, sid="s1"):
        """Its presence."""
        presence = ServiceState(state=status, sid=sid, since=1, version="1", instance="gateway")
        await self._bus.publish(SERVICE, presence, service="gateway", instance="gateway")

    async def shows(self, tags):
        """The device, its state and so many tags of it."""
        named = {f"t{number}": TagInfo(type=ValueType.FLOAT32, group="fast") for number in range(tags)}
        info = DeviceInfo(
            device="pump",
            driver="modbus",
            gateway="gateway",
            rev="r",
            tags=named,
            groups={},
            tag_count=tags,
            tag_hash=tag_hash(named),
        )
        state = DeviceState(
            state=DeviceStatus.ONLINE, since=1, gateway="gateway", sid="s1", circuit=Circuit.CLOSED, cause=None
        )
        await self._bus.publish(DEVICE, info, device="pump")
        await self._bus.publish(DEVICE_STATE, state, device="pump")


def marked(listener):
    return {topic for topic in listener.heard if topic.startswith("tag/pump/") and listener.last(topic)["q"] == 0}


async def test_a_mark_that_the_broker_refuses_is_published_again(broker, tmp_path, monkeypatch):
    monkeypatch.setattr("services.orchestrator.lookout.AGAIN_S", 0.05)
    async with listening(broker) as listener, watching(broker, tmp_path, account=None) as parts:
        publish, refusals = parts.bus.publish, iter(range(3))

        async def refused_thrice(topic, payload, **levels):
            if levels.get("tag") == "t1" and next(refusals, None) is not None:
                raise PublishRefused("tag", 0x97, "quota exceeded")
            await publish(topic, payload, **levels)

        monkeypatch.setattr(parts.bus, "publish", refused_thrice)
        gateway = StandIn(await parts.caller(broker, "stand-in"))
        await gateway.says(ServiceStatus.ONLINE)
        await gateway.shows(3)
        await gateway.says(ServiceStatus.OFFLINE)

        await listener.until(lambda: len(marked(listener)) == 3)
        await listener.until(lambda: listener.heard["event/plant/gateway/gateway"])


async def test_a_gateway_that_is_back_while_its_tags_are_marked_sees_its_device_marked_and_no_further_tag(
    broker, tmp_path, monkeypatch
):
    async with listening(broker) as listener, watching(broker, tmp_path, account=None) as parts:
        gateway = StandIn(await parts.caller(broker, "stand-in"))
        publish, on_service, heard = parts.bus.publish, Watchdog.on_service, asyncio.Event()

        async def told_in_the_middle(topic, payload, **levels):
            await publish(topic, payload, **levels)
            if levels.get("tag") == "t0":
                await gateway.says(ServiceStatus.ONLINE, "s2")
                async with asyncio.timeout(30):
                    await heard.wait()

        def hears(watchdog, instance, state, **more):
            marks = on_service(watchdog, instance, state, **more)
            if state.sid == "s2":
                heard.set()
            return marks

        monkeypatch.setattr(parts.bus, "publish", told_in_the_middle)
        monkeypatch.setattr(Watchdog, "on_service", hears)
        await gateway.says(ServiceStatus.ONLINE)
        await gateway.shows(200)
        await gateway.says(ServiceStatus.OFFLINE)

        await listener.until(lambda: listener.last(STATE).get("cause") == GATEWAY_LOST)
        parts.events.tell("probe", aggregate="service", id="orchestrator")
        await listener.until(lambda: listener.heard["event/plant/service/orchestrator"])

    assert 0 < len(marked(listener)) < 200
    assert not listener.heard["event/plant/gateway/gateway"]


def qualities(listener):
    return {listener.last(topic).get("q") for topic in TAGS}


async def test_the_tags_of_a_killed_gateway_are_bad_at_once_and_good_once_it_is_back(
    broker_with_accounts, config, tmp_path
):
    async with (
        listening(broker_with_accounts, account="viewer") as listener,
        watching(broker_with_accounts, tmp_path),
    ):
        async with service_process("gateway", config) as process:
            await listener.until(lambda: qualities(listener) == {192})
            await listener.until(lambda: listener.last(STATE).get("state") == "online")
            process.kill()
            # sooner than by its keep-alive, which is 7 s: the broker waits one and a half of them
            await listener.until(lambda: listener.last(STATE).get("cause") == "gateway_lost", 10)
            marked = [listener.last(topic) for topic in TAGS]
            await listener.until(lambda: listener.heard["event/plant/gateway/gateway"])
        async with service_process("gateway", config):
            await listener.until(lambda: qualities(listener) == {192})
            await listener.until(lambda: listener.last(STATE)["state"] == "online")

    assert [(tag["value"], tag["q"], tag["cause"], tag["unit"]) for tag in marked] == [
        (None, 0, "gateway_lost", "%")
    ] * 2
    (told,) = listener.heard["event/plant/gateway/gateway"][0]["events"]
    assert (told["type"], told["data"]) == ("gateway.lost", {"devices": ["pump"], "tags": 2})


async def test_a_gateway_that_died_while_nobody_watched_is_marked_at_the_start(broker_with_accounts, config, tmp_path):
    async with listening(broker_with_accounts, account="viewer") as listener:
        async with service_process("gateway", config) as process:
            await listener.until(lambda: qualities(listener) == {192})
            process.kill()
            await listener.until(lambda: listener.last("service/gateway/gateway").get("state") == "offline")
        assert qualities(listener) == {192}

        async with watching(broker_with_accounts, tmp_path):
            await listener.until(lambda: listener.last(STATE).get("cause") == "gateway_lost")

    assert qualities(listener) == {0}


async def test_what_a_gateway_says_when_it_stops_is_left_as_it_is(broker_with_accounts, config, tmp_path):
    async with (
        listening(broker_with_accounts, account="viewer") as listener,
        watching(broker_with_accounts, tmp_path) as parts,
        service_process("gateway", config) as process,
    ):
        await listener.until(lambda: qualities(listener) == {192})
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()
        await listener.until(lambda: listener.last("service/gateway/gateway").get("state") == "offline")
        await parts.bus.settled()
        parts.events.tell("probe", aggregate="service", id="orchestrator")
        await listener.until(lambda: listener.heard["event/plant/service/orchestrator"])

    assert [told["cause"] for told in listener.heard[STATE] if told["state"] == "offline"] == ["stopped"]


async def test_a_death_that_comes_late_marks_nothing_of_a_gateway_that_lives(broker_with_accounts, config, tmp_path):
    async with (
        listening(broker_with_accounts, account="viewer") as listener,
        watching(broker_with_accounts, tmp_path) as parts,
        service_process("gateway", config),
    ):
        await listener.until(lambda: qualities(listener) == {192})
        stale = ServiceState(state=ServiceStatus.OFFLINE, sid="before", since=1, version="1", instance="gateway")
        impostor = await parts.caller(broker_with_accounts, "late", account="gateway")
        await impostor.publish(SERVICE, stale, service="gateway", instance="gateway")
        parts.events.tell("probe", aggregate="service", id="orchestrator")
        await listener.until(lambda: listener.heard["event/plant/service/orchestrator"])
        await listener.until(lambda: listener.last("service/gateway/gateway")["sid"] != "before")

    assert "gateway_lost" not in {told.get("cause") for told in listener.heard[STATE]}


async def test_a_gateway_that_was_marked_while_it_lives_says_everything_again(broker_with_accounts, config, tmp_path):
    async with (
        listening(broker_with_accounts, account="viewer") as listener,
        orchestrator_parts(broker_with_accounts, tmp_path / "other", account="orchestrator") as parts,
        service_process("gateway", config),
    ):
        await listener.until(lambda: qualities(listener) == {192})
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        bad = TagValue(value=None, ts=1, q=0, seen=1, cause=GATEWAY_LOST)
        lost = DeviceState.model_validate({**listener.last(STATE), "cause": GATEWAY_LOST}, strict=False)
        for tag in ("level", "speed"):
            await parts.bus.publish(TAG, bad, device="pump", tag=tag)
        await parts.bus.publish(DEVICE_STATE, lost, device="pump")

        await listener.until(lambda: GATEWAY_LOST in {told.get("cause") for told in listener.heard[STATE]})
        await listener.until(lambda: qualities(listener) == {192} and "cause" not in listener.last(STATE))
