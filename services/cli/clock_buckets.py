"""Buckets by the clock here: on a day on which it is put forward or back, that day's are shorter or longer. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from services.cli.when import here

HOUR_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - as the clock shows it


class Stretch(NamedTuple):
    """Buckets of one length, since <= t < until, each `every` µs long; the last perhaps shorter."""

    since: int
    until: int
    every: int


def stretches(since: int, until: int, every: int) -> list[Stretch]:
    """The buckets between two times (µs) in their order; those of more than an hour begin by the clock here."""
    if every <= HOUR_US:
        return [Stretch(since, until, every)]
    found: list[Stretch] = []
    for start, end in pairwise(_starts(since, until, every)):
        if found and found[-1].every == end - start:
            found[-1] = found[-1]._replace(until=min(end, until))
        else:
            found.append(Stretch(start, min(end, until), end - start))
    return found


def begun(t: int, every: int) -> int:
    """When the bucket began that t (µs) is in, if they follow one another since 1970 by the clock here."""
    clock = here(t)
    if every <= HOUR_US:
        return t - (t + (clock.utcoffset() or timedelta()) // timedelta(microseconds=1)) % every
    shown = clock.replace(tzinfo=None)
    return _micros(shown - (shown - _EPOCH) % timedelta(microseconds=every))


def _starts(since: int, until: int, every: int) -> Iterator[int]:
    """Where each bucket begins, and where the last one would end."""
    first, step = here(since).replace(tzinfo=None, fold=0), timedelta(microseconds=every)
    last, number = since, 0
    yield last
    while last < until:
        number += 1
        start = _micros(first + number * step)
        if start > last:  # else the calendar left out a day, as Samoa's once did
            last = start
            yield last


def _micros(shown: datetime) -> int:
    """When the clock here shows that; of two such times the first."""
    return round(shown.timestamp() * 1e6)
