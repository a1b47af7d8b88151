"""The gateway between a real Modbus server and a real broker."""

from itertools import groupby, pairwise
from operator import itemgetter

import pytest

from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.gateway_site import listening, modbus_device, running_gateway
from tests.ports import free_port

BACKFILL = "backfill/frame/pump/fast"
FRAME = "frame/pump/fast"
LEVEL = "tag/pump/level"
STATE = "device/pump/state"


def pump(port, *, timeout="1s", **fields):
    tags = {
        "level": {"address": "holding:10", "type": "float32", "unit": "%", "deadband": 0.5},
        "total": {"address": "holding:20", "type": "uint64"},
    }
    return modbus_device(port, tags, timeout=timeout, **fields)


@pytest.fixture
def unit(unit):
    unit.set_value("holding:20", ValueType.UINT64, 2**64 - 1)
    return unit


async def test_a_value_goes_from_the_device_into_frames_and_onto_its_topic(broker, plc, unit, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last(LEVEL).get("value") == 50.0)
        unit.set_value("holding:10", ValueType.FLOAT32, 62.5)
        await listener.until(lambda: listener.last(LEVEL).get("value") == 62.5)

        told = listener.last(LEVEL)
        await listener.until(lambda: listener.last("tag/pump/total").get("q") == 192)
        total = listener.last("tag/pump/total")
        samples = {sample["t"] // 1000: sample for sample in listener.samples(FRAME)}

    assert (told["q"], told["unit"]) == (192, "%")
    assert samples[told["ts"]]["v"] == {"level": 62.5, "total": "18446744073709551615"}
    assert samples[told["ts"]]["big"] == ["total"]
    assert total["value"] == "18446744073709551615"


async def test_frames_are_numbered_without_gaps_over_restarts_and_each_epoch_is_closed(broker, plc, tmp_path):
    async with listening(broker) as listener:
        for _ in range(2):
            before = len(listener.heard[FRAME])
            async with running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
                await listener.until(lambda before=before: len(listener.heard[FRAME]) > before + 5)
        await listener.until(lambda: sum("closed" in frame for frame in listener.heard[FRAME]) == 2)

    frames = listener.heard[FRAME]
    epochs = sorted({frame["epoch"] for frame in frames})
    assert len(epochs) == 2
    numbers = {epoch: [frame["seq"] for frame in frames if frame["epoch"] == epoch] for epoch in epochs}
    for seqs in numbers.values():
        assert seqs == list(range(1, len(seqs) + 1))
    assert [frame["prev"] for frame in frames if "prev" in frame] == [
        {"epoch": epochs[0], "last_seq": numbers[epochs[0]][-1]}
    ]
    assert [frame["epoch"] for frame in frames if frame.get("closed")] == epochs
    assert frames[-1]["closed"] is True


async def test_a_late_subscriber_gets_everything_that_stands(broker, plc, tmp_path):
    async with listening(broker, "early") as early, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await early.until(lambda: early.last(STATE).get("state") == "online")
        await early.until(lambda: early.last(LEVEL).get("q") == 192)
        async with listening(broker, "late") as late:
            await late.until(lambda: {LEVEL, STATE, "device/pump/info", "service/gateway/gateway"} <= late.heard.keys())
            await late.until(lambda: late.last("plugin/driver/modbus/gateway"))

    info = late.last("device/pump/info")
    assert info["tags"]["level"] == {
        "type": "float32",
        "group": "fast",
        "unit": "%",
        "deadband": 0.5,
        "writable": False,
    }
    assert info["groups"]["fast"]["interval_s"] == 0.02
    assert info["groups"]["fast"]["epoch"] == early.heard[FRAME][0]["epoch"]
    assert late.heard["service/gateway/gateway"][0]["state"] == "online"


async def test_before_the_first_value_tags_say_that_the_gateway_starts(broker, plc, unit, tmp_path):
    unit.silent = True
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last(LEVEL).get("cause") == "comm")

    assert [(told["value"], told["q"], told["cause"]) for told in listener.heard[LEVEL][:2]] == [
        (None, 0, "startup"),
        (None, 0, "comm"),
    ]


