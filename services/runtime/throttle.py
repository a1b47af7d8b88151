"""How often a log says what somebody else can cause at will. Pure."""

EVERY_S = 1.0


class Throttle:
    """Lets one line pass per EVERY_S: whoever sends rubbish sends it fast. Metrics count what is not said."""

    def __init__(self) -> None:
        self._next_s = float("-inf")

    def passes(self, now_s: float) -> bool:
        """Whether to say it now. now_s: monotonic seconds."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + EVERY_S
        return True
