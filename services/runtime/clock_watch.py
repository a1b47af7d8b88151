"""Whether the machine's clock can be trusted: steps of it are told, and a time before 2024 is nobody's."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from plugins.api.clock import Clock
from services.runtime.health import Health
from services.runtime.logs import Log
from services.runtime.metrics import Metrics

EARLIEST_US = 1_704_067_200_000_000
"""2024-01-01 UTC. A machine without a battery for its clock begins in 1970; no site is older than this."""
STEP_S = 1.0
"""The clock has stepped if it is by more than this off from where its steady pace would have brought it."""
QUIET_S = 10.0
"""Steps are told this often at most; those in between add up to one."""
_BLINK_S = 0.1

Tell = Callable[[dict[str, Any]], None]


def unset(now_us: int) -> str | None:
    """What is wrong with a clock that says this, for a person; None if it can be right."""
    if now_us >= EARLIEST_US:
        return None
    return f"the clock says {_text(now_us)}, before 2024: set it; values count as bad until then"


class ClockWatch:
    """Compares the wall clock with the steady one about once a second.

    A slow pull towards the right time (NTP slews by 0.5 ms a second) is no step, nor is the time for which the process
    stood still: both clocks have gone on. What the machine slept may be, since the steady one slept too.
    """

    def __init__(self, *, clock: Clock, health: Health, metrics: Metrics, log: Log, tell: Tell) -> None:
        """tell: is given the data of an event `clock.stepped`."""
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._offset_us = clock.now_us() - int(clock.monotonic() * 1e6)
        self._told_at = float("-inf")
        self._untold_us = 0
        self._steps = 0

    def look(self) -> None:
        """Tells what has happened since the last look."""
        before = self._clock.monotonic()
        now_us = self._clock.now_us()
        steady = self._clock.monotonic()
        if steady - before > _BLINK_S:
            return  # interrupted between the two: the difference would be that, not a step
        problem = unset(now_us)
        self._health.report("clock", problem is None, problem or "")
        by_us = now_us - int(steady * 1e6) - self._offset_us
        self._offset_us += by_us
        if abs(by_us) > STEP_S * 1e6:
            self._untold_us += by_us
            self._steps += 1
            self._metrics.clock_steps.inc()
            self._metrics.clock_step_seconds.set(by_us / 1e6)
        if self._steps and steady >= self._told_at + QUIET_S:
            self._told_at = steady
            self._say(now_us)

    def _say(self, now_us: int) -> None:
        data = {
            "from": now_us - self._untold_us,
            "to": now_us,
            "by_s": round(self._untold_us / 1e6, 3),
            "steps": self._steps,
        }
        self._untold_us, self._steps = 0, 0
        self._log.warning("clock_stepped", **data)
        self._tell(data)


def _text(now_us: int) -> str:
    return f"{datetime.fromtimestamp(now_us / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
