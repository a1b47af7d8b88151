"""Two gateways that want the same: one device has one gateway, and one name has one instance."""

import pytest

from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from services.runtime.bus import vacancy
from services.runtime.bus.bus import InstanceTaken
from tests.integration.gateway_site import listening, running_gateway

STATE = "device/pump/state"
LEVEL = "tag/pump/level"


def pump(plc, gateway):
    return {
        "driver": "modbus",
        "gateway": gateway,
        "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1},
        "groups": {"fast": {"interval": "20ms", "tags": {"level": {"address": "holding:10", "type": "float32"}}}},
    }


def gateway(broker, plc, folder, name):
    return running_gateway(broker, folder / name, {"pump": pump(plc, name)}, instance=name)


async def test_the_second_of_two_gateways_that_claim_a_device_refuses_it_and_says_so(broker, plc, tmp_path):
    async with listening(broker) as listener, gateway(broker, plc, tmp_path, "north"):
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        async with gateway(broker, plc, tmp_path, "south") as south:
            refused = await south.until_logged("device_held_elsewhere")
            frames = len(listener.heard["frame/pump/fast"])
            await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)
            assert plc.accepted == 1
            assert "pump" not in south.gateway.fleet.running
        frames = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)

    presence = listener.last("service/gateway/north")
    assert (refused["device"], refused["gateway"], refused["sid"]) == ("pump", "north", presence["sid"])
    assert {told["gateway"] for told in listener.heard[STATE]} == {"north"}
    assert len({frame["epoch"] for frame in listener.heard["frame/pump/fast"]}) == 1
    assert not listener.cleared


async def test_a_device_that_is_let_go_is_taken_up(broker, plc, tmp_path):
    async with listening(broker) as listener, gateway(broker, plc, tmp_path, "south") as south:
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        async with gateway(broker, plc, tmp_path, "north") as north:
            await north.until_logged("device_held_elsewhere")
            (tmp_path / "south" / "devices" / "pump.yaml").unlink()
            await listener.until(lambda: listener.last(STATE).get("gateway") == "north")
            await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
            assert not south.gateway.fleet.running
            await listener.until(lambda: listener.last("device/pump/info")["gateway"] == "north")
            assert not listener.cleared


async def test_of_two_that_began_apart_the_gateway_that_came_later_leaves_the_device(broker, plc, tmp_path, eventually):
    async with listening(broker) as listener, gateway(broker, plc, tmp_path, "south") as south:
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        broker.kill()
        async with gateway(broker, plc, tmp_path, "north") as north:
            await eventually(lambda: "pump" in north.gateway.fleet.running)
            broker.start()
            await north.until_logged("device_held_elsewhere")
            assert not north.gateway.fleet.running
            assert "pump" in south.gateway.fleet.running
            await listener.until(lambda: listener.last(STATE).get("gateway") == "south")
            frames = len(listener.heard["frame/pump/fast"])
            await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)
        await listener.until(lambda: listener.last("service/gateway/north").get("state") == "offline")
        assert listener.last(LEVEL)["q"] == 192, "who leaves a device leaves its topics alone"

    assert listener.last(STATE)["gateway"] == "south"


async def test_a_second_gateway_of_one_name_stops_and_says_why_and_the_first_notices_nothing(broker, plc, tmp_path):
    async with listening(broker) as listener, gateway(broker, plc, tmp_path, "north") as north:
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        sid = listener.last("service/gateway/north")["sid"]
        other = gateway(broker, plc, tmp_path / "other", "north")
        with pytest.raises(InstanceTaken, match="another gateway named 'north' lives"):
            async with other as second:
                told = await second.until_logged("bus_given_up")
        await listener.until(lambda: listener.last("service/gateway/north")["sid"] == sid)
        frames = len(listener.heard["frame/pump/fast"])
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 5)
        assert north.metric("bus_reconnects_total") == 0

    assert sid in told["error"]
    assert "give one of the two another `instance`" in told["error"]


async def test_a_gateway_that_was_killed_is_followed_by_its_next_session_at_once(broker, plc, tmp_path, monkeypatch):
    monkeypatch.setattr(vacancy, "ANSWER_S", 600)  # the presence that stands there is known to be its own
    async with listening(broker) as listener:
        async with gateway(broker, plc, tmp_path, "north"):
            await listener.until(lambda: listener.last("service/gateway/north").get("state") == "online")
            stale = listener.last("service/gateway/north")
        await listener.until(lambda: listener.last("service/gateway/north")["state"] == "offline")
        await listener.bus.publish(
            SERVICE, ServiceState(**stale | {"state": ServiceStatus.ONLINE}), service="gateway", instance="north"
        )
        async with gateway(broker, plc, tmp_path, "north"):
            await listener.until(lambda: listener.last("service/gateway/north")["sid"] != stale["sid"])
            await listener.until(lambda: listener.last(LEVEL).get("q") == 192)


async def test_a_name_whose_owner_is_gone_for_good_can_be_taken(broker, plc, tmp_path):
    gone = ServiceState(state=ServiceStatus.ONLINE, sid="gone", since=0, version="0.0.0", instance="north")
    async with listening(broker) as listener:
        await listener.bus.publish(SERVICE, gone, service="gateway", instance="north")
        async with gateway(broker, plc, tmp_path, "north"):
            await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
