"""What an HMI reads: the retained topic of each tag, as a plain subscriber of a real broker sees it."""

import hashlib
import json
from collections import defaultdict
from itertools import pairwise

import paho.mqtt.client as mqtt
import pytest

from contracts.v1.device import ValueType
from tests.integration.gateway_site import listening, running_gateway
from tests.real_broker import SITE

TAGS = {
    "level": {"address": "holding:10", "type": "float32", "deadband": 0.5, "min_interval": "0ms"},
    "steady": {"address": "holding:20", "type": "int16", "max_silence": "1s"},
    "ratio": {"address": "holding:30", "type": "float64", "raw": "uint16", "scale": 0.5},
    "running": {"address": "coil:3", "type": "bool"},
    "broken": {"address": "holding:40", "type": "float32"},
    "busy": {"address": "holding:50", "type": "int16", "min_interval": "500ms"},
}
MIN_INTERVAL_MS = 500


def pump(port):
    connection = {"host": "127.0.0.1", "port": port, "unit_id": 1, "timeout": "500ms"}
    return {
        "pump": {
            "driver": "modbus",
            "connection": connection,
            "groups": {"fast": {"interval": "20ms", "tags": TAGS}},
        }
    }


@pytest.fixture
def unit(unit):
    unit.set_value("holding:20", ValueType.INT16, 7)
    unit.set_value("holding:30", ValueType.UINT16, 4)
    unit.set_value("coil:3", ValueType.BOOL, True)
    unit.set_value("holding:40", ValueType.UINT32, 0x7FC0_0000)  # as float32 no number
    return unit


class PlainTool:
    """An MQTT 5 client as SCADA tools have one. Keeps text and expiry of each topic's messages."""

    def __init__(self, broker):
        self.heard = defaultdict(list)
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda *_: self._client.subscribe(f"dinrail/v1/{SITE}/#", qos=1)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", broker.port)

    def __enter__(self):
        self._client.loop_start()
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client, _data, message):
        topic = message.topic.removeprefix(f"dinrail/v1/{SITE}/")
        expiry = getattr(message.properties, "MessageExpiryInterval", None)
        self.heard[topic].append((message.payload.decode(), expiry))

    def good(self, *tags):
        texts = [self.heard[f"tag/pump/{tag}"][-1][0] for tag in tags if self.heard[f"tag/pump/{tag}"]]
        return len(texts) == len(tags) and all(json.loads(text)["q"] == 192 for text in texts)


async def test_the_json_form_of_a_number_is_its_type(broker, plc, tmp_path, eventually):
    with PlainTool(broker) as tool:
        async with running_gateway(broker, tmp_path, pump(plc.port)):
            await eventually(lambda: tool.good("level", "steady", "ratio", "running"))
            await eventually(lambda: '"range"' in tool.heard["tag/pump/broken"][-1][0])
            told = {topic.rpartition("/")[2]: heard[-1][0] for topic, heard in tool.heard.items() if "tag/" in topic}

    assert told["level"].startswith('{"value":50.0,')
    assert told["ratio"].startswith('{"value":2.0,')
    assert told["steady"].startswith('{"value":7,')
    assert told["running"].startswith('{"value":true,')
    assert told["broken"].startswith('{"value":null,')
    assert (json.loads(told["broken"])["q"], json.loads(told["broken"])["cause"]) == (0, "range")


async def test_a_tag_is_told_beyond_its_deadband_and_not_within(broker, plc, unit, tmp_path):
    topic = "tag/pump/level"
    async with listening(broker) as listener, running_gateway(broker, tmp_path, pump(plc.port)):
        await listener.until(lambda: listener.last(topic).get("value") == 50.0)
        frames = len(listener.heard["frame/pump/fast"])
        unit.set_value("holding:10", ValueType.FLOAT32, 50.25)
        await listener.until(lambda: listener.samples("frame/pump/fast")[-1]["v"].get("level") == 50.25)
        await listener.until(lambda: len(listener.heard["frame/pump/fast"]) > frames + 3)
        unit.set_value("holding:10", ValueType.FLOAT32, 50.75)
        await listener.until(lambda: listener.last(topic).get("value") == 50.75)

        values = [told["value"] for told in listener.heard[topic] if told["q"]]

    assert values == [50.0, 50.75]


async def test_a_value_that_stays_is_confirmed_at_least_every_max_silence(broker, plc, tmp_path):
    def good():
        return [told for told in listener.heard["tag/pump/steady"] if told["q"]]

    async with listening(broker) as listener, running_gateway(broker, tmp_path, pump(plc.port)):
        await listener.until(lambda: len(good()) >= 3)
        confirmed = [told["seen"] for told in good()]

    gaps = [(after - before) / 1000 for before, after in pairwise(confirmed)]
    assert all(gap > 0.9 for gap in gaps)
    assert {told["value"] for told in good()} == {7}


async def test_a_value_that_changes_with_each_poll_is_told_once_in_a_min_interval_and_its_last_one_too(
    broker, plc, unit, tmp_path
):
    def told():
        return [message for message in listener.heard["tag/pump/busy"] if message["q"]]

    async def polled(value):
        unit.set_value("holding:50", ValueType.INT16, value)
        await listener.until(lambda: listener.samples("frame/pump/fast")[-1]["v"].get("busy") == value)

    async with listening(broker) as listener, running_gateway(broker, tmp_path, pump(plc.port)):
        await listener.until(told)
        value = 0
        while len(told()) < 4:
            value += 1
            await polled(value)
        unit.set_value("holding:50", ValueType.INT16, value + 1)  # just after a message: it must wait, and not be lost
        await listener.until(lambda: told()[-1]["value"] == value + 1)
        times = [message["seen"] for message in told()]

    assert value > 2 * len(times)
    assert all(after - before > MIN_INTERVAL_MS - 50 for before, after in pairwise(times))


async def test_a_tag_topic_expires_after_three_times_the_longest_silence(broker, plc, tmp_path, eventually):
    with PlainTool(broker) as tool:
        async with running_gateway(broker, tmp_path, pump(plc.port)):
            await eventually(lambda: tool.good("level"))

    assert {expiry for _, expiry in tool.heard["tag/pump/level"]} <= {178, 179, 180}


async def test_a_subscriber_can_prove_its_picture_whole(broker, plc, tmp_path, eventually):
    async with listening(broker) as listener, running_gateway(broker, tmp_path, pump(plc.port)):
        await listener.until(lambda: listener.last("tag/pump/level").get("q") == 192)
        with PlainTool(broker) as late:
            await eventually(lambda: late.heard["device/pump/info"] and late.good("level", "steady"))
            info = json.loads(late.heard["device/pump/info"][-1][0])
            await eventually(lambda: sum(topic.startswith("tag/pump/") for topic in late.heard) >= info["tag_count"])
            names = [topic.removeprefix("tag/pump/") for topic in late.heard if topic.startswith("tag/pump/")]

    assert (info["tag_count"], info["tag_hash"]) == (len(TAGS), hash_of(names))
    assert sorted(names) == sorted(TAGS)


def hash_of(names):
    """As contracts/v1/device.py promises it to programs that are not ours."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
