"""How often a user may ask: a bucket of tokens per user, filled at a steady rate. Pure."""

from collections import OrderedDict

MOST_USERS = 10_000


class Allowance:
    """rate: tokens a second and user. burst: as many may be used at once. Times are monotonic seconds."""

    def __init__(self, *, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # user: tokens, when there were so many

    def spend(self, user: str, now_s: float) -> float:
        """The user does one thing now. Gives 0, or in how many seconds he may: then nothing was spent."""
        tokens, then_s = self._buckets.pop(user, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self.rate)
        spent = tokens >= 1
        self._buckets[user] = (tokens - 1 if spent else tokens, now_s)
        if len(self._buckets) > MOST_USERS:
            self._buckets.popitem(last=False)  # whoever has not asked for longest has a full bucket anyway
        return 0.0 if spent else max(round((1 - tokens) / self.rate, 3), 0.001)