async def test_a_silent_device_makes_its_tags_bad_once_and_says_since_when_and_why(
    broker, plc, unit, tmp_path, eventually
):
    devices = {"pump": pump(plc.port, timeout="250ms")}
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, devices, retry_first="10ms", retry_longest="100ms") as gateway,
    ):
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        good = len(listener.heard[LEVEL])
        unit.silent = True
        await listener.until(lambda: listener.last(STATE).get("circuit") == "open")
        failed = gateway.metric("actor_errors_total", actor_id="pump", error_type="comm")
        await eventually(lambda: gateway.metric("actor_errors_total", actor_id="pump", error_type="comm") >= failed + 5)
        states = list(listener.heard[STATE])
        bad = [sample for sample in listener.samples(FRAME) if sample["v"]["level"] is None]
        unit.silent = False
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        levels = listener.heard[LEVEL][good:]

    assert [sample["q"]["level"] for sample in bad] == [{"q": 0, "cause": "comm"}]
    assert [(one["q"], one["value"]) for one in levels] == [(0, None), (192, 50.0)]
    away = [state for state in states if state["state"] == "offline"]
    told = [(state["circuit"], state.get("backlog")) for state in away]  # frames may wait for the broker for a moment
    assert [circuit for circuit, _ in groupby(told, key=itemgetter(0))] == ["closed", "open"]
    assert all(one != other for one, other in pairwise(told)), "and no state for each probe"
    assert {state["since"] for state in away} == {away[0]["since"]}
    assert (away[0]["cause"], "does not answer" in away[0]["error"]) == ("comm", True)
    assert gateway.metric("actor_errors_total", actor_id="pump", error_type="comm") >= 5


async def test_a_device_that_breaks_off_is_taken_up_again(broker, plc, tmp_path):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        plc.drop()
        await listener.until(lambda: [told["state"] for told in listener.heard[STATE]].count("online") == 2)

    states = [told["state"] for told in listener.heard[STATE]]
    assert states[states.index("online") :][:3] == ["online", "offline", "online"]


async def test_a_device_that_comes_late_is_waited_for(broker, unit, tmp_path):
    plc = ModbusSimulator(units={1: unit}, port=free_port())
    async with plc:
        port = plc.port
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump(port)}):
        await listener.until(lambda: listener.last(STATE).get("state") == "offline")
        await plc.start()
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
    await plc.stop()


async def test_a_refused_block_makes_its_own_tags_bad_and_the_device_stays_online(broker, plc, unit, tmp_path):
    device = pump(plc.port)
    device["groups"]["fast"]["tags"]["gone"] = {"address": "input:900", "type": "int16"}
    unit.refuse("input:900")
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}):
        await listener.until(lambda: listener.last("tag/pump/gone").get("cause") == "device")
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)

        states = [told["state"] for told in listener.heard[STATE]]

    assert "offline" not in states
    assert listener.samples(FRAME)[-2]["q"] == {"gone": {"q": 0, "cause": "device", "code": 2}}


async def test_after_a_clean_stop_nothing_reads_good(broker, plc, tmp_path):
    async with listening(broker) as listener:
        async with running_gateway(broker, tmp_path, {"pump": pump(plc.port)}):
            await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        await listener.until(lambda: listener.last("service/gateway/gateway").get("state") == "offline")

    assert (listener.last(LEVEL)["q"], listener.last(LEVEL)["cause"]) == (0, "comm")
    assert (listener.last(STATE)["state"], listener.last(STATE)["cause"]) == ("offline", "stopped")
    assert [told["state"] for told in listener.heard["service/gateway/gateway"]][-2:] == ["draining", "offline"]
    assert listener.samples(FRAME)[-1]["v"] == {"level": None, "total": None}


async def test_a_disabled_device_is_not_connected_to_and_says_so(broker, plc, tmp_path):
    device = pump(plc.port, enabled=False)
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}):
        await listener.until(lambda: listener.last(STATE).get("state") == "disabled")
        await listener.until(lambda: listener.last(LEVEL).get("cause") == "disabled")

    assert plc.accepted == 0


