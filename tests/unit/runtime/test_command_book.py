"""The book of commands: what it has taken in is known again by whoever opens it next, and never for too much."""

import asyncio
import errno
import os
import shutil
import threading
from contextlib import closing
from uuid import uuid4

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from services.runtime.commands.answers import KeyTaken
from services.runtime.commands.book import BookError, CommandBook
from services.runtime.commands.page import pack_command, read_page, unpack_command
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import Delivery


@pytest.fixture
def kept():
    return CapturingLogger()


@pytest.fixture
def log(kept):
    return structlog.wrap_logger(kept, processors=[], wrapper_class=structlog.stdlib.BoundLogger)


@pytest.fixture
def open_book(tmp_path, clock, log):
    def open_book(**more):
        return closing(
            CommandBook(
                tmp_path / "data" / "commands", clock=clock, metrics=Metrics(CollectorRegistry()), log=log, **more
            )
        )

    return open_book


async def begin(book, *args):
    """Whether it was new, once it is on the disk."""
    kept = await book.begin(*args)
    if kept is not None:
        await kept()
    return kept is not None


def command(correlation=b"1", topic="t", payload=b"5"):
    return Delivery(topic=topic, levels={}, payload=payload, response_topic="r", correlation=correlation, expiry_s=5)


def key(correlation=b"1", topic="t"):
    return topic, "r", correlation


async def test_a_command_is_new_once_also_for_the_next_process(open_book):
    with open_book() as book:
        assert [await begin(book, key(), command()) for _ in range(2)] == [True, False]
        assert await begin(book, key(b"2"), command(b"2"))
        book.finish(key(), b"done")
    with open_book() as book:
        assert not await begin(book, key(), command())
        assert book.answer(key(), b"5") == b"done"
        assert book.answer(key(b"2"), b"5") is None


async def test_what_had_no_answer_is_left_over_until_it_gets_one(open_book):
    with open_book() as book:
        for correlation in (b"1", b"2", b"3"):
            await begin(book, key(correlation), command(correlation))
        book.finish(key(b"2"), b"done")
        assert not book.left_over, "of an earlier process, not of this one"
    with open_book() as book:
        left = book.left_over
        assert sorted(one.correlation for one in left) == [b"1", b"3"]
        assert {(one.topic, one.payload, one.response_topic) for one in left} == {("t", b"5", "r")}
        book.finish(key(b"1"), b"unknown")
        assert [one.correlation for one in book.left_over] == [b"3"]


async def test_a_command_is_forgotten_after_ten_minutes_and_not_before(open_book, clock):
    with open_book() as book:
        await begin(book, key(), command())
        book.finish(key(), b"done")
        clock.advance(600)
        assert not await begin(book, key(), command())
        clock.advance(1)
        assert await begin(book, key(), command())


async def test_a_book_that_need_not_wait_for_the_disk_is_known_to_the_next_process_all_the_same(open_book, monkeypatch):
    def never(fd):
        raise AssertionError("nothing is synced")

    with open_book(synced=False) as book:
        monkeypatch.setattr(os, "fdatasync", never)
        assert await begin(book, key(), command())
        book.finish(key(), b"done")
    with open_book(synced=False) as book:
        assert book.answer(key(), b"5") == b"done"


async def test_a_command_is_forgotten_after_the_time_that_the_books_owner_has_chosen(open_book, clock):
    with open_book(keep_s=60) as book:
        await begin(book, key(), command())
        clock.advance(60)
        book.finish(key(), b"done")
        assert not await begin(book, key(), command())
        clock.advance(1)
        assert await begin(book, key(), command())


async def test_what_a_process_finds_it_knows_for_ten_minutes_whatever_the_time_is_said_to_be(open_book, clock):
    with open_book() as book:
        await begin(book, key(), command())
        book.finish(key(), b"done")
    clock.set_wall(clock.now_us() + 30_000_000_000_000)
    with open_book() as book:
        clock.advance(600)
        assert not await begin(book, key(), command())
        clock.advance(1)
        assert await begin(book, key(), command())


async def test_a_command_done_anew_after_its_time_is_known_as_it_was_done_last(open_book, clock):
    with open_book() as book:
        await begin(book, key(), command())
        book.finish(key(), b"done")
        clock.advance(601)
        await begin(book, key(), command(payload=b"6"))
    with open_book() as book:
        assert [one.payload for one in book.left_over] == [b"6"]


