"""When what runs by the clock is due. Pure; times are microseconds since 1970 UTC.

Due times are a property of the schedule alone, never of the run before: an interval's lie on the grid of whole
intervals since 1970, a cron expression's are those of its zone's clock. So nothing drifts, and after a restart the same
times are due.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, Literal, Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

K = TypeVar("K", bound=Hashable)

Missed = Literal["skip", "once"]
"""What becomes of due times at which nothing could run: nothing, or one run for the last of them."""

LATE_US = 2_000_000
"""A due time that is found so late is a missed one: the service was away or the clock was set."""

_SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_US = 60 * _SECOND_US
_FIXED_BACK_US = 3 * 3600 * _SECOND_US
_FIELDS = 5


class ScheduleError(ValueError):
    """The expression or the zone is wrong. Its text reads `what is wrong; what would be right`."""


class Schedule(Protocol):
    """back_us: a clock that goes back by more than this begins anew; by less, what has been due is not due again."""

    @property
    def back_us(self) -> int:
        """See the class."""
        ...

    def after(self, t_us: int) -> int | None:
        """The first due time after this one; None if there is none."""
        ...

    def last(self, after_us: int, until_us: int) -> int | None:
        """The last due time in (after, until]; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many microseconds, at the whole multiples since 1970: every 5 minutes is due at :00, :05, :10."""

    every_us: int

    @classmethod
    def of(cls, seconds: float) -> "Interval":
        """Raises ScheduleError below a millisecond."""
        every_us = round(seconds * _SECOND_US)
        if every_us < 1000:
            raise ScheduleError(f"every {seconds:g} s is too often; write at least 1ms")
        return cls(every_us)

    @property
    def back_us(self) -> int:
        """One interval."""
        return self.every_us

    def after(self, t_us: int) -> int:
        """See Schedule."""
        return (t_us // self.every_us + 1) * self.every_us

    def last(self, after_us: int, until_us: int) -> int | None:
        """See Schedule."""
        due = until_us // self.every_us * self.every_us
        return due if due > after_us else None


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields (minute, hour, day of month, month, day of week) in a zone's time, as Debian's cron reads them.

    When the zone's clock is set forward, what was due in the hour that is left out is due at its end; when it is set
    back, what is due at a fixed time is due once, in the first of the two hours. An expression whose minute or hour
    begins with `*` follows the hours as they really pass: it is due in both.
    """

    expression: str
    zone: ZoneInfo

    @classmethod
    def of(cls, expression: str, zone: str = "UTC") -> "Cron":
        """zone: a name of the IANA time zone database. Raises ScheduleError."""
        if len(expression.split()) != _FIELDS:
            mend = 'write five fields, such as "*/5 * * * *" (minute hour day month weekday)'
            raise ScheduleError(f"{expression!r} is no cron expression; {mend}")
        try:
            cron = cls(expression, ZoneInfo(zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ScheduleError(f"no time zone {zone!r}; write one such as Europe/Berlin or UTC") from None
        try:
            never = cron.after(0) is None
        except CronSimError as error:
            raise ScheduleError(f"{expression!r}: {error}; write such as */5, 1-5 or 0,30 in that field") from None
        if never:
            raise ScheduleError(f"{expression!r} is never due; there is no such day")
        return cron

    @property
    def back_us(self) -> int:
        """As in Debian's cron (cron(8)): three hours, so far clocks are set by hand or by daylight saving; of an
        expression that follows the hours as they really pass, a minute."""
        follows = any(field.startswith("*") for field in self.expression.split()[:2])
        return _MINUTE_US if follows else _FIXED_BACK_US

    def after(self, t_us: int) -> int | None:
        """See Schedule."""
        return next(self._following(t_us), None)

    def last(self, after_us: int, until_us: int) -> int | None:
        """See Schedule.

        Looks back further and further, so that a year away does not cost a year of minutes.
        """
        for days in (0.1, 2, 70, 800, 20_000):
            begin = max(after_us, until_us - round(days * 86400 * _SECOND_US))
            found = None
            for due in self._following(begin):
                if due > until_us:
                    break
                found = due
            if found is not None or begin == after_us:
                return found
        return None

    def _following(self, t_us: int) -> Iterator[int]:
        zone = UTC if self.zone.key == "UTC" else self.zone
        for due in CronSim(self.expression, (_EPOCH + timedelta(microseconds=t_us)).astimezone(zone)):
            due_us = (due.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
            # Times that a change of the zone's clock left out fall together at its end.
            if due_us > t_us:
                t_us = due_us
                yield due_us


@dataclass(frozen=True, slots=True)
class Due(Generic[K]):
    """It is time. due_us: for when; late: the time itself was missed, and this stands for all that were.

    skipped: nothing is to run for it.
    """

    key: K
    due_us: int
    late: bool
    skipped: bool = False


@dataclass(slots=True)
class _Entry:
    schedule: Schedule
    missed: Missed
    last_us: int
    next_us: int | None


class Timetable(Generic[K]):
    """Which of many schedules are due. Never gives a due time twice, nor two for one schedule at once."""

    def __init__(self) -> None:
        self._entries: dict[K, _Entry] = {}

    def add(self, key: K, schedule: Schedule, *, missed: Missed, last_us: int) -> None:
        """last_us: up to when due times are done with; what has been due since then and is late goes by `missed`."""
        self._entries[key] = _Entry(schedule, missed, last_us, schedule.after(last_us))

    def remove(self, key: K) -> None:
        """It is not due any more. Without effect on a key that is not there."""
        self._entries.pop(key, None)

    @property
    def next_us(self) -> int | None:
        """When the next one is due; None if none ever is."""
        return min((entry.next_us for entry in self._entries.values() if entry.next_us is not None), default=None)

    def take(self, now_us: int) -> list[Due[K]]:
        """What is to be done now, the earliest first."""
        found = [due for key, entry in self._entries.items() if (due := _take(key, entry, now_us)) is not None]
        return sorted(found, key=lambda due: due.due_us)


def _take(key: K, entry: _Entry, now_us: int) -> Due[K] | None:
    if now_us < entry.last_us - entry.schedule.back_us:  # the clock was set back for good
        entry.last_us = now_us
        entry.next_us = entry.schedule.after(now_us)
    if entry.next_us is None or entry.next_us > now_us:
        return None
    due_us = entry.schedule.last(entry.last_us, now_us) or entry.next_us
    entry.last_us = due_us
    entry.next_us = entry.schedule.after(due_us)
    late = now_us - due_us > LATE_US
    return Due(key, due_us, late, skipped=late and entry.missed == "skip")
