"""What the last requests tell of the units on a line, and of the line itself. Pure; times are those of the loop."""

import math

MOST_UNANSWERED = 12
"""Requests in a row, and more than one read with all its retries makes, until a connection that brings nothing at all
is taken for dead."""

_DOUBTED_S = 60.0
"""For how long a unit that has missed a request is not relied upon, though it answers again."""
_FADING = 0.95
"""Of how long the slowest answer took, with every quicker one."""


class Liveness:
    """Which units are away, and whether anything comes at all."""

    def __init__(self) -> None:
        self._away_since: dict[int, float] = {}
        self._answering: set[int] = set()
        self._missed_at: dict[int, float] = {}
        self._usual_s: dict[int, float] = {}
        self._heard_at = -math.inf
        self._unanswered = 0

    @property
    def dead(self) -> bool:
        """Whether the line is better opened anew: nothing has come for long, and no unit is known to answer on it.

        A unit that answered its last request keeps the line, however rarely it is asked and however often another is.
        """
        return self._unanswered >= MOST_UNANSWERED and not self._answering

    def heard(self, now: float) -> None:
        """Something has come, whatever it is."""
        self._heard_at = now
        self._unanswered = 0

    def answered(self, unit: int) -> None:
        """The unit has answered."""
        self._answering.add(unit)
        self._away_since.pop(unit, None)

    def took(self, unit: int, seconds: float) -> None:
        """How long it took the unit to answer a request rightly."""
        self._usual_s[unit] = max(seconds, _FADING * self._usual_s.get(unit, 0.0))

    def usual_s(self, unit: int) -> float | None:
        """How long the unit's answers have taken lately, at most; those of all others, if it has given none."""
        usual_s = self._usual_s.get(unit)
        return usual_s if usual_s is not None else max(self._usual_s.values(), default=None)

    def missed(self, unit: int, *, now: float) -> None:
        """The unit has not answered, or a gateway says that it does not reach it."""
        self._answering.discard(unit)
        self._away_since.setdefault(unit, now)
        self._missed_at[unit] = now

    def expired(self, unit: int, *, sent_at: float, now: float) -> bool:
        """A request has had no answer in its time. Whether the unit was away already when it was sent."""
        if self._heard_at <= sent_at:
            self._unanswered += 1
        self.missed(unit, now=now)
        return self._away_since[unit] <= sent_at

    def away(self, unit: int) -> bool:
        """Whether the unit has missed its last request."""
        return unit in self._away_since

    def doubted(self, unit: int, now: float) -> bool:
        """Whether the unit has missed its last request, or another one lately."""
        return self.away(unit) or now < self._missed_at.get(unit, -math.inf) + _DOUBTED_S
