import asyncio
import json
import os
from pathlib import Path

import pytest

from contracts.v1.stored import Stored, StoredEpoch
from services.runtime.journal import Journal, JournalBroken, Stream
from services.runtime.journal.ledger import Ledger, LedgerFile
from services.runtime.metrics import Metrics
from services.runtime.ranges import Ranges
from tests.conftest import Eventually
from tests.unit.runtime.journal.conftest import Open
from tests.unit.runtime.manual_clock import ManualClock

NAME = ("frame", "pump", "fast")
SEGMENT = 1000
DAY_S = 86_400
YEAR_US = 365 * 86_400_000_000
PER_SEGMENT = 5
"""Records of 200 bytes payload that fit into a segment of SEGMENT bytes, the last one going over its end."""


def fill(journal: Journal, stream: Stream, records: int) -> None:
    for _ in range(records):
        seq = stream.next_seq()
        journal.append(stream, seq, payload(seq))


def payload(seq: int) -> bytes:
    return f"{seq:200}".encode()


def stored(epoch: int, *have: tuple[int, int], store: str = "db-1", lost: int = 0) -> Stored:
    losses = [(lost, lost, "never came")] if lost else []
    return Stored(store=store, epochs=[StoredEpoch(epoch=epoch, have=list(have), lost=losses)])


def seqs(journal: Journal, epoch: int) -> list[int]:
    found = list(journal.read(*NAME, epoch, 1, 10**9))
    assert all(data == payload(seq) for seq, data in found)
    return [seq for seq, _ in found]


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.segment"))


def test_what_is_appended_is_read_back_in_order(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 12)

    assert seqs(journal, stream.epoch) == list(range(1, 13))
    assert [seq for seq, _ in journal.read(*NAME, stream.epoch, 4, 7)] == [4, 5, 6, 7]
    assert journal.held(*NAME, stream.epoch) == Ranges([(1, 12)])


def test_streams_are_kept_apart(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    one, other = journal.open_stream(*NAME), journal.open_stream("event", "pump", "fast")
    for number in range(1, 9):
        journal.append(one, number, b"frame %d" % number)
        journal.append(other, number, b"event %d" % number)

    assert [data for _, data in journal.read("event", "pump", "fast", other.epoch, 7, 9)] == [b"event 7", b"event 8"]
    assert [data for _, data in journal.read(*NAME, one.epoch, 7, 9)] == [b"frame 7", b"frame 8"]


def test_what_was_never_there_reads_as_nothing(open_journal: Open) -> None:
    journal = open_journal()
    stream = journal.open_stream(*NAME)

    assert list(journal.read("frame", "nobody", "x", 1, 1, 9)) == []
    assert list(journal.read(*NAME, stream.epoch, 1, 9)) == []
    assert not journal.held("frame", "nobody", "x", 1)
    assert journal.epochs("frame", "nobody", "x") == []
    assert journal.gone("frame", "nobody", "x", 1, 1, 9) == []


@pytest.mark.parametrize("killed", [False, True])
def test_a_new_start_knows_the_epoch_before_and_its_last_number(open_journal: Open, killed: bool) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    first = journal.open_stream(*NAME)
    fill(journal, first, 7)

    journal = open_journal(killed=killed, segment_bytes=SEGMENT)
    second = journal.open_stream(*NAME)

    assert first.previous is None
    assert second.previous == (first.epoch, 7)
    assert second.epoch > first.epoch
    assert seqs(journal, first.epoch) == list(range(1, 8))


def test_an_epoch_without_records_is_remembered_too(open_journal: Open) -> None:
    first = open_journal().open_stream(*NAME)

    second = open_journal().open_stream(*NAME)

    assert second.previous == (first.epoch, 0)


def test_an_epoch_is_on_the_disk_before_its_first_record(open_journal: Open, clock: ManualClock) -> None:
    journal = open_journal()
    first = journal.open_stream(*NAME)
    fill(journal, first, 1)
    clock.set_wall(clock.now_us() - 10**12)

    second = open_journal(killed=True).open_stream(*NAME)

    assert second.previous == (first.epoch, 1)
    assert second.epoch == first.epoch + 1


def test_epochs_begun_together_are_one_write_of_the_ledger(folder: Path, open_journal: Open) -> None:
    journal = open_journal()
    streams = [journal.open_stream("frame", "pump", f"group {number}") for number in range(50)]
    assert not (folder / "ledger.json").exists()

    fill(journal, streams[0], 1)
    written = (folder / "ledger.json").stat().st_mtime_ns
    for stream in streams[1:]:
        fill(journal, stream, 1)

    assert (folder / "ledger.json").stat().st_mtime_ns == written


def test_epochs_grow_though_the_wall_clock_is_set_back(open_journal: Open, clock: ManualClock) -> None:
    first = open_journal().open_stream(*NAME)
    clock.set_wall(clock.now_us() - 10**12)

    second = open_journal().open_stream(*NAME)

    assert second.epoch == first.epoch + 1


def test_a_stream_opened_anew_voids_the_one_before(open_journal: Open) -> None:
    journal = open_journal()
    old = journal.open_stream(*NAME)
    fill(journal, old, 3)
    new = journal.open_stream(*NAME)

    with pytest.raises(ValueError, match="cannot append"):
        fill(journal, old, 1)
    assert new.previous == (old.epoch, 3)
    assert new.next_seq() == 1


def test_a_stream_opened_anew_has_ended_the_epoch_before(open_journal: Open) -> None:
    journal = open_journal()
    old = journal.open_stream(*NAME)
    journal.append(old, old.next_seq(), b"x")
    assert list(journal.unstored(ended=True)) == []

    journal.open_stream(*NAME)

    assert list(journal.unstored(ended=True)) == [(NAME, old.epoch, Ranges([(1, 1)]))]


def test_a_number_is_used_once(open_journal: Open) -> None:
    journal = open_journal()
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 2)

    with pytest.raises(ValueError, match="frame/pump/fast: cannot append 1 bytes"):
        journal.append(stream, 2, b"x")


