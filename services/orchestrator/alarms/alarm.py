"""How an alarm goes from state to state, after the alarm states of ISA-18.2, 5.3 (IEC 62682). Pure.

    normal ──raise──▶ active_unacked ──ack──▶ active_acked ──clear──▶ normal
                        │        ▲                ▲
                      clear    raise              └ stays acknowledged until it clears
                        ▼        │
                      cleared_unacked ──ack──▶ normal

It is raised once its condition has held for the on-delay, and cleared when the clear condition holds; between the two
limits it stays as it is. A shelved alarm goes through the same states; it only troubles nobody. Times are milliseconds
since 1970 UTC.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from contracts.v1.alarm import AlarmStatus


class Signal(Enum):
    """What an evaluation of the conditions says. HOLD: neither, or the value cannot be judged."""

    RAISE = "raise"
    CLEAR = "clear"
    HOLD = "hold"


class AlarmRefused(Exception):
    """The alarm is not in a state in which this can be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """An alarm now. since: of the status. pending: since when its condition has held without a pause, not yet raised.

    due: when the on-delay of what is pending is over.
    """

    status: AlarmStatus = AlarmStatus.NORMAL
    since: int
    pending: int | None = None
    due: int | None = None
    acked_by: str | None = None
    acked_at: int | None = None
    shelved_until: int | None = None
    shelved_by: str | None = None

    @property
    def active(self) -> bool:
        """Whether it is raised."""
        return self.status in {AlarmStatus.ACTIVE_UNACKED, AlarmStatus.ACTIVE_ACKED}

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to tell of it, nor to remember."""
        return self.status is AlarmStatus.NORMAL and self.shelved_until is None and self.pending is None

    @property
    def next_ms(self) -> int | None:
        """When it changes by itself; None if it does not."""
        return min((t for t in (self.due, self.shelved_until) if t is not None), default=None)


Step: TypeAlias = tuple[Condition, tuple[str, ...]]
"""The condition that follows, and what has happened: raised, cleared, acked, shelved, unshelved."""


def report(now: Condition, signal: Signal, *, t: int, delay_ms: int) -> Step:
    """The conditions were evaluated at this time. delay_ms: so long must it hold before the alarm is raised."""
    now, happened = tick(now, t=t)
    if signal is not Signal.RAISE:
        now = replace(now, pending=None, due=None)
    if signal is Signal.RAISE and not now.active:
        pending = t if now.pending is None else min(t, now.pending)  # the clock may have been set back
        now, raised = tick(replace(now, pending=pending, due=pending + delay_ms), t=t)
        return now, happened + raised
    if signal is Signal.CLEAR and now.active:
        status = AlarmStatus.NORMAL if now.status is AlarmStatus.ACTIVE_ACKED else AlarmStatus.CLEARED_UNACKED
        return _turned(now, status, t), (*happened, "cleared")
    return now, happened


def tick(now: Condition, *, t: int) -> Step:
    """Time has passed: the on-delay or the shelving may be over."""
    happened: tuple[str, ...] = ()
    if now.due is not None and t >= now.due:
        now = replace(_turned(now, AlarmStatus.ACTIVE_UNACKED, t), pending=None, due=None)
        happened += ("raised",)
    if now.shelved_until is not None and t >= now.shelved_until:
        now = replace(now, shelved_until=None, shelved_by=None)
        happened += ("unshelved",)
    return now, happened


def acknowledge(now: Condition, *, t: int, by: str) -> Step:
    """Somebody has seen it. Raises AlarmRefused."""
    if now.status is AlarmStatus.ACTIVE_UNACKED:
        status = AlarmStatus.ACTIVE_ACKED
    elif now.status is AlarmStatus.CLEARED_UNACKED:
        status = AlarmStatus.NORMAL
    else:
        raise AlarmRefused(f"nothing to acknowledge: it is {now.status.value}")
    return replace(_turned(now, status, t), acked_by=by, acked_at=t), ("acked",)


def shelve(now: Condition, *, t: int, by: str, until: int) -> Step:
    """Nobody is to be troubled by it before this time; takes the place of an earlier shelving. Raises AlarmRefused."""
    if until <= t:
        raise AlarmRefused("the end of the shelving has gone by")
    return replace(now, shelved_until=until, shelved_by=by), ("shelved",)


def unshelve(now: Condition) -> Step:
    """It counts again. Raises AlarmRefused."""
    if now.shelved_until is None:
        raise AlarmRefused("it is not shelved")
    return replace(now, shelved_until=None, shelved_by=None), ("unshelved",)


def _turned(now: Condition, status: AlarmStatus, t: int) -> Condition:
    """Whoever acknowledged it is told until it is raised anew."""
    if status is AlarmStatus.ACTIVE_UNACKED:
        return replace(now, status=status, since=t, acked_by=None, acked_at=None)
    return replace(now, status=status, since=t)
