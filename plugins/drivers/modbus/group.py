"""How one group is read: its requests, compiled, and anew whenever the device has refused something."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import GroupSpec, TagSpec

from .address import Table
from .codec import Decode, bit_decoder, register_decoder, register_field
from .config import Connection, Tag
from .plan import Block, Limits, Span, plan
from .refused import Refusals, Stretch
from .request import ReadRequest, read_request

TEST_S = 60.0
"""How often a group asks again for something that was refused."""


@dataclass(frozen=True, slots=True)
class Part:
    """One request, the tags in its answer, and how they are decoded."""

    request: ReadRequest
    spans: tuple[Span, ...]
    tags: tuple[str, ...]
    decode: Decode


class GroupReads:
    """parts: what to ask for. bad: the tags that are not asked for, since the device refuses each by itself.

    refusals: of the group's unit, shared with whatever else reads from it. revision: of those that are allowed for.
    learned: whether the device has refused anything among the group's addresses.
    """

    def __init__(self, *, group: GroupSpec, connection: Connection, unit: int, refusals: Refusals) -> None:
        self.unit = unit
        self.refusals = refusals
        self.parts: tuple[Part, ...] = ()
        self.bad: dict[str, QualityStruct] = {}
        self.learned = False
        self.revision = -1
        self._tags = {tag.name: tag for tag in group.tags}
        self._spans = tuple(sorted(_span(tag, unit) for tag in group.tags))
        self._limits = Limits(
            max_registers=connection.max_registers, max_bits=connection.max_bits, max_gap=connection.max_gap
        )
        self._test_at = 0.0
        self.renew()

    def renew(self) -> None:
        """Plans anew if the refusals have changed."""
        if self.revision == self.refusals.revision:
            return
        refused = {span.tag: self.refusals.inside(span.table, span.start, span.end, sure=True) for span in self._spans}
        self.bad = {tag: QualityStruct(BAD, "device", stretch.code) for tag, stretch in refused.items() if stretch}
        blocks = plan((span for span in self._spans if not refused[span.tag]), self._limits, self._barred)
        kept = {part.spans: part for part in self.parts}
        self.parts = tuple(kept.get(block.spans) or self.part(block.spans) for block in blocks)
        self.learned = self._oldest_refusal() is not None
        self.revision = self.refusals.revision

    def test(self, now: float) -> bool:
        """Puts the oldest refusal to the test if it is time, or if nothing else is left to ask. Whether it did.

        now: monotonic seconds. The next read then contains it; refused again, it is learned again.
        """
        if not self._test_at:
            self._test_at = now + TEST_S
        if self.parts and now < self._test_at:
            return False
        self._test_at = now + TEST_S
        oldest = self._oldest_refusal()
        if oldest is None:
            return False
        self.refusals.forget(oldest)
        self.renew()
        return True

    def part(self, spans: Sequence[Span]) -> Part:
        """The one request that covers these spans, in order of start, of one table."""
        block = Block(tuple(spans))
        request = read_request(self.unit, block.table, block.start, block.count)
        return Part(request, block.spans, tuple(span.tag for span in spans), _decoder(block, self._tags))

    def _barred(self, _unit: int, table: Table, start: int, end: int) -> bool:
        return self.refusals.inside(table, start, end) is not None

    def _oldest_refusal(self) -> Stretch | None:
        for table in Table:
            of_table = [span for span in self._spans if span.table is table]
            if of_table and (found := self.refusals.oldest(table, of_table[0].start, _end(of_table))):
                return found
        return None


def _end(spans: Iterable[Span]) -> int:
    return max(span.end for span in spans)


def _decoder(block: Block, tags: dict[str, TagSpec]) -> Decode:
    places = [(span.tag, span.start - block.start) for span in block.spans]
    if block.table.of_bits:
        return bit_decoder(places)
    return register_decoder((name, place, register_field(tags[name].type, tags[name].source)) for name, place in places)


def _span(tag: TagSpec, unit: int) -> Span:
    source: Tag = tag.source
    table = source.address.table
    count = 1 if table.of_bits else register_field(tag.type, source).words
    return Span(unit=unit, table=table, start=source.address.number, count=count, tag=tag.name)