def test_a_number_that_was_left_out_is_booked_as_skipped(open_journal: Open, metrics: Metrics) -> None:
    journal = open_journal()
    stream = journal.open_stream(*NAME)
    journal.append(stream, 1, payload(1))
    journal.append(stream, 4, payload(4))
    journal.close()

    assert journal.gone(*NAME, stream.epoch, 1, 9) == [(2, 3, "skipped")]
    assert metrics.registry.get_sample_value("dinrail_journal_lost_records_total", {"reason": "skipped"}) == 2


async def test_segments_go_once_the_recorder_has_all_their_records(open_journal: Open, folder: Path) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 3 * PER_SEGMENT + 1)
    assert len(segments(folder)) == 4

    journal.stored("recorder", *NAME, stored(stream.epoch, (1, 2 * PER_SEGMENT - 1)))
    await journal.sync()
    assert seqs(journal, stream.epoch) == list(range(PER_SEGMENT + 1, 3 * PER_SEGMENT + 2))
    assert len(segments(folder)) == 3

    journal.stored("recorder", *NAME, stored(stream.epoch, (1, 2 * PER_SEGMENT)))
    await journal.sync()
    assert len(segments(folder)) == 2
    assert journal.gone(*NAME, stream.epoch, 1, 99) == [(1, 2 * PER_SEGMENT, "stored")]
    assert journal.usage.lost == {}


def test_what_the_recorder_knows_to_be_lost_holds_no_segment(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)

    journal.stored("recorder", *NAME, stored(stream.epoch, (1, 2), (4, PER_SEGMENT), lost=3))

    assert seqs(journal, stream.epoch) == [PER_SEGMENT + 1]


def test_what_the_recorder_gave_up_since_another_owner_did_not_know_it_is_still_to_be_stored(
    open_journal: Open,
) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 2 * PER_SEGMENT)
    journal = open_journal(segment_bytes=SEGMENT)
    gone = [(2, 3, "unknown"), (4, 4, "contract")]
    said = StoredEpoch(epoch=stream.epoch, have=[(1, 1), (5, PER_SEGMENT)], lost=gone)

    journal.stored("recorder", *NAME, Stored(store="db-1", epochs=[said]))

    assert list(journal.unstored(ended=True)) == [
        (NAME, stream.epoch, Ranges([(2, 3), (PER_SEGMENT + 1, 2 * PER_SEGMENT)]))
    ]
    assert seqs(journal, stream.epoch) == list(range(1, 2 * PER_SEGMENT + 1))


