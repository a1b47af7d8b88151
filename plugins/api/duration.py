"""Durations as people write them: 250ms, 1s, 5m, 2h. A plugin finds here what its configuration needs of them."""

from contracts.duration import Seconds, parse_duration

__all__ = ["Seconds", "parse_duration"]
