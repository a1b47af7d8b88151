"""Which states of runs are due to be shown, and which are to be taken down. Pure; times are monotonic seconds."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from contracts.v1.run import RUN_EXPIRY_S

K = TypeVar("K", bound=Hashable)

LINGER_S = 0.05
"""How long a run that has begun is not shown: most are over by then, and are shown once."""
EVERY_S = 0.25
"""Between two states of one run; with its end, which is shown at once, that is five in a second."""
REFRESH_S = RUN_EXPIRY_S / 3
MOST = 1000


@dataclass(slots=True)
class _Shown:
    active: bool
    shown_s: float | None = None
    due_s: float | None = None


class Showings(Generic[K]):
    """What is shown, in the order of the last change. most: of all; active ones stay beyond it."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._all: OrderedDict[K, _Shown] = OrderedDict()
        self._due: dict[K, _Shown] = {}

    def __len__(self) -> int:
        return len(self._all)

    def change(self, key: K, now_s: float, *, active: bool) -> bool:
        """It has changed. True if it is to be shown now: it is over; otherwise it falls due later."""
        shown = self._all.get(key)
        if shown is None:
            shown = self._all[key] = _Shown(active)
        else:
            self._all.move_to_end(key)
        shown.active = active
        if not active:
            shown.shown_s, shown.due_s = now_s, None
            self._due.pop(key, None)
            return True
        if shown.due_s is None:
            shown.due_s = now_s + LINGER_S if shown.shown_s is None else max(now_s, shown.shown_s + EVERY_S)
            self._due[key] = shown
        return False

    def due(self, now_s: float) -> list[K]:
        """Those to be shown now."""
        found = [key for key, shown in self._due.items() if shown.due_s is not None and shown.due_s <= now_s]
        for key in found:
            shown = self._due.pop(key)
            shown.shown_s, shown.due_s = now_s, None
        return found

    def stale(self, now_s: float) -> list[K]:
        """Active ones that the broker would forget unless they are shown again now."""
        found = [key for key, shown in self._all.items() if shown.active and _is_older(shown, now_s, REFRESH_S)]
        for key in found:
            self._all[key].shown_s = now_s
        return found

    def next_due_s(self) -> float | None:
        """When something falls due; None if nothing does."""
        return min((shown.due_s for shown in self._due.values() if shown.due_s is not None), default=None)

    def surplus(self) -> Iterator[K]:
        """Those beyond the cap, least recently changed first, never an active one; they are forgotten here."""
        while len(self._all) > self._most:
            key = next((key for key, shown in self._all.items() if not shown.active), None)
            if key is None:
                return
            del self._all[key]
            yield key

    def expired(self, now_s: float) -> list[K]:
        """Those that are over and that the broker has forgotten; they are forgotten here."""
        found = [key for key, shown in self._all.items() if not shown.active and _is_older(shown, now_s, RUN_EXPIRY_S)]
        for key in found:
            del self._all[key]
        return found


def _is_older(shown: _Shown, now_s: float, age_s: float) -> bool:
    return shown.shown_s is not None and now_s - shown.shown_s >= age_s
