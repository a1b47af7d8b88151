"""Functions that kill their workers again and again, and so take them from all others, are refused. Pure."""

from collections import defaultdict, deque

MOST_DEATHS = 3
WITHIN_S = 600.0


class Quarantine:
    """Counts the workers that a version of a function has killed: by a crash, or since its own time limit was over.

    MOST_DEATHS of them within WITHIN_S, and this version is refused from then on; another version is another function.
    """

    def __init__(self) -> None:
        self._deaths: defaultdict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=MOST_DEATHS))
        self._refused: dict[tuple[str, str], str] = {}

    def death(self, function: str, build: str, *, why: str, now_s: float) -> bool:
        """It has killed a worker. True if that was once too often."""
        deaths = self._deaths[function, build]
        deaths.append(now_s)
        if (function, build) in self._refused or len(deaths) < MOST_DEATHS or now_s - deaths[0] > WITHIN_S:
            return False
        self._refused[function, build] = (
            f"{function} has killed {MOST_DEATHS} workers within {WITHIN_S:g} s, the last so: {why}; it is refused "
            "until its plugin is changed or reloaded"
        )
        return True

    def refusal(self, function: str, build: str) -> str | None:
        """Why this version is refused; None if it is not."""
        return self._refused.get((function, build))

    def keep_only(self, builds: set[str]) -> None:
        """Versions with other builds are gone."""
        self._deaths = defaultdict(
            self._deaths.default_factory, {key: deaths for key, deaths in self._deaths.items() if key[1] in builds}
        )
        self._refused = {key: why for key, why in self._refused.items() if key[1] in builds}
