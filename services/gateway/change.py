"""Report by exception: which tags of a group are to be published, and when. Pure; times are the caller's monotonic.

A tag is published when it differs from what was last published by more than its deadband, not sooner than min_interval
after that, and at least every max_silence; a change of quality is published at once. A change held back by min_interval
is published when that has passed, so that the last value is never lost.

A frame costs next to nothing while nothing is due: tags that wait for their min_interval are not looked at, and a
reading equal to the one before is recognised as a whole.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, cast

import msgspec

from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Reading, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a tag is published. deadband: in the tag's unit, 0 for any change; the others are seconds."""

    deadband: float
    min_interval_s: float
    max_silence_s: float


class Change(msgspec.Struct, frozen=True, gc=False):
    """What is to be published of a tag. t: its source time in microseconds; quality: None where it is good."""

    tag: str
    value: Value
    t: int
    quality: QualityStruct | None


_MOST_PATIENCE_S = 0.1
_NEVER: Final = cast("Value", object())


class _State:
    """A tag as it was last published."""

    __slots__ = ("at", "deadband", "max_silence_s", "may_follow_at", "min_interval_s", "value")

    def __init__(self, rule: Rule) -> None:
        self.value: Value = _NEVER
        self.at = -math.inf
        self.follow(rule)

    def follow(self, rule: Rule) -> None:
        """Takes the rule's limits for what comes next."""
        self.deadband = rule.deadband
        self.min_interval_s = rule.min_interval_s
        self.max_silence_s = rule.max_silence_s
        self.may_follow_at = self.at + self.min_interval_s
        """When the next change may be told, in seconds of the loop's clock."""

    def told(self, value: Value, now: float) -> None:
        """This is published now."""
        self.value, self.at = value, now
        self.may_follow_at = now + self.min_interval_s

    @property
    def silent_at(self) -> float:
        """When the value is told again though it has not changed, in seconds of the loop's clock."""
        return self.at + self.max_silence_s

    def differs(self, value: Value) -> bool:
        """Whether the value is to be told."""
        before = self.value
        if value == before:
            return False
        if not self.deadband or value is None or before is None or before is _NEVER:
            return True
        return abs(cast("float", value) - cast("float", before)) > self.deadband


