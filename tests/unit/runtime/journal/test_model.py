"""The journal against a model of it: whatever happens in whatever order, every record is held or accounted for."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from contracts.v1.stored import Stored, StoredEpoch
from services.runtime.journal import Journal, Stream
from services.runtime.metrics import Metrics
from tests.unit.runtime.manual_clock import ManualClock

STREAMS = ("fast", "slow")
SEGMENT = 600
MAX_AGE_S = 50

Records = dict[int, bytes]


class JournalMachine(RuleBasedStateMachine):
    """produced: every record appended, by stream and epoch. marked: what the recorder has said that it has."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a folder: an fsync costs nothing there, and none of this is about disks.
        memory = Path("/dev/shm")
        self.root = Path(tempfile.mkdtemp(prefix="journal", dir=memory if memory.is_dir() else None))
        self.folder = self.root / "0"
        self.clock = ManualClock()
        self.produced: dict[tuple[str, int], Records] = {}
        self.marked: dict[tuple[str, int], set[int]] = {}
        self.open: dict[str, Stream] = {}
        self.stores = 0

    @initialize(cap=st.sampled_from([2_000, 1 << 30]))
    def begin(self, cap: int) -> None:
        self.cap = cap
        self.reopen()

    def reopen(self) -> None:
        self.journal = Journal.open(
            self.folder,
            cap_bytes=self.cap,
            max_age_s=MAX_AGE_S,
            segment_bytes=SEGMENT,
            clock=self.clock,
            metrics=Metrics(CollectorRegistry()),
        )
        self.open.clear()

    @rule(name=st.sampled_from(STREAMS))
    def open_stream(self, name: str) -> None:
        stream = self.journal.open_stream("frame", "pump", name)
        written = [epoch for (known, epoch), records in self.produced.items() if known == name and records]
        before = (0, 0) if stream.previous is None else stream.previous
        if before[0] in written or not written:
            assert before[1] == max(self.produced.get((name, before[0]), ()), default=0)
        assert before[0] >= max(written, default=0)
        assert stream.epoch > before[0]
        self.produced[name, stream.epoch] = {}
        self.open[name] = stream

    @precondition(lambda self: self.open)
    @rule(data=st.data(), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=8))
    def append(self, data: st.DataObject, sizes: list[int]) -> None:
        stream = data.draw(st.sampled_from(sorted(self.open.values(), key=lambda stream: stream.name)))
        for size in sizes:
            seq = stream.next_seq()
            payload = f"{stream.name} {seq} ".encode() + bytes(size)
            self.journal.append(stream, seq, payload)
            self.produced[stream.name, stream.epoch][seq] = payload
            assert self.journal.usage.bytes <= self.cap

    @precondition(lambda self: self.produced)
    @rule(data=st.data())
    def store(self, data: st.DataObject) -> None:
        name, epoch = data.draw(st.sampled_from(sorted(self.produced)))
        records = self.produced[name, epoch]
        first = data.draw(st.integers(1, len(records) + 1))
        last = data.draw(st.integers(first, len(records) + 1))
        had = {seq for seq in records if first <= seq <= last}
        self.marked.setdefault((name, epoch), set()).update(had)
        have = [(min(had), max(had))] if had else []
        self.say(name, Stored(store=str(self.stores), epochs=[StoredEpoch(epoch=epoch, have=have)]), replaced=False)

    @rule(name=st.sampled_from(STREAMS))
    def replace_store(self, name: str) -> None:
        known = self.journal._ledger.stores
        self.stores += 1
        self.say(name, Stored(store=str(self.stores), epochs=[]), replaced=bool(known))
        self.marked.clear()

    def say(self, name: str, message: Stored, *, replaced: bool) -> None:
        assert self.journal.stored("recorder", "frame", "pump", name, message) == replaced

    @rule(seconds=st.integers(1, 40))
    def time_goes_on(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.sync()

    @rule()
    def sync(self) -> None:
        asyncio.run(self.journal.sync())

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.reopen()
        self.tell_again()

    @rule()
    def kill(self) -> None:
        # An epoch of which nothing was written may be forgotten: nobody has ever heard of it.
        self.produced = {key: records for key, records in self.produced.items() if records}
        left = self.folder.with_name(str(int(self.folder.name) + 1))
        shutil.copytree(self.folder, left)
        self.journal.close()
        self.folder = left
        self.reopen()
        self.tell_again()

    def tell_again(self) -> None:
        """What the recorder said is retained on the broker: it comes again after every start."""
        for name in STREAMS:
            epochs = [
                StoredEpoch(epoch=epoch, have=[(seq, seq) for seq in sorted(seqs)])
                for (marked, epoch), seqs in self.marked.items()
                if marked == name
            ]
            self.journal.stored("recorder", "frame", "pump", name, Stored(store=str(self.stores), epochs=epochs))

    @invariant()
    def every_record_is_held_or_accounted_for(self) -> None:
        for (name, epoch), records in self.produced.items():
            held = dict(self.journal.read("frame", "pump", name, epoch, 1, 10**9))
            gone = {
                seq: reason
                for first, last, reason in self.journal.gone("frame", "pump", name, epoch, 1, 10**9)
                for seq in range(first, last + 1)
            }
            assert held.keys() | gone.keys() == records.keys()
            assert not held.keys() & gone.keys()
            assert all(records[seq] == payload for seq, payload in held.items())
            assert {seq for seq, reason in gone.items() if reason == "stored"} <= self.marked.get((name, epoch), set())
            assert set(gone.values()) <= {"stored", "store_replaced", "cap_bytes", "cap_age"}

    @invariant()
    def what_is_lost_is_counted_once(self) -> None:
        if hasattr(self, "journal"):
            assert sum(self.journal.usage.lost.values()) == sum(
                last - first + 1
                for name, epoch in self.produced
                for first, last, reason in self.journal.gone("frame", "pump", name, epoch, 1, 10**9)
                if reason != "stored"
            )

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.root)


JournalMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_the_journal_accounts_for_every_record = JournalMachine.TestCase