async def test_of_too_many_commands_the_oldest_answered_go(open_book, clock):
    with open_book(most=10) as book:
        for number in range(20):
            correlation = b"%d" % number
            clock.advance(0.001)
            await begin(book, key(correlation), command(correlation))
            if number:
                book.finish(key(correlation), b"done")
        clock.advance(61)
        await begin(book, key(b"last"), command(b"last"))

        assert not await begin(book, key(b"0"), command(b"0")), "it has no answer yet"
        assert book.answer(key(b"1"), b"5") is None
        assert book.answer(key(b"19"), b"5") == b"done"


@pytest.fixture
def refusing(monkeypatch):
    """A disk whose syncs fail while `refusing` is set."""
    refusing = threading.Event()
    fdatasync = os.fdatasync

    def sync(fd):
        if refusing.is_set():
            raise OSError(errno.EIO, "Input/output error")
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    return refusing


async def test_what_the_disk_does_not_take_is_told_and_not_begun(open_book, refusing):
    with open_book() as book:
        refusing.set()
        with pytest.raises(BookError, match="commands: Input/output error"):
            await begin(book, key(), command())
        refusing.clear()
        assert not await begin(book, key(), command()), "the first may still be waiting for its turn"
        book.finish(key(), b"refused")
        assert await begin(book, key(), command()), "it is as if it had never been sent"
        book.finish(key(), b"done")
    with open_book() as book:
        assert not book.left_over
        assert book.answer(key(), b"5") == b"done"


async def test_an_answer_that_the_disk_refuses_at_the_end_is_told(open_book, refusing, kept):
    with open_book() as book:
        assert await begin(book, key(), command())
        book.finish(key(), b"done")
        refusing.set()

    assert [call.kwargs["event"] for call in kept.calls] == ["book_not_synced"]


async def was_waited_for(kept, book_sync):
    """Whether the disk was allowed to sync before who waits for it went on."""
    await kept()
    return book_sync.allowed.is_set()


async def test_an_entry_is_on_the_disk_when_who_waits_for_it_goes_on(open_book, book_sync, eventually):
    with open_book() as book:
        keeping = asyncio.create_task(was_waited_for(await book.begin(key(), command()), book_sync))
        await eventually(book_sync.asked.is_set)
        assert not await begin(book, key(), command()), "it is known meanwhile"
        book_sync.allowed.set()
        assert await keeping


async def test_what_nobody_waits_for_reaches_the_disk_soon(open_book, monkeypatch):
    synced, loop = asyncio.Queue(), asyncio.get_running_loop()
    monkeypatch.setattr(os, "fdatasync", lambda _fd: loop.call_soon_threadsafe(synced.put_nowait, None))
    with open_book() as book:
        async with asyncio.timeout(30):
            await book.begin(key(), command())
            await synced.get()
            book.finish(key(), b"done")
            await synced.get()
            await book.begin(key(b"2"), command(b"2"))
        assert synced.empty()
    await asyncio.sleep(0)
    assert synced.get_nowait() is None, "a book that is closed is on the disk"


async def test_on_a_disk_that_is_stuck_also_an_early_command_waits(open_book, book_sync, clock, eventually):
    with open_book() as book:
        assert not await was_waited_for(await book.begin(key(), command(), early=True), book_sync)
        await eventually(book_sync.asked.is_set)
        assert not await was_waited_for(await book.begin(key(b"2"), command(b"2"), early=True), book_sync)
        clock.advance(0.3)
        kept = await book.begin(key(b"3"), command(b"3"), early=True)
        keeping = asyncio.create_task(was_waited_for(kept, book_sync))
        await asyncio.sleep(0)  # who does not wait goes on now
        book_sync.allowed.set()
        assert await keeping


async def test_where_the_disk_loses_what_nobody_waited_for_the_next_command_stands_on_another_page(
    open_book, refusing, kept, tmp_path, eventually
):
    pages = tmp_path / "data" / "commands"
    with open_book() as book:
        refusing.set()
        await book.begin(key(), command())
        await eventually(lambda: bool(kept.calls))
        refusing.clear()
        assert await begin(book, key(b"2"), command(b"2"))
        assert not await begin(book, key(), command()), "what is being done is known"
        book.finish(key(), b"done")
        assert [len(read_page(page).records) for page in sorted(pages.iterdir())] == [1, 2]
    assert kept.calls[0].kwargs["event"] == "book_not_synced"


