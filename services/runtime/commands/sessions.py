"""Which clients of users have asked lately: a console that somebody has left open is refused after a while. Pure."""

from collections import OrderedDict
from collections.abc import Collection

MOST_SESSIONS = 10_000
"""Of all users. Beyond it whoever has most gives up the one that he has not used for longest."""


class Sessions:
    """A session is a topic to which a user has his answers sent: its last level is his client.

    idle_after_s: so long after its last command it is idle; 0: never. Times are monotonic seconds.
    """

    def __init__(self, *, idle_after_s: float, most: int = MOST_SESSIONS) -> None:
        self._idle_after_s = idle_after_s
        self._most = most
        self._count = 0
        self._used: dict[str, OrderedDict[str, float]] = {}  # by user: when each of his was last used

    def __len__(self) -> int:
        return self._count

    def is_idle(self, user: str, session: str, now_s: float) -> bool:
        """Else the session has been used now."""
        own = self._used.setdefault(user, OrderedDict())
        known = session in own
        last_s = own.pop(session, now_s)
        idle = 0 < self._idle_after_s < now_s - last_s
        own[session] = last_s if idle else now_s
        if not known:
            self._count += 1
            self._make_room()
        return idle

    def keep(self, users: Collection[str]) -> None:
        """There are no other users any more."""
        for gone in self._used.keys() - set(users):
            self._count -= len(self._used.pop(gone))

    def _make_room(self) -> None:
        if self._count > self._most:
            max(self._used.values(), key=len).popitem(last=False)
            self._count -= 1
