"""How often a user may ask: a bucket of tokens per user, filled at a steady rate. Pure."""

from collections import OrderedDict
from dataclasses import dataclass

from services.orchestrator.errors import RateLimited

MOST_USERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often a user may ask, by what it costs.

    runs: runs are started, functions called. reads: what is in memory is shown. edits: definitions are checked, saved
    and read from the disk, runs gone through again.
    """

    runs: "Allowance"
    reads: "Allowance"
    edits: "Allowance"


class Allowance:
    """rate: tokens a second and user. burst: as many may be used at once. Times are monotonic seconds."""

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # user: tokens, when there were so many

    def spend(self, user: str, now_s: float) -> None:
        """The user does one thing now. Raises RateLimited."""
        tokens, then_s = self._buckets.pop(user, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self._rate)
        spent = tokens >= 1
        self._buckets[user] = (tokens - 1 if spent else tokens, now_s)
        if len(self._buckets) > MOST_USERS:
            self._buckets.popitem(last=False)  # whoever has not asked for longest has a full bucket anyway
        if not spent:
            wait_s = round((1 - tokens) / self._rate, 3)
            raise RateLimited(f"{user} asks more than {self._rate:g} times a second", retry_after_s=wait_s)
