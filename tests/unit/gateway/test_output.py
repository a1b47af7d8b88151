"""What becomes of a group's readings: frames in the journal, and topics of the tags that changed."""

import pytest
import structlog
from prometheus_client import CollectorRegistry

from contracts.codec import MAX_BYTES, decode
from contracts.v1.frame_codec import decode_frame
from contracts.v1.tag import TagValue
from plugins.api.driver import DeviceError, Reading
from plugins.api.registry import Registry
from services.gateway.device_file import parse_device
from services.gateway.output import GroupOutput
from services.gateway.publisher import Publisher
from services.gateway.settings import SHIPPED_DRIVERS
from services.runtime.journal import Journal, JournalFull
from services.runtime.metrics import Metrics

PUMP = """\
device: pump
driver: modbus
connection: {host: 127.0.0.1, unit_id: 1}
groups:
  fast:
    interval: 20s
    tags:
      level: {address: "holding:10", type: float32, unit: "%"}
      total: {address: "holding:20", type: uint64}
"""


class HandClock:
    now = 1_800_000_000.0

    def now_us(self):
        return int(self.now * 1e6)

    def monotonic(self):
        return self.now


class Owed:
    """Stands for the backfill: keeps what did not go out live. announces: what live frames are to announce."""

    def __init__(self):
        self.frames = []
        self.announces = None

    def owe(self, stream, seq):
        self.frames.append((stream.path, seq))

    def announced(self, stream):
        return self.announces

    def pending(self, stream):
        return len(self.frames)


class Topics:
    """Stands for the bus: keeps what is retained."""

    connected = False

    def __init__(self):
        self.told = []

    def disown(self, topic, **levels):
        pass

    def retain_all(self, values):
        for value in values:
            topic = value.envelope.topic
            told = decode(TagValue, value.encode(False), topic=topic)
            self.told.append((topic.rpartition("/")[2], told.value, told.q, told.cause, told.ts, told.seen))


class Bench:
    def __init__(self, folder):
        self.clock = HandClock()
        self.topics = Topics()
        metrics = Metrics(CollectorRegistry())
        self.journal = Journal.open(folder, clock=self.clock, metrics=metrics)
        device = parse_device(PUMP, source="pump.yaml", drivers=Registry([SHIPPED_DRIVERS], kind="driver"))
        self.owed = Owed()
        self.publisher = Publisher(
            bus=self.topics, backfill=self.owed, metrics=metrics, log=structlog.stdlib.get_logger(), queued=1
        )
        self.stream = self.journal.open_stream("frame", "pump", "fast")
        self.output = GroupOutput(
            device=device,
            group=device.spec.groups[0],
            site="plant",
            tag_topics=True,
            stream=self.stream,
            journal=self.journal,
            publisher=self.publisher,
            backfill=self.owed,
            bus=self.topics,
            clock=self.clock,
            metrics=metrics,
        )

    def frames(self):
        records = self.journal.read("frame", "pump", "fast", self.stream.epoch, 1, 1000)
        return [decode_frame(data, topic="frame") for _, data in records]

    def reading(self, level):
        return Reading(self.clock.now_us(), {"level": level, "total": 1})

    @property
    def now_ms(self):
        return self.clock.now_us() // 1000


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.journal.close()


def test_a_frame_is_in_the_journal_when_it_is_handed_to_the_publisher(bench):
    bench.output.take(bench.reading(50.0))
    bench.output.take(bench.reading(51.0))

    assert [frame.samples[0].v["level"] for frame in bench.frames()] == [50.0, 51.0]
    assert bench.owed.frames == [(("frame", "pump", "fast"), 1)]
    assert bench.output.backlog == 1


def test_a_frame_says_what_of_its_stream_is_still_to_come(bench):
    bench.owed.announces = [(7, 1, 20)]
    bench.output.take(bench.reading(50.0))
    bench.owed.announces = None
    bench.output.take(bench.reading(51.0))

    assert [frame.backlog for frame in bench.frames()] == [[(7, 1, 20)], None]


def test_the_last_frame_ends_the_stream_for_the_journal(bench):
    bench.output.take(bench.reading(50.0))
    assert list(bench.journal.unstored(ended=True)) == []

    bench.output.close("comm")

    ((name, epoch, ranges),) = bench.journal.unstored(ended=True)
    assert (name, epoch, list(ranges)) == (("frame", "pump", "fast"), bench.output.epoch, [(1, 2)])


def test_a_reading_s_frame_goes_out_before_the_tags_that_it_has_changed(bench):
    bench.output.take(bench.reading(50.0))
    assert (len(bench.frames()), bench.topics.told, bench.output.untold) == (1, [], True)
    read_ms = bench.now_ms
    bench.clock.now += 0.002

    bench.output.tell()
    bench.output.tell()

    assert [told[0] for told in bench.topics.told] == ["level", "total"]
    assert bench.topics.told[0] == ("level", 50.0, 192, None, read_ms, read_ms)
    assert not bench.output.untold


@pytest.mark.parametrize(
    "then",
    [
        lambda output: output.fail("comm"),
        lambda output: output.close("comm"),
    ],
)
def test_what_has_not_been_told_is_never_told_after_what_came_later(bench, then):
    bench.output.take(bench.reading(50.0))
    then(bench.output)
    bench.output.tell()

    assert [told[1] for told in bench.topics.told if told[0] == "level"] == [50.0, None]


def test_of_two_readings_that_wait_to_be_told_neither_is_lost(bench):
    bench.output.take(bench.reading(50.0))
    bench.output.take(bench.reading(51.0))
    bench.output.tell()
    bench.clock.now += 0.2
    bench.output.tick(live=False)

    assert [told[1] for told in bench.topics.told if told[0] == "level"] == [50.0, 51.0]


