"""The motion of a servo axis: a trapezoid of velocity, computed exactly for any time. Pure.

The axis accelerates at its limit, travels at its highest speed where the way is long enough, and brakes at the same
limit, so that it arrives standing still. A motion is a few pieces of constant acceleration, each known in closed form:
how often anybody looks changes nothing.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple


class Motion(NamedTuple):
    """Where the axis is (mm), how fast (mm/s), and how its speed changes (mm/s²)."""

    position: float
    velocity: float
    acceleration: float


@dataclass(frozen=True, slots=True)
class Piece:
    """Constant acceleration over a time in seconds."""

    seconds: float
    acceleration: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A motion from a place and speed, in pieces, that ends standing still at `target`."""

    start: float
    speed: float
    target: float
    pieces: tuple[Piece, ...]

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return sum(piece.seconds for piece in self.pieces)

    def at(self, elapsed_s: float) -> Motion:
        """The motion this long after its beginning; at its end the axis stands exactly at the target."""
        if elapsed_s >= self.seconds:
            return Motion(self.target, 0.0, 0.0)
        position, speed, left = self.start, self.speed, max(elapsed_s, 0.0)
        for piece in self.pieces:
            within = min(left, piece.seconds)
            position += speed * within + piece.acceleration * within * within / 2
            speed += piece.acceleration * within
            left -= within
            if left <= 0:
                return Motion(position, speed, piece.acceleration)
        return Motion(self.target, 0.0, 0.0)


def braking(position: float, speed: float, *, acceleration: float) -> Profile:
    """Stands as soon as the limit allows."""
    seconds = abs(speed) / acceleration
    target = position + speed * seconds / 2
    return Profile(position, speed, target, (Piece(seconds, -math.copysign(acceleration, speed)),))


def travel(position: float, speed: float, target: float, *, velocity: float, acceleration: float) -> Profile:
    """From a place and a speed to a standstill at the target, within the limits.

    A speed that leads past the target, or that is above `velocity`, is first braked; the way is then taken from there.
    """
    stop = braking(position, speed, acceleration=acceleration)
    ahead = math.copysign(1.0, target - stop.target) if target != stop.target else 0.0
    if ahead == 0.0 or speed * ahead < 0 or abs(speed) > velocity:
        first, way, begin = stop.pieces, abs(target - stop.target), 0.0
    else:
        first, way, begin = (), abs(target - position), abs(speed)
    onward = _onward(way, begin, velocity, acceleration)
    pieces = (*first, *(Piece(piece.seconds, piece.acceleration * ahead) for piece in onward))
    return Profile(position, speed, target, tuple(piece for piece in pieces if piece.seconds > 0))


def _onward(way: float, speed: float, velocity: float, acceleration: float) -> list[Piece]:
    """Speeding up, travelling and braking, for a way ahead that is long enough to brake in."""
    peak = min(velocity, math.sqrt(acceleration * way + speed * speed / 2))
    rising, falling = (peak - speed) / acceleration, peak / acceleration
    covered = (speed + peak) / 2 * rising + peak / 2 * falling
    cruising = max(0.0, (way - covered) / peak) if peak else 0.0
    return [Piece(max(0.0, rising), acceleration), Piece(cruising, 0.0), Piece(falling, -acceleration)]


class Axis:
    """An axis with its limits. Every call says what time it is, in seconds; time never runs backwards."""

    def __init__(self, *, lowest: float, highest: float, velocity: float, acceleration: float) -> None:
        self.lowest = lowest
        self.highest = highest
        self._velocity = velocity
        self._acceleration = acceleration
        self._profile = Profile(lowest if lowest > 0 else 0.0, 0.0, 0.0, ())
        self._since = 0.0
        self.homed = False

    @property
    def target(self) -> float:
        """Where the axis is going, or stands."""
        return self._profile.target

    def motion(self, now_s: float) -> Motion:
        """Where the axis is now."""
        return self._profile.at(now_s - self._since)

    def remaining_s(self, now_s: float) -> float:
        """Seconds until it stands; 0 while it does."""
        return max(0.0, self._profile.seconds - (now_s - self._since))

    def move_to(self, target: float, now_s: float, *, velocity: float | None = None) -> None:
        """Sets out for the target. Raises ValueError outside the axis's range."""
        if not self.lowest <= target <= self.highest:
            raise ValueError(f"{target:g} mm is outside {self.lowest:g} to {self.highest:g} mm")
        position, speed, _ = self.motion(now_s)
        limit = min(velocity or self._velocity, self._velocity)
        self._profile = travel(position, speed, target, velocity=limit, acceleration=self._acceleration)
        self._since = now_s

    def stop(self, now_s: float) -> None:
        """Brakes at once."""
        position, speed, _ = self.motion(now_s)
        self._profile = braking(position, speed, acceleration=self._acceleration)
        self._since = now_s