def test_a_segment_stays_while_one_of_its_streams_is_not_stored(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    one, other = journal.open_stream(*NAME), journal.open_stream("frame", "oven", "slow")
    fill(journal, other, 1)
    fill(journal, one, PER_SEGMENT)

    journal.stored("recorder", *NAME, stored(one.epoch, (1, PER_SEGMENT)))
    assert seqs(journal, one.epoch) == list(range(1, PER_SEGMENT + 1))
    journal.stored("recorder", "frame", "oven", "slow", stored(other.epoch, (1, 1)))

    assert seqs(journal, one.epoch) == [PER_SEGMENT]


def test_every_required_recorder_must_have_it_and_no_other_counts(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT, required_recorders=("one", "two"))
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)
    everything = stored(stream.epoch, (1, PER_SEGMENT))

    journal.stored("one", *NAME, everything)
    journal.stored("stranger", *NAME, everything)
    assert len(seqs(journal, stream.epoch)) == PER_SEGMENT + 1

    journal.stored("two", *NAME, everything)
    assert seqs(journal, stream.epoch) == [PER_SEGMENT + 1]


def test_marks_that_come_before_the_segment_is_full_count_when_it_is(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT)
    journal.stored("recorder", *NAME, stored(stream.epoch, (1, PER_SEGMENT)))

    fill(journal, stream, 1)

    assert seqs(journal, stream.epoch) == [PER_SEGMENT + 1]


@pytest.mark.parametrize("killed", [False, True])
async def test_a_recorder_with_a_new_database_has_lost_what_was_removed(
    open_journal: Open, killed: bool, metrics: Metrics
) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 2 * PER_SEGMENT + 1)
    assert not journal.stored("recorder", *NAME, stored(stream.epoch, (1, PER_SEGMENT)))
    await journal.sync()
    journal = open_journal(killed=killed, segment_bytes=SEGMENT)

    assert journal.stored("recorder", *NAME, stored(stream.epoch, store="db-2"))

    assert journal.gone(*NAME, stream.epoch, 1, 99) == [(1, PER_SEGMENT, "store_replaced")]
    assert journal.usage.lost == {"store_replaced": PER_SEGMENT}
    assert seqs(journal, stream.epoch) == list(range(PER_SEGMENT + 1, 2 * PER_SEGMENT + 2))
    assert not journal.stored("recorder", *NAME, stored(stream.epoch, store="db-2"))
    await journal.sync()
    lost = metrics.registry.get_sample_value("dinrail_journal_lost_records_total", {"reason": "store_replaced"})
    assert lost == PER_SEGMENT


def test_marks_of_a_replaced_database_are_forgotten(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)
    journal.stored("recorder", *NAME, stored(stream.epoch, (1, PER_SEGMENT - 1)))

    journal.stored("recorder", *NAME, stored(stream.epoch, (PER_SEGMENT, PER_SEGMENT), store="db-2"))

    assert len(seqs(journal, stream.epoch)) == PER_SEGMENT + 1


