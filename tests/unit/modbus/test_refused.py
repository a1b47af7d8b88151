"""Addresses that a device refuses to read are found, avoided, and asked for again now and then."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.v1.device import ValueType
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import DeviceSpec, GroupSpec, Reading, TagSpec
from plugins.drivers.modbus.address import Address, Table
from plugins.drivers.modbus.config import Connection, Group, Tag
from plugins.drivers.modbus.device import ModbusDevice
from plugins.drivers.modbus.group import TEST_S
from plugins.drivers.modbus.plan import Limits, Span, plan
from plugins.drivers.modbus.refused import Refusals, Stretch
from plugins.drivers.modbus.request import ReadRequest, Refusal
from tests.unit.modbus.partitions import partitions

# A busy machine may take its time for one example.
UNHURRIED = settings(deadline=None)
LIMITS = Limits(max_registers=12, max_bits=20, max_gap=4)
UNIT = 1
Place = tuple[int, int]
"""start and count"""


class HandClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def now_us(self) -> int:
        return int(self.now * 1e6)

    def monotonic(self) -> float:
        return self.now


class Registers:
    """Holding registers that hold their own addresses; a read that touches an illegal one, or is too long, is refused.

    Stands for a Link. asked: every read so far, as start and count.
    """

    rested = False

    def __init__(self, illegal: set[int], *, longest: int = 125, code: int = 2) -> None:
        self.illegal = illegal
        self.longest = longest
        self.code = code
        self.asked: list[Place] = []

    def ask(self, request: ReadRequest) -> asyncio.Future[bytes]:
        return asyncio.get_running_loop().create_future()

    async def result(self, request: ReadRequest, answer: asyncio.Future[bytes]) -> bytes:
        answer.cancel()
        return await self.read(request)

    async def read(self, request: ReadRequest) -> bytes:
        self.asked.append((request.start, request.count))
        addresses = range(request.start, request.start + request.count)
        if self.illegal.intersection(addresses) or request.count > self.longest:
            raise Refusal(self.code)
        return b"".join(address.to_bytes(2, "big") for address in addresses)


class Rig:
    """A device with one group of these spans (start, count), each a tag named after them."""

    def __init__(self, spans: Sequence[Place], registers: Registers, refusals: Refusals | None = None) -> None:
        self.registers = registers
        self.clock = HandClock()
        connection = Connection(host="plc", unit_id=UNIT, max_registers=LIMITS.max_registers, max_gap=LIMITS.max_gap)
        tags = tuple(map(_tag, dict.fromkeys(spans)))
        group = GroupSpec(name="all", interval_s=1.0, tags=tags, options=Group())
        learned = refusals or Refusals()
        self._device = ModbusDevice(
            link=registers,  # type: ignore[arg-type]
            spec=DeviceSpec(name="plc", groups=(group,), connection=connection),
            refusals=lambda unit: learned,
            clock=self.clock,
        )

    async def poll(self) -> Reading:
        self.registers.asked.clear()
        return await self._device.read("all")

    def good(self, reading: Reading) -> set[str]:
        assert {tag for tag, value in reading.values.items() if value is None} == set(reading.quality)
        return set(reading.values) - set(reading.quality)


def _tag(span: tuple[int, int]) -> TagSpec:
    start, count = span
    source = Tag.model_validate({"address": Address(Table.HOLDING, start), "length": count})
    return TagSpec(name=f"{start}+{count}", type=ValueType.STRING, source=source)


def legal(spans: Sequence[Place], illegal: set[int]) -> list[Place]:
    return [span for span in dict.fromkeys(spans) if not illegal.intersection(range(span[0], span[0] + span[1]))]


def answered(spans: Sequence[Place], illegal: set[int]) -> bool:
    """Whether one request may read these spans, and is answered: told from the addresses one by one."""
    used = {address for start, count in spans for address in range(start, start + count)}
    longest = max((later - earlier - 1 for earlier, later in pairwise(sorted(used))), default=0)
    whole = range(min(used), max(used) + 1)
    return len(whole) <= LIMITS.max_registers and longest <= LIMITS.max_gap and not illegal.intersection(whole)


# Texts of two bytes a register, all of them valid UTF-8: addresses below 128.
SPANS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4)), min_size=1, max_size=6)
ILLEGAL = st.sets(st.integers(0, 45), max_size=8)


@UNHURRIED
@given(SPANS, ILLEGAL)
@example([(1, 1), (3, 1), (5, 1)], {2, 4})
def test_every_legal_tag_is_good_from_the_first_poll_on_and_no_illegal_one_ever(
    spans: list[Place], illegal: set[int]
) -> None:
    async def polls() -> None:
        rig = Rig(spans, Registers(illegal))
        for _ in range(4):
            reading = await rig.poll()
            assert rig.good(reading) == {f"{start}+{count}" for start, count in legal(spans, illegal)}
            assert set(reading.quality.values()) <= {QualityStruct(0, "device", 2)}

    asyncio.run(polls())


@UNHURRIED
@given(SPANS, ILLEGAL)
@example([(1, 1), (3, 1), (5, 1)], {2})
def test_learning_ends_and_then_no_way_to_deal_the_legal_tags_out_needs_fewer_requests(
    spans: list[Place], illegal: set[int]
) -> None:
    readable = legal(spans, illegal)
    fewest = min(
        len(partition) for partition in partitions(readable) if all(answered(group, illegal) for group in partition)
    )

    async def polls() -> None:
        rig = Rig(spans, Registers(illegal))
        for _ in range(len(spans) + 1):
            await rig.poll()
        await rig.poll()
        if readable:  # else each poll puts a refusal to the test
            assert len(rig.registers.asked) == fewest

    asyncio.run(polls())


@UNHURRIED
@given(SPANS, st.integers(4, 12))
@example([(1, 3), (2, 1), (3, 4)], 4)
def test_a_device_that_reads_less_at_once_than_it_should_is_read_all_the_same(spans: list[Place], longest: int) -> None:
    async def polls() -> None:
        rig = Rig(spans, Registers(set(), longest=longest, code=3))
        for _ in range(len(spans) + 2):
            assert rig.good(await rig.poll()) == {f"{start}+{count}" for start, count in spans}
        assert all(count <= longest for _, count in rig.registers.asked)

    asyncio.run(polls())


@UNHURRIED
@given(SPANS, st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=4))
def test_no_block_contains_a_refused_stretch_and_none_is_made_in_vain(spans: list[Place], refused: list[Place]) -> None:
    refusals = Refusals()
    for start, count in refused:
        refusals.note(Stretch(Table.HOLDING, start, start + count, 2))

    def barred(_unit: int, table: Table, start: int, end: int) -> bool:
        return refusals.inside(table, start, end) is not None

    readable = [span for span in dict.fromkeys(spans) if not refusals.inside(Table.HOLDING, span[0], span[0] + span[1])]
    fewest = min(
        len(partition)
        for partition in partitions(readable)
        if all(
            answered(group, set())
            and not barred(UNIT, Table.HOLDING, min(s for s, _ in group), max(s + c for s, c in group))
            for group in partition
        )
    )

    blocks = plan(
        (Span(unit=UNIT, table=Table.HOLDING, start=s, count=c, tag=f"{s}+{c}") for s, c in readable), LIMITS, barred
    )

    assert len(blocks) == fewest
    assert not any(barred(UNIT, Table.HOLDING, block.start, block.start + block.count) for block in blocks)


STRETCHES = st.builds(
    lambda table, start, count, sure: Stretch(table, start, start + count, 2, sure),
    st.sampled_from([Table.HOLDING, Table.INPUT]),
    st.integers(0, 20),
    st.integers(1, 6),
    st.booleans(),
)


@UNHURRIED
@given(st.lists(STRETCHES, max_size=12), STRETCHES)
def test_a_read_is_known_to_be_refused_if_it_contains_anything_that_was_noted(
    noted: list[Stretch], read: Stretch
) -> None:
    refusals = Refusals()
    for stretch in noted:
        refusals.note(stretch)

    within = [one for one in noted if one.table is read.table and read.start <= one.start and one.end <= read.end]
    assert (refusals.inside(read.table, read.start, read.end) is not None) == bool(within)
    found = refusals.inside(read.table, read.start, read.end, sure=True)
    assert (found is not None) == any(one.sure for one in within)
    assert found is None or found in within
    oldest = refusals.oldest(read.table, read.start, read.end)
    assert (oldest in within) if within else (oldest is None)


async def test_what_was_refused_is_asked_for_again_only_now_and_then() -> None:
    rig = Rig([(1, 1), (2, 1), (3, 1)], Registers({2}))
    await rig.poll()
    for _ in range(5):
        rig.clock.now += TEST_S / 10
        await rig.poll()
        assert rig.registers.asked == [(1, 1), (3, 1)]

    rig.clock.now += TEST_S
    reading = await rig.poll()

    assert any(start <= 2 < start + count for start, count in rig.registers.asked)
    assert rig.good(reading) == {"1+1", "3+1"}


async def test_a_device_that_has_been_mended_is_read_whole_again() -> None:
    registers = Registers({2, 30})
    rig = Rig([(1, 1), (2, 1), (3, 1), (29, 1), (30, 1)], registers)
    await rig.poll()
    assert rig.good(await rig.poll()) == {"1+1", "3+1", "29+1"}

    registers.illegal.clear()
    rig.clock.now += TEST_S + 1
    await rig.poll()

    assert rig.good(await rig.poll()) == {"1+1", "2+1", "3+1", "29+1", "30+1"}
    assert rig.registers.asked == [(1, 3), (29, 2)]


async def test_a_device_that_refused_everything_for_a_while_is_read_at_once_when_it_does_not() -> None:
    registers = Registers(set(range(100)))
    rig = Rig([(1, 1), (2, 1), (5, 1)], registers)
    for _ in range(3):
        assert rig.good(await rig.poll()) == set()
        assert registers.asked, "something is asked for at every poll"

    registers.illegal.clear()
    await rig.poll()

    assert rig.good(await rig.poll()) == {"1+1", "2+1", "5+1"}
    assert registers.asked == [(1, 5)]


@pytest.mark.parametrize("code", [1, 4, 6])
async def test_a_refusal_for_another_reason_teaches_nothing(code: int) -> None:
    registers = Registers({2}, code=code)
    rig = Rig([(1, 1), (2, 1)], registers)

    reading = await rig.poll()
    registers.illegal.clear()

    assert set(reading.quality.values()) == {QualityStruct(0, "device", code)}
    assert rig.good(await rig.poll()) == {"1+1", "2+1"}


async def test_what_one_group_has_learned_another_of_its_unit_knows() -> None:
    refusals = Refusals()
    first = Rig([(1, 1), (3, 1), (5, 1)], Registers({2, 5}), refusals)
    for _ in range(2):
        await first.poll()
    other = Rig([(1, 1), (3, 1), (5, 1)], Registers({2, 5}), refusals)

    reading = await other.poll()

    assert other.registers.asked == [(1, 1), (3, 1)]
    assert other.good(reading) == {"1+1", "3+1"}


@pytest.mark.parametrize(("illegal", "good"), [({2}, {"4+1"}), (set(), {"2+2", "4+1"})])
async def test_a_tag_over_a_gap_that_is_to_blame_is_asked_for_by_itself(illegal: set[int], good: set[str]) -> None:
    refusals = Refusals()
    await Rig([(1, 1), (3, 1)], Registers({2}), refusals).poll()

    other = Rig([(2, 2), (4, 1)], Registers(illegal), refusals)

    assert other.good(await other.poll()) == good


async def test_a_long_search_is_spread_over_several_polls() -> None:
    illegal = set(range(2, 120, 2))
    registers = Registers(illegal)
    rig = Rig([(address, 1) for address in range(1, 120)], registers)
    asks = []
    for _ in range(20):
        await rig.poll()
        asks.append(len(registers.asked))

    assert max(asks) <= 50 + asks[-1]
    assert asks[-1] == 60, "one request for each odd address"