class ChangeReport:
    """The published state of one group's tags.

    interval_s: of the readings, 0 if there is none. A change that was held back is told as soon as min_interval allows
    if that is within half an interval of its reading. Else it may wait for another three quarters, 0.1 s at most: by
    then the next reading has brought a fresher value, if it comes at all. So tags are not told while a device is read.
    """

    def __init__(self, rules: Mapping[str, Rule], *, interval_s: float = 0.0) -> None:
        self._states = {tag: _State(rule) for tag, rule in rules.items()}
        self._least_silence_s = _least_silence_s(rules)
        self._fresh_s = interval_s / 2
        self._patience_s = min(interval_s * 3 / 4, _MOST_PATIENCE_S)
        self._read_at = -math.inf
        self._open = dict.fromkeys(rules)  # a set in the file's order: the tags whose min_interval has passed
        self._waiting: list[tuple[float, int, list[str]]] = []  # a heap: when min_interval will have passed, for whom
        self._passes = 0
        self._waits_until = -math.inf  # when the last of _waiting will have passed
        self._held_until = -math.inf  # readings came for tags that wait until then
        self._silent_at = math.inf  # no tag has been silent for its max_silence before this
        self._bad: dict[str, QualityStruct] = {}
        self._whole = Reading(0, {})
        self._newer: dict[str, Change] = {}  # than _whole

    @property
    def due(self) -> float:
        """When flush() is to be called at the latest, unless a reading comes before."""
        if not self._waiting or self._waiting[0][0] > self._held_until:
            return self._silent_at
        may_follow_at = self._waiting[0][0]
        fresh = may_follow_at <= self._read_at + self._fresh_s
        return min(may_follow_at + (0.0 if fresh else self._patience_s), self._silent_at)

    def on_reading(self, reading: Reading, now: float) -> list[Change]:
        """Takes the reading in and gives what is to be published now."""
        self._read_at = now
        if self._waiting:
            self._held_until = self._waits_until
        repeated = self._take(reading)
        expired = self._expire(now)
        candidates: Iterable[str] = expired
        if not repeated:
            whole = reading is self._whole
            candidates = self._open if whole else [*expired, *(tag for tag in reading.values if tag in self._open)]
        return self._published([*self._turned(reading), *self._differing(candidates)], now) + self._silent(now)

    def flush(self, now: float) -> list[Change]:
        """What has become due without a reading."""
        return self._published(self._differing(self._expire(now)), now) + self._silent(now)

    def revise(self, rules: Mapping[str, Rule], now: float) -> list[Change]:
        """Goes by these rules of the same tags from now on; every tag that has been published is published again."""
        for tag, rule in rules.items():
            self._states[tag].follow(rule)
        self._least_silence_s = _least_silence_s(rules)
        return self._published([tag for tag, state in self._states.items() if state.at > -math.inf], now)

    def _take(self, reading: Reading) -> bool:
        """Keeps the reading's values. Whether it is whole and equal to the whole reading before it."""
        if len(reading.values) == len(self._states):
            repeated = not self._newer and self._whole.values == reading.values
            self._whole = reading
            self._newer.clear()
            return repeated
        for tag, value in reading.values.items():
            self._newer[tag] = Change(tag, value, reading.t + reading.dt.get(tag, 0), reading.quality.get(tag))
        return False

    def _latest(self, tag: str) -> Change:
        """The tag as last read."""
        newer = self._newer.get(tag)
        if newer is not None:
            return newer
        whole = self._whole
        return Change(tag, whole.values[tag], whole.t + whole.dt.get(tag, 0), whole.quality.get(tag))

    def _turned(self, reading: Reading) -> list[str]:
        """The tags of the reading whose quality is not as published."""
        if not reading.quality and not self._bad:
            return []
        turned = [tag for tag, quality in reading.quality.items() if self._bad.get(tag) != quality]
        turned += [tag for tag in self._bad if tag in reading.values and tag not in reading.quality]
        return turned

    def _differing(self, tags: Iterable[str]) -> list[str]:
        states = self._states
        if not self._newer:
            values = self._whole.values
            return [tag for tag in tags if states[tag].differs(values[tag])]
        return [tag for tag in tags if states[tag].differs(self._latest(tag).value)]

    def _expire(self, now: float) -> list[str]:
        """The tags whose min_interval has passed since the last call; they are open from now on."""
        states, expired = self._states, list[str]()
        while self._waiting and self._waiting[0][0] <= now:
            batch = heappop(self._waiting)[2]
            expired += [tag for tag in batch if states[tag].may_follow_at <= now]
        self._open.update(dict.fromkeys(expired))
        return expired

    def _silent(self, now: float) -> list[Change]:
        if now < self._silent_at:
            return []
        told = {tag: state for tag, state in self._states.items() if state.at > -math.inf}
        changes = self._published([tag for tag, state in told.items() if state.silent_at <= now], now)
        self._silent_at = min(state.silent_at for state in told.values())
        return changes

    def _published(self, tags: list[str], now: float) -> list[Change]:
        """Marks the tags as published now."""
        if not tags:
            return []
        changes = [self._latest(tag) for tag in dict.fromkeys(tags)]
        waiting = defaultdict[float, list[str]](list)
        for change in changes:
            tag = change.tag
            state = self._states[tag]
            state.told(change.value, now)
            if change.quality is not None:
                self._bad[tag] = change.quality
            elif self._bad:
                self._bad.pop(tag, None)
            if state.min_interval_s > 0:
                self._open.pop(tag, None)
                waiting[state.min_interval_s].append(tag)
        self._silent_at = min(self._silent_at, now + self._least_silence_s)
        for min_interval_s, batch in waiting.items():
            self._passes += 1
            heappush(self._waiting, (now + min_interval_s, self._passes, batch))
            self._waits_until = max(self._waits_until, now + min_interval_s)
        return changes


def _least_silence_s(rules: Mapping[str, Rule]) -> float:
    """What no tag may be silent for longer than, of those that may be so the least."""
    return min((rule.max_silence_s for rule in rules.values()), default=math.inf)
