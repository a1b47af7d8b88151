"""A group's way out: readings become frames, journalled and then published, and topics of the tags that changed."""

import math
from contextlib import suppress

from contracts.codec import ContractError
from contracts.v1.device import ValueType
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct, encode_frame
from contracts.v1.tag import TAG
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, GroupSpec, Reading
from services.gateway.change import Change, ChangeReport, Rule
from services.gateway.dated import CAUSE, dated
from services.gateway.device_file import DeviceFile
from services.gateway.publisher import Parcel, Publisher
from services.gateway.stream import SILENCE_S, FrameStream
from services.gateway.tag_topic import TagTopic
from services.runtime.backfill import Backfill
from services.runtime.bus.bus import Bus
from services.runtime.clock_watch import EARLIEST_US
from services.runtime.journal import Journal, JournalFull, Stream
from services.runtime.metrics import Metrics

FRAME_KIND = "frame"
_BIG = frozenset({ValueType.INT64, ValueType.UINT64})


class GroupOutput:
    """What becomes of the readings of one group.

    due: when tick() is to be called (monotonic seconds). failed: the tags are bad because the device is away.
    """

    def __init__(
        self,
        *,
        device: DeviceFile,
        group: GroupSpec,
        site: str,
        tag_topics: bool,
        stream: Stream,
        journal: Journal,
        publisher: Publisher,
        backfill: Backfill,
        bus: Bus,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.failed = False
        self._read = False
        self._device = device.name
        self._units = {tag.name: device.tags[tag.name].unit for tag in group.tags}
        self._tag_topics = {
            tag: TagTopic(site=site, device=device.name, tag=tag, unit=unit) for tag, unit in self._units.items()
        }
        self._topic = FRAME.build(site=site, device=device.name, group=group.name)
        self._stream = stream
        self._frames = FrameStream(
            position=stream,
            rev=device.rev,
            tags=self._units,
            integers=[tag.name for tag in group.tags if tag.type in _BIG],
            announced=lambda: backfill.announced(stream),
        )
        self._rules = _rules(device, group)
        self._report = ChangeReport(self._rules, interval_s=group.interval_s) if tag_topics else None
        self._journal = journal
        self._publisher = publisher
        self._backfill = backfill
        self._bus = bus
        self._clock = clock
        self._frame_count = metrics.frames.labels(device.name)
        self._value_count = metrics.values.labels(device.name)
        self._silent_at = -math.inf
        self._seen_ms = 0
        self._untold: Reading | None = None

    @property
    def epoch(self) -> int:
        """The stream's epoch."""
        return self._stream.epoch

    @property
    def untold(self) -> bool:
        """Whether tell() has something to do."""
        return self._untold is not None

    @property
    def backlog(self) -> int:
        """Frames that the recorders have still to be sent out of the journal."""
        return self._backfill.pending(self._stream)

    @property
    def due(self) -> float:
        """When tick() is to be called, unless a reading comes before."""
        return min(self._silent_at, self._report.due) if self._report else self._silent_at

    def begin(self) -> None:
        """Opens the stream with an empty frame, and says of every tag that there is no value yet."""
        self._send(self._frames.empty())
        self._tell_bad(self._frames.bad(self._clock.now_us(), "startup"))

    def take(self, reading: Reading) -> None:
        """A reading came: its frame goes out, and the tags that it has changed with tell(), to be called soon.

        Raises DeviceError, cause `config`, if it is too long for a frame.
        """
        now_us = self._clock.now_us()
        if now_us < EARLIEST_US:  # nobody may take a value of 1970 for one of today
            self.fail(CAUSE)
            return
        reading = dated(reading, now_us)
        try:
            self._send(self._frames.frame(reading))
        except ContractError as error:
            raise DeviceError(f"{error}; split the group", cause="config") from error
        self.failed, self._read = False, True
        self._value_count.inc(len(reading.values))
        if self._report:
            self.tell()
            self._untold = reading
            self._seen_ms = now_us // 1000

    def tell(self) -> None:
        """Publishes the tags that the last reading has changed, once."""
        reading, self._untold = self._untold, None
        if self._report and reading:
            self._retain(self._report.on_reading(reading, self._clock.monotonic()))

    def revise(self, device: DeviceFile, group: str) -> None:
        """The same tags, of another revision of the file: if that tells them in another way, each is published anew."""
        self.tell()
        self._frames.rev = device.rev
        spec = next(one for one in device.spec.groups if one.name == group)
        before = self._units, self._rules
        self._units = {tag.name: device.tags[tag.name].unit for tag in spec.tags}
        self._rules = _rules(device, spec)
        for tag, unit in self._units.items():
            self._tag_topics[tag].unit = unit
        if self._report and before != (self._units, self._rules):
            self._retain(self._report.revise(self._rules, self._clock.monotonic()))

    def leave(self) -> None:
        """The tags' topics are another gateway's from now on."""
        if self._report:
            for tag in self._units:
                self._bus.disown(TAG, device=self._device, tag=tag)
        self._report = None

    def fail(self, cause: str, *, code: int | None = None) -> None:
        """The device is away: every tag is bad from now on. Says so once, until a reading comes again."""
        if self.failed:
            return
        self.failed = True
        reading = self._frames.bad(self._clock.now_us(), cause, code=code)
        self._send(self._frames.frame(reading))
        self._tell_bad(reading)

    def close(self, cause: str) -> None:
        """The last frame; every tag is bad from now on. Nothing may come after it."""
        reading = self._frames.bad(self._clock.now_us(), cause)
        self._send(self._frames.last(reading if self._read and not self.failed else None))
        self._journal.end_stream(self._stream)
        self.failed = True
        self._tell_bad(reading)

    def tick(self, *, live: bool) -> None:
        """Says what is due without a reading. live: a subscription stands, so that what did not change is confirmed."""
        self.tell()
        now = self._clock.monotonic()
        if now >= self._silent_at:
            self._send(self._frames.empty())
        if self._report:
            if live or self.failed:
                self._seen_ms = self._clock.now_us() // 1000
            self._retain(self._report.flush(now))

    def _send(self, frame: FrameStruct) -> None:
        data = encode_frame(frame, topic=self._topic)
        with suppress(JournalFull):  # the journal books it; the broker may still take it
            self._journal.append(self._stream, frame.seq, data)
        self._publisher.submit(Parcel(self._stream, frame.seq, self._topic, data))
        self._frame_count.inc()
        self._silent_at = self._clock.monotonic() + SILENCE_S

    def _tell_bad(self, reading: Reading) -> None:
        self.tell()
        self._untold = reading
        self._seen_ms = self._clock.now_us() // 1000
        self.tell()

    def _retain(self, changes: list[Change]) -> None:
        if not changes:
            return
        topics = [self._tag_topics[change.tag] for change in changes]
        for topic, change in zip(topics, changes, strict=True):
            topic.change, topic.seen_ms = change, self._seen_ms
        self._bus.retain_all(topics)


def _rules(device: DeviceFile, group: GroupSpec) -> dict[str, Rule]:
    tags = [device.tags[tag.name] for tag in group.tags]
    return {
        tag.name: Rule(deadband=tag.deadband or 0.0, min_interval_s=tag.min_interval_s, max_silence_s=tag.max_silence_s)
        for tag in tags
    }