def test_a_segment_stays_while_a_new_database_lacks_what_the_old_one_had(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    one, other = journal.open_stream(*NAME), journal.open_stream("frame", "oven", "slow")
    fill(journal, other, 1)
    fill(journal, one, PER_SEGMENT)
    journal.stored("recorder", *NAME, stored(one.epoch, (1, PER_SEGMENT)))

    journal.stored("recorder", "frame", "oven", "slow", stored(other.epoch, (1, 1), store="db-2"))

    assert seqs(journal, one.epoch) == list(range(1, PER_SEGMENT + 1))


async def test_over_its_cap_the_oldest_segment_goes_first_and_is_booked(open_journal: Open, folder: Path) -> None:
    cap = 8 * SEGMENT
    journal = open_journal(cap_bytes=cap, segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    alarms = []
    for _ in range(60):
        fill(journal, stream, 1)
        assert journal.usage.bytes <= cap
        alarms.append((journal.usage.bytes >= 0.8 * cap, journal.usage.alarm))
    await journal.sync()

    held = seqs(journal, stream.epoch)
    lost = held[0] - 1
    assert held == list(range(lost + 1, 61))
    assert lost % PER_SEGMENT == 0
    assert journal.gone(*NAME, stream.epoch, 1, 99) == [(1, lost, "cap_bytes")]
    assert journal.usage.lost == {"cap_bytes": lost}
    assert {(True, True), (False, False)} == set(alarms)
    assert len(segments(folder)) <= 8


def test_what_the_cap_drops_after_it_was_stored_is_not_lost(open_journal: Open) -> None:
    journal = open_journal(cap_bytes=4 * SEGMENT, segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 3)
    journal.stored("recorder", *NAME, stored(stream.epoch, (1, 2)))

    fill(journal, stream, 40)

    first_held = seqs(journal, stream.epoch)[0]
    assert journal.gone(*NAME, stream.epoch, 1, 99) == [(1, 2, "stored"), (3, first_held - 1, "cap_bytes")]


async def test_what_is_too_old_is_dropped_and_booked(open_journal: Open, clock: ManualClock) -> None:
    journal = open_journal(segment_bytes=SEGMENT, max_age_s=100)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)
    clock.advance(60)
    fill(journal, stream, 1)

    clock.advance(60)
    await journal.sync()
    assert seqs(journal, stream.epoch) == [PER_SEGMENT + 1, PER_SEGMENT + 2]
    clock.advance(60)
    await journal.sync()

    assert seqs(journal, stream.epoch) == []
    assert journal.gone(*NAME, stream.epoch, 1, 99) == [(1, PER_SEGMENT + 2, "cap_age")]


async def test_setting_the_wall_clock_makes_nothing_old(open_journal: Open, clock: ManualClock) -> None:
    limits = {"segment_bytes": SEGMENT, "max_age_s": 100}
    clock.set_wall(3_000_000)  # three seconds after 1970: a box without a battery for its clock
    journal = open_journal(**limits)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)

    clock.set_wall(1_800_000_000_000_000)
    await journal.sync()
    assert len(seqs(journal, stream.epoch)) == PER_SEGMENT + 1
    journal = open_journal(**limits)
    await journal.sync()

    assert len(seqs(journal, stream.epoch)) == PER_SEGMENT + 1


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
async def test_a_wall_clock_far_ahead_at_a_start_makes_nothing_old(
    open_journal: Open, clock: ManualClock, *, killed: bool
) -> None:
    limits = {"segment_bytes": SEGMENT, "max_age_s": 100}
    stream = (journal := open_journal(**limits)).open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)
    await journal.sync()
    today = clock.now_us()

    for year in (2099, 2026, 2099, 2099):
        clock.set_wall(today + (year - 2026) * YEAR_US)
        journal = open_journal(killed=killed, **limits)
        fill(journal, journal.open_stream(*NAME), PER_SEGMENT + 1)
        await journal.sync()
        clock.advance(10)
    assert len(seqs(journal, stream.epoch)) == PER_SEGMENT + 1

    clock.advance(101)
    await journal.sync()
    assert seqs(journal, stream.epoch) == []
    assert journal.gone(*NAME, stream.epoch, 1, 99) == [(1, PER_SEGMENT + 1, "cap_age")]


async def test_an_age_goes_on_over_a_restart(open_journal: Open, clock: ManualClock) -> None:
    stream = (journal := open_journal(max_age_s=100)).open_stream(*NAME)
    fill(journal, stream, 1)
    clock.advance(60)
    journal = open_journal(max_age_s=100)

    clock.advance(60)
    await journal.sync()

    assert journal.gone(*NAME, stream.epoch, 1, 9) == [(1, 1, "cap_age")]


async def test_an_age_goes_on_though_each_day_ends_in_a_power_cut(open_journal: Open, clock: ManualClock) -> None:
    limits = {"max_age_s": 7 * DAY_S}
    epochs = []

    for _ in range(20):
        journal = open_journal(killed=bool(epochs), **limits)
        stream = journal.open_stream(*NAME)
        epochs.append(stream.epoch)
        for _ in range(10):
            fill(journal, stream, 1)
            clock.advance(3600)
            await journal.sync()

    # 7 days are nearly 17 lives; the age of what a life has left begins at its end.
    assert [len(seqs(journal, epoch)) for epoch in epochs] == [0] * 3 + [10] * 17
    assert journal.gone(*NAME, epochs[0], 1, 99) == [(1, 10, "cap_age")]


