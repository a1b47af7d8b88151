"""Every way to deal things out: what a planner is held against."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def partitions(things: Sequence[T]) -> Iterator[list[list[T]]]:
    """Every way to deal the things out to groups."""
    if not things:
        yield []
        return
    first, rest = things[0], things[1:]
    for partition in partitions(rest):
        yield [[first], *partition]
        for index, group in enumerate(partition):
            yield [*partition[:index], [first, *group], *partition[index + 1 :]]
