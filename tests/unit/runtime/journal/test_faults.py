"""What a journal is for: kills, torn writes, damaged and full disks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contracts.v1.stored import Stored, StoredEpoch
from services.runtime.journal import Journal, JournalFull, Stream, record
from services.runtime.journal.index import read_summary, read_tracks, write_index
from services.runtime.journal.ledger import LedgerFile
from services.runtime.journal.record import OVERHEAD, Track
from services.runtime.metrics import Metrics
from services.runtime.ranges import Ranges
from tests.unit.runtime.journal import journal_process
from tests.unit.runtime.journal.conftest import Open
from tests.unit.runtime.manual_clock import ManualClock

NAME = ("frame", "pump", "fast")
LENGTH = 100
RECORD = OVERHEAD + LENGTH


def fill(journal: Journal, stream: Stream, records: int) -> None:
    for _ in range(records):
        seq = stream.next_seq()
        journal.append(stream, seq, payload(seq))


def payload(seq: int) -> bytes:
    return f"{seq:{LENGTH}}".encode()


def seqs(journal: Journal, epoch: int) -> list[int]:
    found = list(journal.read(*NAME, epoch, 1, 10**9))
    assert all(data == payload(seq) for seq, data in found)
    return [seq for seq, _ in found]


def segments(folder: Path) -> list[Path]:
    return list(folder.glob("*.segment"))


def only_segment(folder: Path) -> Path:
    [path] = folder.glob("*.segment")
    return path


def start(folder: Path, behaviour: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, journal_process.__file__, str(folder), behaviour]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_process_killed_in_the_middle_of_appending_loses_nothing_it_appended(
    folder: Path, open_journal: Open
) -> None:
    for kill in range(3):
        with start(folder, "endless") as process:
            assert process.stdout
            epoch = int(process.stdout.readline())
            for line in process.stdout:
                if int(line) > 300 * kill:
                    break
            process.kill()
            said = [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        appended = said[-1] if said else int(line)

        journal = open_journal(segment_bytes=20_000)
        found = list(journal.read(*NAME, epoch, 1, 10**9))
        previous = journal.open_stream(*NAME).previous
        lost = journal.usage.lost
        journal.close()

        assert [seq for seq, _ in found[:appended]] == list(range(1, appended + 1))
        assert len(found) - appended in {0, 1}  # one may be written whose number was not said any more
        assert all(data == journal_process.payload(seq) for seq, data in found)
        assert previous == (epoch, found[-1][0])
        assert lost == {}


def test_a_full_disk_refuses_records_books_them_and_breaks_nothing(folder: Path, open_journal: Open) -> None:
    with start(folder, "full") as process:
        out, err = process.communicate(timeout=30)
    epoch, *said = out.decode().splitlines()
    assert err == b""
    assert process.returncode == -9
    numbers = [int(line) for line in said if line.isdigit()]
    refusals = [line for line in said if not line.isdigit()]
    assert len(refusals) == 2
    assert all("File too large: the journal cannot grow" in line for line in refusals)

    journal = open_journal(segment_bytes=20_000)

    first_refused = numbers[-2] + 1
    assert numbers == [*range(1, first_refused), first_refused + 2]
    assert [seq for seq, _ in journal.read(*NAME, int(epoch), 1, 99)] == numbers
    # The process was killed before the ledger was saved: what was refused is found again as missing.
    assert journal.gone(*NAME, int(epoch), 1, 99) == [(first_refused, first_refused + 1, "damaged")]


def test_a_refused_record_is_booked_as_disk_full(
    open_journal: Open, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    journal = open_journal()
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 2)
    write = os.write

    def half(fd: int, data: bytes) -> int:
        """Takes half a record, then is full: what a short write looks like."""
        if len(data) < RECORD:
            raise OSError(28, "No space left on device")
        return write(fd, data[: RECORD // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left on device: the journal cannot grow"):
            fill(journal, stream, 1)
    fill(journal, stream, 1)

    assert seqs(journal, stream.epoch) == [1, 2, 4]
    assert journal.gone(*NAME, stream.epoch, 1, 9) == [(3, 3, "disk_full")]
    assert metrics.registry.get_sample_value("dinrail_journal_errors_total", {"reason": "enospc"}) == 1
    journal = open_journal()
    assert seqs(journal, stream.epoch) == [1, 2, 4]
    assert journal.usage.lost == {"disk_full": 1}


async def test_a_stream_opened_on_a_full_disk_is_numbered_at_once_and_journalled_once_there_is_room(
    open_journal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LedgerFile, "write", full)
        stream = journal.open_stream(*NAME)
        for _ in range(2):
            with pytest.raises(JournalFull, match="epoch is not on the disk yet"):
                fill(journal, stream, 1)
    await journal.sync()
    fill(journal, stream, 2)

    assert seqs(journal, stream.epoch) == [3, 4]
    assert journal.gone(*NAME, stream.epoch, 1, 9) == [(1, 2, "disk_full")]
    again = open_journal(killed=True).open_stream(*NAME)
    assert again.previous == (stream.epoch, 4)


async def test_the_journals_clock_is_written_once_there_is_room(
    open_journal: Open, clock: ManualClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    fill(journal, journal.open_stream(*NAME), 1)
    before = (folder / "ledger.json").read_bytes()
    asked = []

    def full(*_: object, **__: object) -> None:
        asked.append(clock.monotonic())
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LedgerFile, "write", full)
        clock.advance(57)
        for _ in range(50):
            clock.advance(0.1)
            await journal.sync()
    assert 0 < len(asked) <= 4, "once it is due, at most once a second"
    assert (folder / "ledger.json").read_bytes() == before

    clock.advance(1)
    await journal.sync()
    assert json.loads((folder / "ledger.json").read_bytes())["clock_us"] >= 62_000_000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, RECORD - 1), st.binary(max_size=50))
def test_a_torn_tail_is_cut_and_no_whole_record_with_it(
    tmp_path_factory: pytest.TempPathFactory, left: int, rubbish: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    clock, metrics = ManualClock(), Metrics(CollectorRegistry())
    journal = Journal.open(folder, clock=clock, metrics=metrics)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 4)
    journal.close()
    path = only_segment(folder)
    path.with_suffix(".index").unlink()  # a killed process has not written it
    path.write_bytes(path.read_bytes()[: 3 * RECORD + left] + rubbish)

    journal = Journal.open(folder, clock=clock, metrics=metrics)
    held = seqs(journal, stream.epoch)
    again = journal.open_stream(*NAME)
    fill(journal, again, 2)

    assert held == [1, 2, 3]
    assert path.stat().st_size == 3 * RECORD
    assert seqs(journal, again.epoch) == [1, 2]
    journal.close()


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("place", [0, 4, 8, 12, 20, 31, OVERHEAD, RECORD - 1])
def test_a_damaged_record_is_skipped_and_booked_and_no_other(
    open_journal: Open, folder: Path, place: int, indexed: bool
) -> None:
    journal = open_journal()
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 5)
    journal.close()
    path = only_segment(folder)
    content = bytearray(path.read_bytes())
    content[2 * RECORD + place] ^= 0xFF
    path.write_bytes(content)
    if not indexed:
        path.with_suffix(".index").unlink()

    journal = open_journal()

    assert seqs(journal, stream.epoch) == [1, 2, 4, 5]
    assert journal.gone(*NAME, stream.epoch, 1, 9) == [(3, 3, "damaged")]
    assert seqs(journal, stream.epoch) == [1, 2, 4, 5]
    assert journal.usage.lost == {"damaged": 1}


def test_what_the_disk_did_not_give_back_of_the_last_numbers_is_booked(open_journal: Open, folder: Path) -> None:
    journal = open_journal()
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 5)
    journal.close()
    path = only_segment(folder)
    os.truncate(path, 3 * RECORD)

    journal = open_journal()

    assert journal.held(*NAME, stream.epoch) == Ranges([(1, 3)])
    assert seqs(journal, stream.epoch) == [1, 2, 3]
    assert journal.gone(*NAME, stream.epoch, 1, 9) == [(4, 5, "damaged")]
    assert journal.open_stream(*NAME).previous == (stream.epoch, 5)


def test_a_start_after_a_kill_reads_the_last_segment_alone(open_journal: Open, folder: Path) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 95)
    *closed, _ = sorted(folder.glob("*.segment"))
    for path in closed:
        path.write_bytes(bytes(path.stat().st_size))  # whoever reads it finds no record in it

    journal = open_journal(killed=True, segment_bytes=10 * RECORD)

    assert len(closed) == 9
    assert journal.held(*NAME, stream.epoch) == Ranges([(1, 95)])
    assert journal.open_stream(*NAME).previous == (stream.epoch, 95)


@pytest.mark.parametrize("content", [None, b"", b"DRX1", b"rubbish that is long enough for a head"])
def test_a_lost_index_is_made_anew(open_journal: Open, folder: Path, content: bytes | None) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 25)
    journal.close()
    for path in folder.glob("*.index"):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    journal = open_journal(segment_bytes=10 * RECORD)

    assert seqs(journal, stream.epoch) == list(range(1, 26))
    assert journal.usage.lost == {}
    assert all(read_tracks(path.with_suffix(".index")) for path in folder.glob("*.segment"))


def test_an_index_damaged_while_running_costs_a_reading_of_the_segment(open_journal: Open, folder: Path) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 25)
    for path in folder.glob("*.index"):
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    assert seqs(journal, stream.epoch) == list(range(1, 26))


def test_a_segment_that_somebody_has_removed_is_passed_over_and_booked(open_journal: Open, folder: Path) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 25)
    reading = journal.read(*NAME, stream.epoch, 1, 25)
    assert next(reading)[0] == 1

    for path in sorted(folder.glob("*.segment"))[:2]:
        path.unlink()

    assert [seq for seq, _ in reading] == [*range(2, 11), *range(21, 26)]
    assert journal.gone(*NAME, stream.epoch, 1, 99) == [(11, 20, "damaged")]


@pytest.mark.parametrize("indexed", [True, False])
def test_what_cannot_be_opened_now_is_neither_damaged_nor_given_up(
    open_journal: Open, folder: Path, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 25)
    for path in () if indexed else folder.glob("*.index"):
        path.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", _no_descriptor)
        patch.setattr(Path, "read_bytes", _no_descriptor)
        with pytest.raises(OSError, match="Too many open files"):
            seqs(journal, stream.epoch)

    assert journal.usage.lost == {}
    assert seqs(journal, stream.epoch) == list(range(1, 26))


async def test_a_sync_without_a_file_descriptor_is_counted_and_the_next_one_does_it(
    open_journal: Open, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 25)  # two segments are closed, and wait for their sync
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", _no_descriptor)
        await journal.sync()
    assert (synced, metrics.registry.get_sample_value("dinrail_journal_errors_total", {"reason": "emfile"})) == ([], 1)
    await journal.sync()

    assert len(synced) == 3


def test_without_a_file_for_the_next_segment_it_goes_on_in_the_last_one_for_a_while(
    open_journal: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 5)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", _no_descriptor)
        fill(journal, stream, 15)
        with pytest.raises(JournalFull, match="Too many open files"):
            fill(journal, stream, 1)
    fill(journal, stream, 1)

    journal = open_journal(segment_bytes=10 * RECORD)
    assert seqs(journal, stream.epoch) == [*range(1, 21), 22]
    assert journal.usage.lost == {"disk_full": 1}
    assert len(list(folder.glob("*.segment"))) == 2


async def test_a_segment_that_is_full_goes_once_it_is_stored_though_there_is_no_file_for_the_next_one(
    open_journal: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)

    fill(journal, stream, 5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", _no_descriptor)
        fill(journal, stream, 15)
        with pytest.raises(JournalFull):
            fill(journal, stream, 1)
    journal.stored("recorder", *NAME, Stored(store="s", epochs=[StoredEpoch(epoch=stream.epoch, have=[(1, 20)])]))
    await journal.sync()

    assert segments(folder) == []


def _no_descriptor(*_: object, **__: object) -> int:
    raise OSError(24, "Too many open files")


def test_a_copy_of_a_segment_that_a_person_has_put_there_is_left_alone(open_journal: Open, folder: Path) -> None:
    journal = open_journal()
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 3)
    copy = folder / "000000000001 (copy).segment"
    copy.write_bytes(only_segment(folder).read_bytes())

    journal = open_journal()

    assert seqs(journal, stream.epoch) == [1, 2, 3]
    assert copy.exists()


def test_what_was_found_damaged_is_not_held_any_more_nor_after_a_restart(open_journal: Open, folder: Path) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 25)
    first = min(folder.glob("*.segment"))
    content = bytearray(first.read_bytes())
    content[2 * RECORD] ^= 0xFF
    first.write_bytes(content)

    assert len(seqs(journal, stream.epoch)) == 24
    assert journal.held(*NAME, stream.epoch) == Ranges([(1, 2), (4, 25)])

    journal = open_journal(segment_bytes=10 * RECORD)
    assert journal.held(*NAME, stream.epoch) == Ranges([(1, 2), (4, 25)])
    assert journal.usage.lost == {"damaged": 1}


def test_an_old_epoch_whose_details_were_given_up_is_not_taken_for_damaged(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=10 * RECORD)
    old = journal.open_stream(*NAME)
    fill(journal, old, 15)
    have = StoredEpoch(epoch=old.epoch, have=[(1, 10)])
    journal.stored("recorder", *NAME, Stored(store="a", epochs=[have]))
    assert journal.gone(*NAME, old.epoch, 1, 99) == [(1, 10, "stored")]
    for _ in range(101):
        newer = journal.open_stream(*NAME)
        fill(journal, newer, 1)
        journal.append(newer, newer.next_seq() + 1, b"")
    assert journal.gone(*NAME, old.epoch, 1, 99) == []

    journal = open_journal(segment_bytes=10 * RECORD)

    assert journal.held(*NAME, old.epoch) == Ranges([(11, 15)])
    assert "damaged" not in journal.usage.lost


def test_a_whole_record_that_is_another_s_is_not_taken_for_the_one_sought(tmp_path: Path) -> None:
    path = tmp_path / "1.segment"
    path.write_bytes(record.pack((7, 8), 3, b"payload"))

    with path.open("rb") as file:
        fd = file.fileno()
        assert record.read_at(fd, 0, key=(7, 8), seq=3) == b"payload"
        assert record.read_at(fd, 0, key=(7, 8), seq=4) is None
        assert record.read_at(fd, 0, key=(7, 9), seq=3) is None


TRACKS = st.dictionaries(
    st.tuples(st.integers(1, 2**32 - 1), st.integers(1, 2**53)), st.sets(st.integers(1, 2**63), min_size=1), max_size=4
)


@given(TRACKS)
def test_an_index_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, seqs_by_key: dict[tuple[int, int], set[int]]
) -> None:
    path = tmp_path_factory.mktemp("index") / "1.index"
    tracks = {}
    for key, numbers in seqs_by_key.items():
        tracks[key] = Track()
        for offset, seq in enumerate(sorted(numbers)):
            tracks[key].add(seq, offset)

    write_index(path, tracks, size=17, oldest_us=1, newest_us=2)

    summary = read_summary(path)
    assert read_tracks(path) == tracks
    assert summary
    assert (summary.size, summary.oldest_us, summary.newest_us) == (17, 1, 2)
    assert summary.records == sum(map(len, seqs_by_key.values()))
    assert summary.runs == {key: track.runs for key, track in tracks.items()}


@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(1, 5)), max_size=12))
def test_a_scan_finds_every_whole_record_among_rubbish(parts: list[bytes | int]) -> None:
    written = 0
    content = b""
    for part in parts:
        if isinstance(part, bytes):
            content += part
        else:
            for _ in range(part):
                written += 1
                content += record.pack((7, 8), written, b"DRJ1 within the payload")

    tracks, end = record.scan(content)

    assert tracks.get((7, 8), Track()).runs == Ranges([(1, written)])
    assert end <= len(content)