async def fill(book, enough):
    """Does commands until it is enough, and gives the last one's correlation data."""
    async with asyncio.timeout(30):  # pages are made and removed beside the commands
        while True:
            correlation = uuid4().bytes
            await begin(book, key(correlation), command(correlation, payload=b"x" * 60_000))
            book.finish(key(correlation), b"done")
            if enough():
                return correlation


async def test_pages_follow_each_other_and_go_once_all_in_them_is_past_its_time(open_book, clock, tmp_path):
    folder = tmp_path / "data" / "commands"

    def pages():
        return len(list(folder.iterdir()))

    with open_book() as book:
        await begin(book, key(b"first"), command(b"first"))
        last = await fill(book, lambda: pages() == 4)
        clock.advance(601)
        await fill(book, lambda: pages() == 6)
    with open_book() as book:
        assert [one.correlation for one in book.left_over] == [b"first"], "its page is kept for as long as it takes"
        assert book.answer(key(last), b"x" * 60_000) == b"done"
        book.finish(key(b"first"), b"unknown")
        clock.advance(601)
        there = set(
            folder.iterdir()
        )  # but for the one in use and the next: what comes later may be quicker than they go
        last = await fill(book, lambda: len(there & set(folder.iterdir())) <= 2)
        assert book.answer(key(last), b"x" * 60_000) == b"done"


async def test_a_command_that_stays_unanswered_holds_no_more_pages_than_there_may_be(open_book, monkeypatch, tmp_path):
    monkeypatch.setattr("services.runtime.commands.book._MOST_PAGES", 3)
    folder = tmp_path / "data" / "commands"

    def behind(number):
        return lambda: len(there := list(folder.iterdir())) <= 4 and int(max(there).stem) >= number

    with open_book() as book:
        await begin(book, key(b"first"), command(b"first"))
        await fill(book, behind(6))
        assert not await begin(book, key(b"first"), command(b"first"))
    with open_book() as book:
        assert [one.correlation for one in book.left_over] == [b"first"]
        await fill(book, behind(10))
        book.finish(key(b"first"), b"unknown")
    with open_book() as book:
        assert not book.left_over
        assert book.answer(key(b"first"), b"5") == b"unknown"


async def test_what_a_power_cut_has_torn_is_passed_over_and_told(open_book, tmp_path, kept):
    with open_book() as book:
        for correlation in (b"1", b"2"):
            await begin(book, key(correlation), command(correlation))
        torn = book._page._used - 3
    (page,) = (tmp_path / "data" / "commands").iterdir()
    with page.open("r+b") as file:
        file.seek(torn)
        file.write(bytes(3))
    with open_book() as book:
        assert [one.correlation for one in book.left_over] == [b"1"]
        assert await begin(book, key(b"2"), command(b"2"))
    assert [call.kwargs["event"] for call in kept.calls] == ["book_page_damaged"]


@given(
    topic=st.text(max_size=50),
    response=st.none() | st.text(max_size=50),
    correlation=st.binary(max_size=60),
    payload=st.binary(max_size=300),
    keep_s=st.integers(0, 0xFFFF_FFFF),
)
def test_a_command_is_read_as_it_was_written(topic, response, correlation, payload, keep_s):
    written = Delivery(topic=topic, levels={}, payload=payload, response_topic=response, correlation=correlation)

    assert unpack_command(pack_command(written, keep_s)) == (written, keep_s)


async def test_another_command_under_the_same_key_is_told_from_the_first(open_book):
    with open_book() as book:
        await begin(book, key(), command())
        book.finish(key(), b"done")
        assert not await begin(book, key(), command(payload=b"6"))
        with pytest.raises(KeyTaken):
            book.answer(key(), b"6")


async def test_on_a_disk_that_takes_nothing_what_is_known_is_still_known(open_book, refusing):
    with open_book() as book:
        await begin(book, key(), command())
        book.finish(key(), b"done")
        refusing.set()

        with pytest.raises(BookError):
            await begin(book, key(b"2"), command(b"2"))
        assert not await begin(book, key(), command())
        assert book.answer(key(), b"5") == b"done"


async def test_a_folder_that_is_none_is_told_and_everything_refused_until_it_can_be_made(open_book, tmp_path, kept):
    path = tmp_path / "data" / "commands"
    path.parent.mkdir()
    path.write_bytes(b"x")

    with open_book() as book:
        with pytest.raises(BookError, match="commands: File exists"):
            await begin(book, key(), command())
        path.unlink()
        assert await begin(book, key(), command())
    assert [call.kwargs["event"] for call in kept.calls] == ["book_not_open"]