def test_the_tags_of_a_group_that_another_gateway_has_taken_are_not_told(bench):
    bench.output.take(bench.reading(50.0))
    bench.output.leave()
    bench.output.tell()

    assert bench.topics.told == []


def test_a_silent_stream_sends_an_empty_frame_every_ten_seconds(bench):
    bench.output.take(bench.reading(50.0))
    for _ in range(25):
        bench.clock.now += 1.0
        if bench.output.due <= bench.clock.now:
            bench.output.tick(live=False)

    assert [len(frame.samples) for frame in bench.frames()] == [1, 0, 0]


def test_a_stream_begins_with_an_empty_frame_and_tags_without_a_value(bench):
    bench.output.begin()

    assert [len(frame.samples) for frame in bench.frames()] == [0]
    assert [told[:4] for told in bench.topics.told] == [("level", None, 0, "startup"), ("total", None, 0, "startup")]


def test_an_outage_is_told_once(bench):
    bench.output.take(bench.reading(50.0))
    for _ in range(3):
        bench.clock.now += 1.0
        bench.output.fail("comm", code=11)
    bench.clock.now += 1.0
    bench.output.take(bench.reading(50.0))
    bench.clock.now += 1.0
    bench.output.fail("comm")

    assert [frame.samples[0].v["level"] for frame in bench.frames()] == [50.0, None, 50.0, None]
    assert [frame.samples[0].q["level"].code for frame in bench.frames()[1::2]] == [11, None]
    assert [told[1] for told in bench.topics.told if told[0] == "level"] == [50.0, None, 50.0, None]


def test_the_last_frame_is_closed_and_leaves_no_tag_good(bench):
    bench.output.take(bench.reading(50.0))
    bench.output.close("comm")

    last = bench.frames()[-1]
    assert (last.closed, last.samples[0].v) == (True, {"level": None, "total": None})
    assert [told[:4] for told in bench.topics.told[-2:]] == [("level", None, 0, "comm"), ("total", None, 0, "comm")]


def test_a_stream_that_is_bad_already_closes_without_another_sample(bench):
    bench.output.take(bench.reading(50.0))
    bench.output.fail("comm")
    bench.output.close("comm")

    assert [(len(frame.samples), frame.closed) for frame in bench.frames()] == [(1, None), (1, None), (0, True)]


def test_a_polled_value_told_again_after_silence_was_last_seen_at_its_poll(bench):
    bench.output.take(bench.reading(50.0))
    bench.output.tell()
    polled_ms = bench.now_ms
    bench.clock.now += 60.0
    bench.output.tick(live=False)

    assert bench.topics.told[-2:][0] == ("level", 50.0, 192, None, polled_ms, polled_ms)


def test_a_subscribed_value_told_again_after_silence_is_confirmed_by_the_subscription(bench):
    bench.output.take(bench.reading(50.0))
    bench.output.tell()
    polled_ms = bench.now_ms
    bench.clock.now += 60.0
    bench.output.tick(live=True)

    assert bench.topics.told[-2:][0] == ("level", 50.0, 192, None, polled_ms, bench.now_ms)


def test_a_reading_too_long_for_a_frame_is_a_failed_poll_and_its_tags_become_bad(bench):
    too_long = Reading(bench.clock.now_us(), {"level": 50.0, "total": "9" * MAX_BYTES})

    with pytest.raises(DeviceError, match="over the bound of 1048576; split the group"):
        bench.output.take(too_long)
    bench.output.fail("config")

    (frame,) = bench.frames()
    assert frame.samples[0].v == {"level": None, "total": None}
    assert {quality.cause for quality in frame.samples[0].q.values()} == {"config"}
    bench.output.take(bench.reading(50.0))
    assert bench.frames()[-1].samples[0].v == {"level": 50.0, "total": 1}


def test_a_full_disk_keeps_no_value_from_the_bus(bench, monkeypatch):
    def full(*_):
        raise JournalFull(28, "no space left", "journal")

    monkeypatch.setattr(bench.journal, "append", full)
    bench.output.take(bench.reading(50.0))
    bench.output.tell()

    assert bench.frames() == []
    assert bench.topics.told[0][:2] == ("level", 50.0)


def test_a_gateway_whose_clock_says_1970_tells_no_value_until_it_is_set(bench):
    bench.clock.now = 100.0
    bench.output.take(bench.reading(50.0))
    bench.output.take(bench.reading(51.0))

    assert [told[:4] for told in bench.topics.told if told[0] == "level"] == [("level", None, 0, "clock")]
    assert [[sample.v["level"] for sample in frame.samples] for frame in bench.frames()] == [[None]]

    bench.clock.now = 1_800_000_000.0
    bench.output.take(bench.reading(52.0))
    bench.output.tell()

    assert bench.topics.told[-2][:4] == ("level", 52.0, 192, None)


def test_a_source_time_before_2024_is_replaced_and_its_value_uncertain(bench):
    now = bench.clock.now_us()
    bench.output.take(Reading(now, {"level": 50.0, "total": 1}, dt={"level": -now}))
    bench.output.take(Reading(5, {"level": 51.0, "total": 2}))

    first, second = (frame.samples[0] for frame in bench.frames())
    assert (first.t, first.v["level"], first.dt) == (now, 50.0, None)
    assert {tag: (one.q, one.cause) for tag, one in first.q.items()} == {"level": (64, "clock")}
    assert second.t == now
    assert {tag: one.q for tag, one in second.q.items()} == {"level": 64, "total": 64}
