"""A clock that stands still until a test moves it."""

START_US = 1_800_000_000_000_000


class ManualClock:
    """Wall time and monotonic time, moved together by advance() or the wall alone by set_wall()."""

    def __init__(self) -> None:
        self.wall_us = START_US
        self.steady_s = 1000.0

    def now_us(self) -> int:
        return self.wall_us

    def monotonic(self) -> float:
        return self.steady_s

    def advance(self, seconds: float) -> None:
        self.wall_us += int(seconds * 1e6)
        self.steady_s += seconds

    def set_wall(self, now_us: int) -> None:
        self.wall_us = now_us