async def test_its_clock_costs_a_write_a_minute_at_most(
    open_journal: Open, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    fill(journal, journal.open_stream(*NAME), 1)
    await journal.sync()
    versions = []
    write = LedgerFile.write

    def spy(file: LedgerFile, data: bytes, *, version: int) -> None:
        versions.append(version)
        write(file, data, version=version)

    monkeypatch.setattr(LedgerFile, "write", spy)
    for _ in range(100):
        clock.advance(6)
        await journal.sync()

    assert versions == sorted(set(versions))
    assert len(versions) == 10


async def test_a_sync_brings_segments_and_their_removal_to_the_disk(
    open_journal: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)
    synced = []
    fdatasync = os.fdatasync

    def spy(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", spy)

    await journal.sync()
    assert synced == segments(folder)
    await journal.sync()
    assert synced == segments(folder)
    journal.stored("recorder", *NAME, stored(stream.epoch, (1, PER_SEGMENT)))
    await journal.sync()
    journal.close()

    assert json.loads((folder / "ledger.json").read_bytes())["doomed"] == []


async def test_its_part_syncs_and_clears_the_disk(
    open_journal: Open, folder: Path, metrics: Metrics, eventually: Eventually
) -> None:
    journal = open_journal(segment_bytes=SEGMENT)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, PER_SEGMENT + 1)
    running = asyncio.create_task(journal.run())

    journal.stored("recorder", *NAME, stored(stream.epoch, (1, PER_SEGMENT)))
    await eventually(lambda: len(segments(folder)) == 1)
    await eventually(lambda: metrics.registry.get_sample_value("dinrail_journal_records") == 1)
    await journal.stop()
    await asyncio.wait_for(running, 30)

    assert (metrics.registry.get_sample_value("dinrail_journal_sync_seconds_count") or 0) >= 1
    with pytest.raises(ValueError, match="cannot append"):
        fill(journal, stream, 1)


def test_two_processes_cannot_have_one_journal(open_journal: Open, folder: Path, metrics: Metrics) -> None:
    open_journal()

    with pytest.raises(JournalBroken, match="another process has this journal open"):
        Journal.open(folder, clock=ManualClock(), metrics=metrics)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"version": 2}', b'{"version": 1}', b"\xff"])
def test_an_unreadable_ledger_is_named_with_the_mend(folder: Path, metrics: Metrics, content: bytes) -> None:
    folder.mkdir()
    (folder / "ledger.json").write_bytes(content)

    for _ in range(2):  # and the folder is not left locked
        with pytest.raises(JournalBroken, match=r"ledger\.json: cannot be read .* move the folder away"):
            Journal.open(folder, clock=ManualClock(), metrics=metrics)


def test_segments_without_a_ledger_are_not_taken_for_a_new_journal(open_journal: Open, folder: Path) -> None:
    journal = open_journal()
    fill(journal, journal.open_stream(*NAME), 1)
    journal.close()
    (folder / "ledger.json").unlink()

    with pytest.raises(JournalBroken, match="is missing; move the folder away"):
        open_journal()


def test_an_older_ledger_is_never_written_over_a_newer(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "ledger.json")

    file.write(b"newer", version=2)
    file.write(b"older", version=1)

    assert file.path.read_bytes() == b"newer"


def test_the_ledger_survives_its_own_writing(tmp_path: Path) -> None:
    ledger = Ledger()
    entry = ledger.entry(NAME)
    ledger.begin_epoch(entry, epoch=17)
    ledger.book((entry.number, 17), 1, 5, "stored")
    ledger.book((entry.number, 17), 4, 9, "cap_bytes")
    ledger.check_store("recorder", "db-1")
    ledger.doom(3)
    path = tmp_path / "ledger.json"
    path.write_bytes(ledger.dump())

    again = Ledger.load(path)

    assert json.loads(again.dump()) == json.loads(ledger.dump())
    assert again.lost == {"cap_bytes": 4}


def test_the_details_of_the_gone_are_bounded_and_their_counts_are_not() -> None:
    ledger = Ledger()
    for epoch in range(1, 301):
        ledger.book((1, epoch), 1, 1, "cap_age")
    for seq in range(1, 4001, 2):
        ledger.book((2, 1), seq, seq, "disk_full")

    assert len([key for key in ledger.gone if key[0] == 1]) == 100
    assert len(ledger.gone[2, 1]["disk_full"]) == 1000
    assert ledger.lost == {"cap_age": 300, "disk_full": 2000}
