"""Whose request goes next on a line that takes one at a time. Pure; times are the caller's seconds.

A unit that has missed its last request is away. Requests to the others go first, in the order of asking. One to a unit
that is away goes when no other waits, or has waited for long itself; it holds the line for a moment only if others
wait; and what they have waited for it is counted: together, units that are away cost them a tenth of the time at most.
"""

from collections.abc import Callable, Container
from typing import Generic, Protocol, TypeVar

SHARE = 0.1
"""Of the time, that others may spend waiting for units that are away."""
SHORTEST_HOLD_S = 0.02
LONGEST_HOLD_S = 0.1
"""How long others wait, if they do, for one request to a unit that is away."""
AHEAD_AFTER_S = 1.0
"""A request to a unit that is away, and has waited for so long, goes ahead: other units may fill the line."""
LONGEST_WAIT_S = 5.0
"""A request to a unit that is away, and has had no turn for so long, is not worth asking any more."""


class Waiting(Protocol):
    """A request that waits for its turn."""

    @property
    def unit(self) -> int:
        """Who is asked."""
        ...

    @property
    def asked_at(self) -> float:
        """Since when it waits."""
        ...

    @property
    def over(self) -> bool:
        """Whether nobody wants it any more."""
        ...


W = TypeVar("W", bound=Waiting)


def hold_s(usual_s: float | None, *, away: bool) -> float:
    """How long a unit that is away, or has been lately, may hold the line if others wait.

    usual_s: how long its answers take; None: unknown.
    """
    if usual_s is None:
        return LONGEST_HOLD_S
    hold = max(SHORTEST_HOLD_S, 2 * usual_s)
    return min(LONGEST_HOLD_S, hold) if away else hold


class Turns(Generic[W]):
    """The requests that wait, in the order of asking. away: whether a unit has missed its last request."""

    def __init__(self, *, away: Callable[[int], bool]) -> None:
        self._away = away
        self._waiting: list[W] = []
        self._away_from = 0.0

    def put(self, request: W) -> None:
        """It waits from now on."""
        self._waiting.append(request)

    def put_first(self, request: W) -> None:
        """It waits again, ahead of all others: its turn had begun already."""
        self._waiting.insert(0, request)

    def take(self, now: float, *, engaged: Container[int]) -> W | None:
        """The request whose turn it is. engaged: units that are asked nothing, since they still owe an answer."""
        request = self.first(now, engaged=engaged)
        if request is not None:
            self._waiting.remove(request)
        return request

    def first(self, now: float, *, engaged: Container[int]) -> W | None:
        """What take() would give."""
        self._waiting = [request for request in self._waiting if not request.over]
        ready = [request for request in self._waiting if request.unit not in engaged]
        living = next((request for request in ready if not self._away(request.unit)), None)
        away = next((request for request in ready if self._away(request.unit)), None)
        if away is None or now < self._away_from:
            return living
        return away if living is None or now - away.asked_at >= AHEAD_AFTER_S else living

    @property
    def again_at(self) -> float:
        """If nothing goes though something waits: when it may, if only its unit is not engaged."""
        return self._away_from

    def charge(self, since: float, now: float) -> None:
        """A unit that is away has held the line so long; for as long as others have waited, that is on its account."""
        waited_since = min((request.asked_at for request in self._waiting if self._costs(request)), default=now)
        self._away_from = now + (now - max(since, waited_since)) * (1 / SHARE - 1)

    def clear(self) -> list[W]:
        """All that wait; they do so no more."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _costs(self, request: W) -> bool:
        return not request.over and not self._away(request.unit)

    def __bool__(self) -> bool:
        return bool(self._waiting)
