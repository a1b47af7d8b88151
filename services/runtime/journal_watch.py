"""How the journal is: said in /health and in the service's state, and aloud when it loses what nobody else may have."""

from collections import Counter

from plugins.api.clock import Clock
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.logs import Log

LOSS_S = 60.0
"""So long after a loss the journal is not well; a loss that goes on is said again as often."""


class JournalWatch:
    """Looks at the journal about once a second."""

    def __init__(self, *, journal: Journal, health: Health, clock: Clock, log: Log) -> None:
        self._journal = journal
        self._health = health
        self._clock = clock
        self._log = log
        self._said: Counter[str] = Counter()
        self._said_at = float("-inf")
        self._losing = ""

    def look(self) -> str | None:
        """Reports to health; gives what is not well, in words that do not change while it goes on.

        A full disk shows here alone, since the broker may take what the journal could not.
        """
        now = self._clock.monotonic()
        usage, lost = self._journal.usage, self._journal.lost
        if lost != self._said and now >= self._said_at + LOSS_S:
            self._log.error("journal_lost_records", **(lost - self._said))
            self._losing = ", ".join(sorted(lost - self._said))
            self._said, self._said_at = lost, now
        losing = now < self._said_at + LOSS_S
        detail = f"{usage.bytes / usage.cap_bytes:.0%} of its cap, {usage.records} records"
        if lost:
            detail += f"; lost since the start: {', '.join(f'{lost[why]} {why}' for why in sorted(lost))}"
        self._health.report("journal", not usage.alarm and not losing, detail)
        if losing:
            return f"the journal loses records: {self._losing}"
        return "the journal is filled to 80 % of its cap or more" if usage.alarm else None
