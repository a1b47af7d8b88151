"""Which requests read a group: the fewest that cover every tag. Pure.

Tags of one table and one unit share a request where the unused stretch between them is not too long and the whole is
no longer than the device allows. A value is never split between two requests: half of it could be older than the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from .address import Table
from .refused import NOTHING_REFUSED, Barred

BITS_PER_REGISTER = 16


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """Where one tag lies: `count` registers (or bits) of a unit's table from `start` on."""

    unit: int
    table: Table
    start: int
    count: int
    tag: str

    @property
    def end(self) -> int:
        """The address after the last one."""
        return self.start + self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may be: most registers, most bits, and most unused registers in a row (times 16 for bits)."""

    max_registers: int
    max_bits: int
    max_gap: int

    def most(self, table: Table) -> int:
        """Longest request of this table."""
        return self.max_bits if table.of_bits else self.max_registers

    def gap(self, table: Table) -> int:
        """Longest unused stretch that is read along in this table."""
        return self.max_gap * BITS_PER_REGISTER if table.of_bits else self.max_gap


@dataclass(frozen=True, slots=True)
class Block:
    """One request: everything from the first span's start to the furthest end. spans: in order of start, not empty."""

    spans: tuple[Span, ...]

    @property
    def unit(self) -> int:
        """The unit that is asked."""
        return self.spans[0].unit

    @property
    def table(self) -> Table:
        """The table that is read."""
        return self.spans[0].table

    @property
    def start(self) -> int:
        """The first address."""
        return self.spans[0].start

    @property
    def count(self) -> int:
        """How many registers or bits."""
        return max(span.end for span in self.spans) - self.start


def plan(spans: Iterable[Span], limits: Limits, barred: Barred = NOTHING_REFUSED) -> tuple[Block, ...]:
    """The fewest blocks that cover the spans within the limits, in order of unit, table and address.

    barred: tells where a request would be refused; a span that would be by itself is still given, as its own block.
    Taking spans in order of their start and closing a block only when the next does not fit is optimal here: whatever
    fits no more needs a later block anyway, and that block reaches at least as far if it starts later.
    Raises ValueError if a span alone is longer than a request may be.
    """
    blocks: list[Block] = []
    for (unit, table), members in groupby(sorted(spans), key=lambda span: (span.unit, span.table)):
        most, gap = limits.most(table), limits.gap(table)
        open_block: list[Span] = []
        end = 0
        for span in members:
            if span.count > most:
                raise ValueError(f"{span.tag} is {span.count} long, one request at most {most}")
            reach = max(end, span.end)
            if open_block and (
                span.start > end + gap
                or reach > open_block[0].start + most
                or barred(unit, table, open_block[0].start, reach)
            ):
                blocks.append(Block(tuple(open_block)))
                open_block = []
            end = max(end, span.end) if open_block else span.end
            open_block.append(span)
        blocks.append(Block(tuple(open_block)))
    return tuple(blocks)
