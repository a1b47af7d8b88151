"""Results of pure functions, kept for who asks the same again. Pure."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class Result:
    """What a function gave, and how many seconds that took."""

    outputs: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Kept:
    result: Result
    size: int
    at_s: float


def key_of(function: str, build: str, inputs: Mapping[str, Any]) -> bytes:
    """The same for equal inputs of one version of a function, in whatever order they come.

    Raises OverflowError, TypeError on inputs that cannot travel.
    """
    return hashlib.sha256(_ENCODER.encode((function, build, inputs))).digest()


class Cache:
    """Least recently used results go first, beyond `most` of them or most_bytes of their outputs as JSON; each goes
    after ttl_s. Times are monotonic seconds.
    """

    def __init__(self, *, most: int, most_bytes: int, ttl_s: float) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._ttl_s = ttl_s
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes, *, now_s: float, most_age_s: float | None = None) -> Result | None:
        """The result, if it is not older than most_age_s."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        age_s = now_s - kept.at_s
        if age_s > self._ttl_s:
            self._drop(key)
            return None
        if most_age_s is not None and age_s > most_age_s:
            return None
        self._kept.move_to_end(key)
        return kept.result

    def put(self, key: bytes, result: Result, *, now_s: float) -> None:
        """Keeps the result; one that is longer than all may be together is not kept."""
        size = len(_ENCODER.encode(result.outputs))
        if key in self._kept:
            self._drop(key)
        if not self._most or size > self._most_bytes:
            return
        self._kept[key] = _Kept(result, size, now_s)
        self._bytes += size
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forgets all."""
        self._kept.clear()
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """What the outputs take together, as JSON."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self, key: bytes) -> None:
        self._bytes -= self._kept.pop(key).size
