"""When a group is polled, and how often it really was. Pure; times are the caller's monotonic seconds."""

import math
from collections import deque

_WINDOW_S = 5.0


class Schedule:
    """Due times that never drift: start + n * interval. A poll that is not done in time costs slots, and never queues.

    interval_s: 0 polls again as soon as a poll is done. due: when the next poll is.
    """

    def __init__(self, interval_s: float, *, start: float) -> None:
        self.due = start
        self._interval_s = interval_s
        self._start = start
        self._slot = 0

    def done(self, now: float) -> int:
        """The poll that was due is done. How many slots went by meanwhile without a poll: overruns."""
        if not self._interval_s:
            self.due = now
            return 0
        return self._advance(math.floor((now - self._start) / self._interval_s))

    def postpone(self, until: float) -> None:
        """The next poll is in the first slot that is not before this time. No overrun: it was wanted so."""
        if not self._interval_s:
            self.due = until
            return
        self._advance(math.ceil((until - self._start) / self._interval_s))

    def hasten(self, now: float) -> None:
        """There is a poll now, ahead of the one that is due, whose slot stays."""
        if self.due > now:
            self._slot -= 1
            self.due = now

    def resume(self, now: float) -> None:
        """The next poll is in the first slot that is not before now: a wait that postpone() made is over."""
        if not self._interval_s:
            self.due = min(self.due, now)
            return
        slot = math.ceil((now - self._start) / self._interval_s)
        self._slot = min(self._slot, slot)
        self.due = self._start + self._slot * self._interval_s

    def _advance(self, slot: int) -> int:
        following = self._slot + 1
        self._slot = max(following, slot)
        self.due = self._start + self._slot * self._interval_s
        return self._slot - following


class Rate:
    """How many polls per second there were over the last seconds."""

    def __init__(self, *, start: float) -> None:
        self.count = 0
        self._marks: deque[tuple[float, int]] = deque([(start, 0)])

    def per_second(self, now: float) -> float:
        """Polls per second since the oldest mark, which is about 5 s old; call it about once a second."""
        while len(self._marks) > 1 and self._marks[1][0] <= now - _WINDOW_S:
            self._marks.popleft()
        since, before = self._marks[0]
        self._marks.append((now, self.count))
        return (self.count - before) / (now - since) if now > since else 0.0
