"""Which tags are to be brought to their fail-safe value, and when. Pure; times are the caller's monotonic seconds.

A write arms its tag: if the user then writes nothing for `after` seconds, or its service dies, the value is due. It
stays due, tried again after growing waits, until it has been written or somebody writes to the tag.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

Place = tuple[str, str]
"""Device and tag."""


@dataclass(slots=True)
class Armed:
    """A tag that somebody writes to. due_at: when its value is to be written; why: for the ledger.

    taken: its value is being written.
    """

    user: str
    after_s: float
    due_at: float
    why: str = "silence"
    wait_s: float = FIRST_RETRY_S
    taken: bool = False


class FailSafes:
    """The armed tags of all devices."""

    def __init__(self) -> None:
        self._armed: dict[Place, Armed] = {}

    @property
    def users(self) -> Mapping[Place, str]:
        """Who wrote last to each armed tag."""
        return {place: armed.user for place, armed in self._armed.items()}

    @property
    def next_due(self) -> float:
        """When take_due() will have something to give."""
        return min((armed.due_at for armed in self._armed.values() if not armed.taken), default=math.inf)

    def arm(self, place: Place, *, user: str, after_s: float, now: float) -> bool:
        """The user writes to the tag now. Whether that changes who wrote last to which tag."""
        before = self._armed.get(place)
        self._armed[place] = Armed(user, after_s, now + after_s)
        return before is None or before.user != user

    def disarm(self, place: Place) -> None:
        """The fail-safe value has been written, or is no longer asked for."""
        self._armed.pop(place, None)

    def gone(self, user: str, now: float) -> None:
        """The service that writes under this name is dead."""
        for armed in self._armed.values():
            if armed.user == user and armed.due_at > now:
                armed.due_at = now
                armed.why = "offline"

    def take_due(self, now: float) -> Iterator[tuple[Place, Armed]]:
        """What is to be written now, each given once. It then is to be settled or put off."""
        for place, armed in list(self._armed.items()):
            if armed.due_at <= now and not armed.taken:
                armed.taken = True
                yield place, armed

    def give_back(self) -> None:
        """Nothing is being written any more: what was taken is due again."""
        for armed in self._armed.values():
            armed.taken = False

    def stands(self, place: Place, armed: Armed) -> bool:
        """Whether nobody has written to the tag since."""
        return self._armed.get(place) is armed

    def put_off(self, place: Place, armed: Armed, now: float) -> None:
        """It could not be written; unless somebody has written to the tag meanwhile, it is tried again later."""
        if self.stands(place, armed):
            self.wait(armed, now + armed.wait_s)
            armed.wait_s = min(2 * armed.wait_s, LONGEST_RETRY_S)

    def wait(self, armed: Armed, until: float) -> None:
        """It has not been tried, and is due again then."""
        armed.due_at = until
        armed.taken = False

    def settle(self, place: Place, armed: Armed) -> None:
        """It has been written; unless somebody has written to the tag meanwhile, that is all."""
        if self.stands(place, armed):
            self.disarm(place)