async def test_a_broken_device_file_is_told_and_the_others_run(broker, plc, tmp_path):
    broken = pump(plc.port)
    broken["groups"]["fast"]["interval"] = 100
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port), "fan": broken}),
    ):
        await listener.until(lambda: listener.last(STATE).get("state") == "online")
        await listener.until(lambda: listener.last("device/fan/state"))

    fan = listener.last("device/fan/state")
    assert (fan["state"], fan["cause"]) == ("offline", "config")
    assert "groups.fast.interval: a duration needs its unit" in fan["error"]


async def test_a_device_of_another_gateway_is_left_alone(broker, plc, tmp_path):
    devices = {"pump": pump(plc.port), "fan": pump(plc.port, gateway="north")}
    async with listening(broker) as listener, running_gateway(broker, tmp_path, devices):
        await listener.until(lambda: listener.last(STATE).get("state") == "online")

    assert not [topic for topic in listener.heard if "fan" in topic]


async def test_without_tag_topics_only_frames_are_published(broker, plc, tmp_path):
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port)}, tag_topics=False),
    ):
        await listener.until(lambda: len(listener.samples(FRAME)) > 5)

    assert not [topic for topic in listener.heard if topic.startswith("tag/")]


async def test_a_group_with_interval_zero_is_polled_as_fast_as_it_goes(broker, plc, tmp_path):
    device = pump(plc.port)
    device["groups"]["fast"]["interval"] = "0ms"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": device}) as gateway:
        await listener.until(lambda: len(listener.samples(FRAME)) > 200)
        await listener.until(lambda: listener.last(STATE).get("achieved_hz", 0) > 0)

    assert listener.last("device/pump/info")["groups"]["fast"]["mode"] == "continuous"
    assert gateway.metric("dropped_items_total", queue="publisher", reason="oldest") == 0


def heard(listener, topic):
    """The numbers of the frames that came on the topic."""
    return {frame["seq"] for frame in listener.heard[topic]}


def numbers(backlog):
    """The numbers that a frame announces."""
    return [seq for _, first, last in backlog for seq in range(first, last + 1)]


async def test_while_the_broker_is_away_polling_goes_on_and_no_frame_is_lost(broker, plc, tmp_path, eventually):
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port)}) as gateway,
    ):
        await listener.until(lambda: listener.last(LEVEL).get("q") == 192)
        broker.kill()
        polls = gateway.metric("polls_total", device="pump", outcome="good")
        await eventually(lambda: gateway.metric("polls_total", device="pump", outcome="good") > polls + 40)
        broker.start()
        seen = len(listener.heard[FRAME])
        await listener.until(lambda: len(listener.heard[FRAME]) > seen + 60, 30)
        await listener.until(lambda: listener.last(LEVEL).get("snapshot") is True)
        away = listener.heard[FRAME][seen]["backlog"]
        await listener.until(lambda: set(numbers(away)) <= heard(listener, BACKFILL))

    seqs = heard(listener, FRAME) | heard(listener, BACKFILL)
    assert max(seqs) - min(seqs) + 1 - len(seqs) <= 40, "all but what was published while nobody listened"
    assert len(set(numbers(away))) > 30
    late = [frame["seq"] for frame in listener.heard[BACKFILL]]
    assert late == sorted(late)
    assert listener.last("service/gateway/gateway")["state"] in {"online", "draining", "offline"}


async def test_a_device_slower_than_asked_says_its_rate_and_counts_the_slots_it_missed(broker, plc, unit, tmp_path):
    def told():
        state = listener.last(STATE)
        return state.get("achieved_hz", 0) > 0 and state["asked_hz"] == 50

    unit.delay_s = 0.05
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port)}) as gateway,
    ):
        await listener.until(told)
        await listener.until(lambda: listener.last(STATE)["achieved_hz"] < 25)
        polls = gateway.metric("polls_total", device="pump", outcome="good")
        overruns = gateway.metric("overruns_total", device="pump")

    assert listener.last(STATE)["achieved_hz"] < 25
    assert overruns >= polls - 1