async def test_after_a_failed_sync_nothing_more_is_kept_on_that_page(open_book, monkeypatch):
    """The kernel reports lost writes once: the sync after it succeeds, though they are lost (fsync(2))."""
    fdatasync, failures, both = os.fdatasync, [OSError(errno.EIO, "Input/output error")], threading.Event()

    def sync(fd):
        both.wait(5)
        if failures:
            raise failures.pop()
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    with open_book() as book:
        entries = [await book.begin(key(name), command(name)) for name in (b"1", b"2")]
        waiting = [asyncio.create_task(keep()) for keep in entries]
        await asyncio.sleep(0)
        both.set()
        for one in waiting:
            with pytest.raises(BookError, match="Input/output error"):
                await one
        assert await begin(book, key(b"3"), command(b"3")), "on another page"


async def test_what_a_refused_command_hears_is_not_the_answer_of_its_repetition(open_book, refusing):
    with open_book() as book:
        refusing.set()
        with pytest.raises(BookError):
            await begin(book, key(), command())
        refusing.clear()
        assert not await begin(book, key(), command())
        book.finish(key(), b"refused")
        await begin(book, key(), command())
        assert book.answer(key(), b"5") is None
        book.finish(key(), b"done")
    with open_book() as book:
        assert book.answer(key(), b"5") == b"done"


async def test_the_answer_of_a_command_whose_entry_is_lost_becomes_nobody_elses(open_book, tmp_path):
    with open_book() as book:
        await begin(book, key(b"1"), command(b"1"))
        begin_of_2 = book._page._used
        await begin(book, key(b"2"), command(b"2"))
        book.finish(key(b"2"), b"answer of 2")
    (page,) = (tmp_path / "data" / "commands").iterdir()
    with page.open("r+b") as file:
        file.seek(begin_of_2 + 8)
        file.write(b"\xff")
    with open_book() as book:
        await begin(book, key(b"3"), command(b"3"))
    with open_book() as book:
        assert book.answer(key(b"3"), b"5") is None
        assert [one.correlation for one in book.left_over] == [b"1", b"3"]


async def test_later_commands_stand_on_later_pages_also_after_a_failed_sync(open_book, refusing, tmp_path):
    folder = tmp_path / "data" / "commands"
    with open_book() as book:
        await fill(book, lambda: len(list(folder.iterdir())) == 2)  # the next page is made, and not used yet
        refusing.set()
        with pytest.raises(BookError):
            await begin(book, key(), command())
        refusing.clear()
        book.finish(key(), b"refused")
        await begin(book, key(), command())
        book.finish(key(), b"done")
        await fill(book, lambda: len(list(folder.iterdir())) == 4)
    numbers = [record.number for path in sorted(folder.iterdir()) for record in read_page(path).records]
    assert numbers == sorted(numbers)
    with open_book() as book:
        assert book.answer(key(), b"5") == b"done"


async def test_a_folder_that_is_removed_is_made_again_with_the_next_page(open_book, tmp_path):
    folder = tmp_path / "data" / "commands"
    with open_book() as book:
        await begin(book, key(), command())
        shutil.rmtree(folder)
        last = await fill(book, lambda: folder.exists() and len(list(folder.iterdir())) == 2)
    with open_book() as book:
        assert book.answer(key(last), b"x" * 60_000) == b"done"


async def test_while_a_page_cannot_be_read_each_refused_command_leaves_nothing_behind(open_book, tmp_path):
    folder = tmp_path / "data" / "commands"
    unreadable = folder / "000000000007.page"
    unreadable.mkdir(parents=True)
    (folder / "notes.page").write_text("somebody else's")
    with open_book() as book:
        for _ in range(3):
            with pytest.raises(BookError, match="Is a directory"):
                await begin(book, key(), command())
        assert sorted(path.name for path in folder.iterdir()) == ["000000000007.page", "notes.page"]
        unreadable.rmdir()
        assert await begin(book, key(), command())


async def test_a_command_without_an_answer_is_not_begun_again_however_long_it_takes(open_book, clock):
    with open_book() as book:
        await begin(book, key(), command())
        clock.advance(601)
        assert not await begin(book, key(), command())
        book.finish(key(), b"done")
        assert await begin(book, key(), command())
