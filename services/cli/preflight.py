"""What a site will ask of its buses, its broker and its disks, computed from its files before anything runs. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.v1.definition import Definition, EveryTrigger, FrameTrigger
from plugins.api.driver import Estimates, PollLoad
from services.cli.derived import nodes_of_type
from services.gateway.device_file import DeviceFile
from services.gateway.stream import SILENCE_S
from services.recorder.settings import DAY_S, SECTION

ANSWER_S = 0.01
"""How long a device takes for an answer, unless something else is known: 5 to 20 ms are usual for a PLC."""
VALUE_BYTES = 6.0
"""Of a value in the embedded history (docs/history.md: 5.8 to 7.3), and in InfluxDB, by its makers' word, with its
quality: 3 bytes a field."""
MINUTE_BYTES = 50.0
"""Of a minute of a tag in the roll-up (docs/history.md)."""
EVENT_BYTES = 260.0
"""Of a stored event (docs/events.md: 1.8 kB for the seven of a run)."""
EVENTS_OF_A_RUN = 2
EVENTS_OF_A_NODE = 2
MOST_RUNS = 1000
"""Retained topics of runs at the most (requirement A3)."""
FIXED_STREAMS = 4
"""Of events: of the gateway, the orchestrator, the recorder and the identity service."""
FIXED_TOPICS = 6
"""Five services and the policy."""
TIGHT = 0.8
MESSAGES_PER_S = 5000.0
"""Beyond that a gateway's process has little left for its devices (docs: 65 to 120 µs for each)."""
ROOM = 4


@dataclass(frozen=True, slots=True)
class Means:
    """What there is. queue: max_queued_messages of the broker. free_bytes: of the recorder's disk; None: not known.

    keep_s, keep_minutes_s, events_s: how long values, minutes and events stay; inf: for good. events_bytes: that events
    may take. minutes: there is a roll-up. answer_s: of a device. plugins: how many the services will tell of.
    recorder: its instance. required: of which recorders each service with a journal waits.
    """

    queue: int
    free_bytes: int | None = None
    keep_s: float = 90 * DAY_S
    keep_minutes_s: float = 730 * DAY_S
    events_s: float = 730 * DAY_S
    events_bytes: float = math.inf
    minutes: bool = True
    tag_topics: bool = True
    answer_s: float = ANSWER_S
    plugins: int = 0
    recorder: str = SECTION
    required: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupLoad:
    """A group that is polled. share: of the bus's time that its polls take at the rate that its file asks for."""

    device: str
    group: str
    interval_s: float
    requests: int
    poll_s: float

    @property
    def share(self) -> float:
        """1 for a group that is polled as fast as it goes."""
        return self.poll_s / self.interval_s if self.interval_s else 1.0


