"""Blocks that read the tags of a group."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.drivers.modbus.address import Table
from plugins.drivers.modbus.plan import Limits, Span, plan
from tests.unit.modbus.partitions import partitions

# A busy machine may take its time for one example.
UNHURRIED = settings(deadline=None)
SMALL = Limits(max_registers=10, max_bits=20, max_gap=3)


def span(start: int, count: int = 1, *, unit: int = 1, table: Table = Table.HOLDING, tag: str = "") -> Span:
    return Span(unit=unit, table=table, start=start, count=count, tag=tag or f"{unit}-{table}-{start}-{count}")


REGISTERS = st.builds(span, st.integers(0, 40), st.integers(1, 6))
ANYWHERE = st.builds(span, st.integers(0, 60), st.integers(1, 6), unit=st.integers(0, 2), table=st.sampled_from(Table))


def fits(spans: Sequence[Span], limits: Limits) -> bool:
    """Whether one request may read these spans: told from the addresses one by one, not as plan() does it."""
    used = {address for one in spans for address in range(one.start, one.end)}
    gaps = [later - earlier - 1 for earlier, later in pairwise(sorted(used))]
    longest = max(gaps, default=0)
    return max(used) - min(used) + 1 <= limits.max_registers and longest <= limits.max_gap


@UNHURRIED
@given(st.lists(REGISTERS, min_size=1, max_size=6))
@example([span(0, 6), span(1), span(9)])
def test_no_way_to_deal_the_tags_out_needs_fewer_requests(spans: list[Span]) -> None:
    fewest = min(len(partition) for partition in partitions(spans) if all(fits(group, SMALL) for group in partition))

    assert len(plan(spans, SMALL)) == fewest


@UNHURRIED
@given(st.lists(ANYWHERE, max_size=30))
def test_every_tag_is_in_exactly_one_block_of_its_unit_and_table_and_wholly(spans: list[Span]) -> None:
    blocks = plan(spans, SMALL)

    assert sorted(one for block in blocks for one in block.spans) == sorted(spans)
    for block in blocks:
        for one in block.spans:
            assert (one.unit, one.table) == (block.unit, block.table)
            assert block.start <= one.start
            assert one.end <= block.start + block.count


@UNHURRIED
@given(st.lists(ANYWHERE, max_size=30))
def test_no_block_is_longer_than_its_table_allows(spans: list[Span]) -> None:
    for block in plan(spans, SMALL):
        assert block.count <= (SMALL.max_bits if block.table.of_bits else SMALL.max_registers)


def test_registers_between_tags_are_read_along_up_to_the_gap() -> None:
    assert len(plan([span(0), span(4)], SMALL)) == 1
    assert len(plan([span(0), span(5)], SMALL)) == 2


def test_a_gap_of_0_reads_nothing_that_was_not_asked_for() -> None:
    limits = Limits(max_registers=125, max_bits=2000, max_gap=0)

    assert len(plan([span(0, 2), span(2, 2)], limits)) == 1
    assert len(plan([span(0, 2), span(3, 2)], limits)) == 2


def test_bits_are_read_along_up_to_sixteen_times_the_gap() -> None:
    limits = Limits(max_registers=10, max_bits=2000, max_gap=3)

    assert len(plan([span(0, table=Table.COIL), span(49, table=Table.COIL)], limits)) == 1
    assert len(plan([span(0, table=Table.COIL), span(50, table=Table.COIL)], limits)) == 2


def test_500_float32_take_nine_requests_since_no_value_is_split() -> None:
    limits = Limits(max_registers=125, max_bits=2000, max_gap=50)

    blocks = plan([span(2 * index, 2) for index in range(500)], limits)

    assert [block.count for block in blocks] == [124] * 8 + [8]


def test_a_value_longer_than_a_request_is_refused() -> None:
    with pytest.raises(ValueError, match="11 long, one request at most 10"):
        plan([span(0, 11)], SMALL)


def test_no_tags_need_no_request() -> None:
    assert plan([], SMALL) == ()
