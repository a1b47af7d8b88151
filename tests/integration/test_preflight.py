"""What `dinrail check` computes, held against what a real gateway then does at a real broker and a real server."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import yaml
from typer.testing import CliRunner

from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import decode_frame
from contracts.v1.tag import TAG
from plugins.drivers.modbus.simulated_unit import Access, Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.cli.connection import viewer_access
from services.cli.doctor.sight import look
from services.cli.main import app
from services.cli.site import Site
from tests.faults.site import Process
from tests.integration.test_doctor_bus import make_folder
from tests.real_broker import SITE, Broker

WINDOW_S = 5.0


def plan(port: int) -> dict[str, Any]:
    """Three requests for the fast group (a gap, and another table), two for the slow one."""
    fast = {"a": "holding:0", "b": "holding:2", "c": "holding:300", "d": "input:0"}
    slow = {"e": "holding:600", "f": "holding:900"}
    return {
        "device": "plc",
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": port, "unit_id": 1},
        "groups": {
            name: {"interval": interval, "tags": {tag: {"address": at, "type": "uint16"} for tag, at in tags.items()}}
            for name, interval, tags in (("fast", "250ms", fast), ("slow", "500ms", slow))
        },
    }


def checked(folder: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["check", str(folder), "--json", *options])
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


class Heard:
    """Messages by class and name, and when the first and the last poll of each group was."""

    def __init__(self) -> None:
        self.polls: dict[str, list[int]] = {"fast": [], "slow": []}
        self.tags: Counter[str] = Counter()
        self.before = dict.fromkeys(self.polls, 0)

    async def listen(self, client: aiomqtt.Client, *, frames_per_s: float, tags_per_s: float) -> None:
        """Until messages have come at these rates for a whole window: a machine that is busy may need several."""
        async with asyncio.timeout(60):
            async for message in client.messages:
                topic = str(message.topic)
                if levels := FRAME.parse(topic):
                    assert isinstance(message.payload, bytes)
                    self.polls[levels["group"]] += [one.t for one in decode_frame(message.payload, topic=topic).samples]
                elif levels := TAG.parse(topic):
                    self.tags[levels["tag"]] += not message.retain
                if all(times and times[-1] - times[0] >= WINDOW_S * 1e6 for times in self.polls.values()):
                    frames, tags = self.rates
                    if frames == pytest.approx(frames_per_s, rel=0.2) and tags == pytest.approx(tags_per_s, rel=0.25):
                        return
                    self._begin()

    @property
    def rates(self) -> tuple[float, float]:
        """Frames and tags a second in the window."""
        spans_s = {group: (times[-1] - times[0]) / 1e6 for group, times in self.polls.items()}
        frames = sum((len(times) - 1) / spans_s[group] for group, times in self.polls.items())
        return frames, sum(self.tags.values()) / spans_s["fast"]

    @property
    def all_polls(self) -> dict[str, int]:
        """Of each group, in all windows."""
        return {group: self.before[group] + len(times) for group, times in self.polls.items()}

    def _begin(self) -> None:
        self.before = self.all_polls
        self.polls = {group: [] for group in self.polls}
        self.tags.clear()


async def test_requests_messages_and_retained_topics_are_those_that_were_computed(
    broker: Broker, tmp_path: Path
) -> None:
    unit = Unit()
    for at in (0, 2, 300, 600, 900):
        unit.holding[at] = 0
    unit.input[0] = 0

    def change(access: Access) -> None:
        """Every value is another one at each poll."""
        for at in (0, 2, 300, 600, 900):
            unit.holding[at] = (unit.reads + at) % 65536
        unit.input[0] = unit.reads % 65536

    unit.on_read = change
    async with ModbusSimulator(units={1: unit}) as plc:
        gateway = Process("gateway", tmp_path / "gateway", broker, {"devices": "devices"})
        (tmp_path / "gateway" / "devices").mkdir()
        (tmp_path / "gateway" / "devices" / "plc.yaml").write_text(yaml.safe_dump(plan(plc.port)))
        told = await asyncio.to_thread(checked, tmp_path / "gateway" / "devices")
        folder = make_folder(tmp_path / "site", broker)
        heard = Heard()
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.subscribe(FRAME.filter(site=SITE), qos=1)
            await client.subscribe(TAG.filter(site=SITE), qos=1)
            gateway.start()
            try:
                rates = {"frames_per_s": told["frames_per_s"], "tags_per_s": told["tag_messages_per_s"]}
                await heard.listen(client, **rates)
                reads, polls = unit.reads, heard.all_polls
                sight = await look(viewer_access(Site(folder)))
            finally:
                gateway.kill()

    (bus,) = told["buses"]
    requests = {group["group"]: group["requests"] for group in bus["groups"]}
    assert requests == {"fast": 3, "slow": 2}
    expected = sum(polls[name] * requests[name] for name in requests)
    assert expected <= reads <= expected + 3 * sum(requests.values())  # a poll or two may be on their way to us
    held = Counter(seen.kind for seen in sight.messages.values())
    assert {kind: held[kind] for kind in ("TAG", "DEVICE", "DEVICE_STATE")} == {
        kind: told["retained"][kind] for kind in ("TAG", "DEVICE", "DEVICE_STATE")
    }
    assert told["series"] == 6
    assert told["warnings"] == []


def test_a_cycle_that_cannot_be_kept_is_a_warning_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "plc.yaml").write_text(yaml.safe_dump(plan(502)))

    slow = checked(tmp_path, "--answer", "100ms")
    (late,) = slow["warnings"][:1]
    (busy,) = checked(tmp_path, "--answer", "60ms")["warnings"]

    assert late.startswith("plc/fast: a poll takes 300 ms (3 requests) and is asked for every 250 ms: ask less often")
    assert busy.startswith("127.0.0.1:502 (gateway gateway): its polls take 96% of the time, which leaves little")
    # What the fast group cannot be asked for is neither sent nor stored: a poll takes 0.3 s, and one of the slow 0.2 s.
    assert slow["frames_per_s"] == pytest.approx(1 / 0.3 + 1 / 0.5)


def test_an_answer_in_no_time_is_refused_instead_of_told_as_a_bus_without_requests(tmp_path: Path) -> None:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["check", str(tmp_path), "--answer", "0ms"])

    assert result.exit_code == 2
    assert "no device answers in no time; write such as 1ms" in result.output


def test_a_serial_line_takes_the_time_of_its_characters_and_silences(tmp_path: Path) -> None:
    device = plan(502)
    serial = {"port": "/dev/ttyUSB0", "baudrate": 9600, "parity": "even"}
    device["connection"] = {"transport": "serial", "serial": serial, "unit_id": 1}
    device["groups"] = {"fast": {"interval": "1s", "tags": {"x": {"address": "holding:0", "type": "float32"}}}}
    (tmp_path / "meter.yaml").write_text(yaml.safe_dump(device))

    (bus,) = checked(tmp_path, "--answer", "5ms")["buses"]

    # 8 characters asked, 9 answered, of 11 bits each; 3.5 of silence before both
    assert bus["groups"][0]["poll_s"] == pytest.approx((8 + 9 + 2 * 3.5) * 11 / 9600 + 0.005)
    assert (bus["place"], bus["requests"]) == ("/dev/ttyUSB0", 1)


def test_what_broker_and_disk_cannot_hold_is_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert CliRunner().invoke(app, ["init", "--dir", str(site), "--example", "plant"]).exit_code == 0
    settings = site / "dinrail.yaml"
    content = yaml.safe_load(settings.read_text())
    content["recorder"]["store"] = {"kind": "embedded", "keep": "100000d", "keep_minutes": "100000d"}
    content["recorder"]["events_keep"] = "100000d"
    settings.write_text(yaml.safe_dump(content))
    config = site / "broker" / "mosquitto.conf"
    config.write_text(config.read_text().replace("max_queued_messages 200000", "max_queued_messages 1000"))

    told = checked(site)

    assert [text for text in told["warnings"] if "set max_queued_messages to" in text]
    assert [text for text in told["warnings"] if "GB of the recorder's disk are free: keep less" in text]
    assert told["event_bytes_per_day"] > 0
    assert told["retained"]["ALARM"] > 0


def test_a_recorder_that_was_renamed_and_that_no_journal_waits_for_is_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert CliRunner().invoke(app, ["init", "--dir", str(site), "--example", "plant"]).exit_code == 0
    settings = site / "dinrail.yaml"
    content = yaml.safe_load(settings.read_text())
    content["recorder"] |= {"instance": "rec-1", "required_recorders": ["rec-1"]}
    content["gateway"]["required_recorders"] = ["rec-1", "rec-2"]
    settings.write_text(yaml.safe_dump(content))

    (told,) = (text for text in checked(site)["warnings"] if text.startswith("the recorder"))  # others are of the disk

    assert "the recorder is called rec-1, and others are waited for" in told
    assert told.endswith("set orchestrator.required_recorders and identity.required_recorders to [rec-1]")


def test_events_are_counted_up_to_the_bytes_that_they_may_take(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert CliRunner().invoke(app, ["init", "--dir", str(site), "--example", "plant"]).exit_code == 0
    settings = site / "dinrail.yaml"
    content = yaml.safe_load(settings.read_text())

    def asked(**recorder: object) -> tuple[dict[str, Any], str]:
        settings.write_text(yaml.safe_dump(content | {"recorder": content["recorder"] | recorder}))
        return checked(site), CliRunner().invoke(app, ["check", str(site)]).stdout

    bound, said = asked(events_max_bytes=1 << 30)
    less, said_of_less = asked(events_max_bytes=1 << 29)
    free, said_of_free = asked(events_max_bytes=None)

    assert bound["disk_bytes"] - less["disk_bytes"] == 1 << 29
    assert bound["events_days"] == pytest.approx((1 << 30) / bound["event_bytes_per_day"])
    assert f"events of the last {bound['events_days']:.0f} days stay" in said
    assert f"events of the last {less['events_days']:.0f} days stay" in said_of_less
    assert free["disk_bytes"] > 2 * bound["disk_bytes"]
    assert (free["events_days"], "days stay" in said_of_free) == (None, False)


def test_the_load_is_printed_for_people(tmp_path: Path) -> None:
    (tmp_path / "plc.yaml").write_text(yaml.safe_dump(plan(502)))
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["check", str(tmp_path), "--answer", "2ms"])

    said = result.stdout
    assert result.exit_code == 0
    assert [
        line for line in said.splitlines() if line.split()[:6] == ["127.0.0.1:502", "gateway", "2", "5", "10", "ms"]
    ]
    assert "messages/s: 6 frames with 20 values, 0.1 to 20 of tags" in said
    assert "6 series, at most" in said