@dataclass(frozen=True, slots=True)
class BusLoad:
    """A line or connection that a gateway polls devices on. cycle_s: one poll of each group."""

    gateway: str
    place: str
    groups: tuple[GroupLoad, ...]

    @property
    def requests(self) -> int:
        """Of one poll of each group."""
        return sum(group.requests for group in self.groups)

    @property
    def requests_per_s(self) -> float:
        """As the intervals ask for; of a group without one as fast as it goes."""
        return sum(group.requests / (group.interval_s or group.poll_s) for group in self.groups if group.poll_s)

    @property
    def cycle_s(self) -> float:
        """How long one poll of each group takes."""
        return sum(group.poll_s for group in self.groups)

    @property
    def share(self) -> float:
        """Of the bus's time; above 1 the intervals cannot be kept."""
        return sum(group.share for group in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What is to be expected. Rates per second, the tags' at most: when each changes all the time.

    retained: topics by class, at most. events_days: for how long events stay, if their bytes bound it. warnings: what
    will not fit, with the mend.
    """

    buses: tuple[BusLoad, ...]
    frames_per_s: float
    values_per_s: float
    tag_messages_per_s: float
    tag_messages_at_least_per_s: float
    series: int
    retained: Mapping[str, int]
    history_bytes_per_day: float
    minutes_bytes_per_day: float
    events_per_day: float
    event_bytes_per_day: float
    events_days: float | None
    disk_bytes: float
    warnings: tuple[str, ...] = field(default=())

    @property
    def retained_in_all(self) -> int:
        """Topics."""
        return sum(self.retained.values())


def preflight(devices: Iterable[DeviceFile], pipelines: Iterable[Definition], means: Means) -> Preflight:
    """Of the devices that are enabled, and the pipelines."""
    running = [device for device in devices if device.enabled]
    definitions = list(pipelines)
    buses = tuple(_buses(running, means.answer_s))
    rates = dict(_rates(running, buses))
    frames = sum(max(rate, 1 / SILENCE_S) for rate in rates.values())
    sizes = {(device.name, group.name): len(group.tags) for device in running for group in device.spec.groups}
    values = sum(rate * sizes[name] for name, rate in rates.items())
    tags = [(tag, rates[device.name, tag.group]) for device in running for tag in device.tags.values()]
    most = sum(min(rate, 1 / tag.min_interval_s if tag.min_interval_s else math.inf) for tag, rate in tags)
    events = _events_per_day(definitions, rates)
    event_bytes = events * EVENT_BYTES
    kept_bytes = _in_the_end(event_bytes, means.events_s)
    history = values * DAY_S * VALUE_BYTES
    minutes = sum(min(1.0, rate * 60) for _, rate in tags) * MINUTE_BYTES * 1440 if means.minutes else 0.0
    found = Preflight(
        buses=buses,
        frames_per_s=frames,
        values_per_s=values,
        tag_messages_per_s=most if means.tag_topics else 0.0,
        tag_messages_at_least_per_s=sum(1 / tag.max_silence_s for tag, _ in tags) if means.tag_topics else 0.0,
        series=len(tags),
        retained=_retained(running, definitions, len(rates), means),
        history_bytes_per_day=history,
        minutes_bytes_per_day=minutes,
        events_per_day=events,
        event_bytes_per_day=event_bytes,
        events_days=means.events_bytes / event_bytes if kept_bytes > means.events_bytes else None,
        disk_bytes=_in_the_end(history, means.keep_s)
        + _in_the_end(minutes, means.keep_minutes_s)
        + min(kept_bytes, means.events_bytes),
    )
    return _warned(found, means)


def _buses(devices: Iterable[DeviceFile], answer_s: float) -> Iterator[BusLoad]:
    places: dict[tuple[str, str], list[GroupLoad]] = {}
    for device in devices:
        for name, load in _loads(device, answer_s).items():
            interval_s = next(group.interval_s for group in device.spec.groups if group.name == name)
            group = GroupLoad(device.name, name, interval_s, load.requests, load.seconds)
            places.setdefault((device.gateway, device.place or device.name), []).append(group)
    for (gateway, place), groups in sorted(places.items()):
        yield BusLoad(gateway, place, tuple(groups))


def _loads(device: DeviceFile, answer_s: float) -> Mapping[str, PollLoad]:
    driver = device.plugin.entry
    return driver.poll_loads(device.spec, answer_s=answer_s) if isinstance(driver, Estimates) else {}


def _rates(devices: Iterable[DeviceFile], buses: Iterable[BusLoad]) -> Iterator[tuple[tuple[str, str], float]]:
    """Polls (or publishing intervals) a second of each group: no more than it can have, whatever its file asks for."""
    poll_s = {(group.device, group.group): group.poll_s for bus in buses for group in bus.groups}
    for device in devices:
        for group in device.spec.groups:
            name = device.name, group.name
            yield name, 1 / (max(group.interval_s, poll_s.get(name, 0.0)) or ANSWER_S)


def _events_per_day(pipelines: Iterable[Definition], rates: Mapping[tuple[str, str], float]) -> float:
    """Of the runs that intervals and frames start; how often tags, events and people do, nobody knows beforehand."""
    found = 0.0
    for one in pipelines:
        runs = 0.0
        for trigger in one.triggers if one.enabled else ():
            if isinstance(trigger, EveryTrigger):
                runs += DAY_S / trigger.every
            elif isinstance(trigger, FrameTrigger):
                device, _, group = trigger.frame.partition("/")
                runs += rates.get((device, group), 0.0) * DAY_S
        found += runs * (EVENTS_OF_A_RUN + EVENTS_OF_A_NODE * len(one.nodes))
    return found


def _retained(devices: list[DeviceFile], pipelines: list[Definition], groups: int, means: Means) -> Mapping[str, int]:
    nodes = Counter(kind for one in pipelines for kind, _ in nodes_of_type(one, ("derive", "alarm")))
    return {
        "TAG": (sum(len(device.tags) for device in devices) if means.tag_topics else 0) + nodes["derive"],
        "DEVICE": len(devices),
        "DEVICE_STATE": len(devices),
        "STORED": groups + FIXED_STREAMS,
        "PIPELINE": len(pipelines),
        "ALARM": nodes["alarm"],
        "RUN": MOST_RUNS if pipelines else 0,
        "PLUGIN": means.plugins,
        "SERVICE, POLICY": FIXED_TOPICS,
    }


def _in_the_end(bytes_per_day: float, keep_s: float) -> float:
    """What that comes to. For good: what a year brings."""
    return bytes_per_day * (365.0 if math.isinf(keep_s) else keep_s / DAY_S)


def _warned(found: Preflight, means: Means) -> Preflight:
    warnings = [*(text for bus in found.buses for text in _bus_warnings(bus)), *_limits(found, means), *_awaited(means)]
    return Preflight(**{name: getattr(found, name) for name in Preflight.__slots__} | {"warnings": tuple(warnings)})


def _bus_warnings(bus: BusLoad) -> Iterator[str]:
    for group in bus.groups:
        if group.interval_s and group.poll_s > group.interval_s:
            yield (
                f"{group.device}/{group.group}: a poll takes {milliseconds(group.poll_s)} ({group.requests} requests) "
                f"and is asked for every {milliseconds(group.interval_s)}: ask less often, or for tags that lie closer "
                "together (max_gap, max_registers)"
            )
    timed = sum(group.share for group in bus.groups if group.interval_s)
    if timed > TIGHT:
        said = "more than there is" if timed > 1 else "which leaves little for writes and retries"
        yield (
            f"{bus.place} (gateway {bus.gateway}): its polls take {timed:.0%} of the time, {said}: ask less often, or "
            "reach some devices over another line or connection"
        )


def _limits(found: Preflight, means: Means) -> Iterator[str]:
    held = found.retained_in_all
    if held * ROOM > means.queue:
        yield (
            f"{held} retained topics are more than a {ROOM}th of the {means.queue} messages that the broker queues for "
            f"one client: set max_queued_messages to {ROOM * held} or more, or tag_topics: false"
        )
    messages = found.frames_per_s + found.tag_messages_per_s
    if messages > MESSAGES_PER_S:
        yield (
            f"up to {messages:.0f} messages a second: give tags a deadband or a longer min_interval, or set "
            "gateway.tag_topics: false; frames carry every value anyway"
        )
    if means.free_bytes is not None and found.disk_bytes > means.free_bytes:
        yield (
            f"history and events come to {found.disk_bytes / 1e9:.1f} GB, and {means.free_bytes / 1e9:.1f} GB of the "
            "recorder's disk are free: keep less (recorder.store.keep, recorder.events_keep, "
            "recorder.events_max_bytes), or take a larger disk"
        )


def _awaited(means: Means) -> Iterator[str]:
    """Of a recorder with a name of its own: one with the usual name may be in the settings of another machine."""
    silent = [name for name, recorders in means.required.items() if recorders and means.recorder not in recorders]
    if silent and means.recorder != SECTION:
        yield (
            f"the recorder is called {means.recorder}, and others are waited for: journals keep all until "
            f"they are full; set {' and '.join(f'{name}.required_recorders' for name in silent)} to [{means.recorder}]"
        )


def milliseconds(seconds: float) -> str:
    """For people."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
