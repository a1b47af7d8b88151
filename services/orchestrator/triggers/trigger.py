"""What starts a run, and whether a value does. Pure; times are the caller's monotonic seconds, or as named."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import JsonValue

from contracts.v1.definition import EventFilter
from contracts.v1.event import Event
from contracts.v1.message import Value
from contracts.v1.run import RunTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """A run is wanted. by: the tag, group, event or cron line; t_us: source time of what fired it.

    values: what nodes know of it as `trigger.NAME`, beside `kind` and `t`. note: see request.RunRequest.
    """

    trigger: RunTrigger
    values: dict[str, JsonValue] = field(default_factory=dict)
    note: Callable[[], Awaitable[None]] | None = None

    @property
    def known(self) -> dict[str, JsonValue]:
        """What nodes know of it, by name."""
        return {"kind": self.trigger.kind, "t": self.trigger.t, **self.values}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    """A tag's value as its topic told it. t_us: its source time."""

    value: Value
    q: int
    t_us: int

    def as_json(self) -> dict[str, Value]:
        """The arguments that make it again."""
        return {"value": self.value, "q": self.q, "t_us": self.t_us}


class TagGate:
    """Lets a tag's changes through: beyond the deadband of what was last let through, or of another quality.

    deadband: in the tag's unit; 0 lets through every change. debounce_s: a change is let through once the value has
    stood still for so long, within the deadband; one that has gone back by then is none. last: what was let through
    last, in an earlier session; with None the first value passes.
    """

    def __init__(self, *, deadband: float, debounce_s: float, last: TagChange | None = None) -> None:
        self._deadband = deadband
        self._debounce_s = debounce_s
        self._last = last
        self._pending: TagChange | None = None
        self.due_s: float | None = None
        """When tick() is to be called; None: no change is pending."""

    def take(self, change: TagChange, *, now_s: float) -> TagChange | None:
        """A value came; gives what is let through."""
        if self._last is not None and not self._differ(change, self._last):
            self._pending = self.due_s = None
            return None
        if not self._debounce_s:
            self._last = change
            return change
        if self._pending is None or self._differ(change, self._pending):
            self._pending, self.due_s = change, now_s + self._debounce_s
        return None

    def tick(self, *, now_s: float) -> TagChange | None:
        """Time has passed; gives what has stood still for long enough."""
        if self.due_s is None or now_s < self.due_s:
            return None
        self._last, self._pending, self.due_s = self._pending, None, None
        return self._last

    def _differ(self, one: TagChange, other: TagChange) -> bool:
        before, after = _number(one.value), _number(other.value)
        if one.q != other.q or before is None or after is None or not self._deadband:
            return (one.q, one.value) != (other.q, other.value)
        return abs(before - after) > self._deadband


def lets_through(wanted: EventFilter, event: Event) -> bool:
    """Whether the filter lets the event through."""
    pairs = (
        (wanted.aggregate, event.aggregate),
        (wanted.id, event.aggregate_id),
        (wanted.type, event.type),
        (wanted.scope, event.scope),
    )
    return all(want is None or want == given for want, given in pairs)


def _number(value: Value) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
