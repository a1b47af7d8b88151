"""The book of commands: what it has taken in is known again by whoever opens it next, and never for too much."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from services.runtime.answers import KeyTaken
from services.runtime.command_book import BookError, CommandBook
from services.runtime.delivery import Delivery
from services.runtime.metrics import Metrics


@dataclass
class Clock:
    now_s: float = 1000.0
    set_by_s: float = 0.0

    def monotonic(self):
        return self.now_s

    def now_us(self):
        return int((self.now_s + self.set_by_s) * 1e6)


@pytest.fixture
def clock():
    return Clock()


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
                tmp_path / "data" / "commands.db", clock=clock, metrics=Metrics(CollectorRegistry()), log=log, **more
            )
        )

    return open_book


def command(correlation=b"1", topic="t", payload=b"5"):
    return Delivery(topic=topic, levels={}, payload=payload, response_topic="r", correlation=correlation, expiry_s=5)


def key(correlation=b"1", topic="t"):
    return topic, "r", correlation


async def test_a_command_is_new_once_also_for_the_next_process(open_book):
    with open_book() as book:
        assert [await book.begin(key(), command()) for _ in range(2)] == [True, False]
        assert await book.begin(key(b"2"), command(b"2"))
        await book.finish(key(), b"done")
    with open_book() as book:
        assert not await book.begin(key(), command())
        assert await book.answer(key(), b"5") == b"done"
        assert await book.answer(key(b"2"), b"5") is None


async def test_what_had_no_answer_is_left_over_until_it_gets_one(open_book):
    with open_book() as book:
        for correlation in (b"1", b"2", b"3"):
            await book.begin(key(correlation), command(correlation))
        await book.finish(key(b"2"), b"done")
        assert not book.left_over, "of an earlier process, not of this one"
    with open_book() as book:
        left = book.left_over
        assert sorted(one.correlation for one in left) == [b"1", b"3"]
        assert {(one.topic, one.payload, one.response_topic) for one in left} == {("t", b"5", "r")}
        await book.finish(key(b"1"), b"unknown")
        assert [one.correlation for one in book.left_over] == [b"3"]


async def test_a_command_is_forgotten_after_ten_minutes_and_not_before(open_book, clock):
    with open_book() as book:
        await book.begin(key(), command())
        await book.finish(key(), b"done")
        clock.now_s += 599
        await book.begin(key(b"2"), command(b"2"))
        assert not await book.begin(key(), command())
        clock.now_s += 62
        await book.begin(key(b"3"), command(b"3"))
        assert await book.begin(key(), command())


async def test_of_too_many_commands_the_oldest_answered_go(open_book, clock):
    with open_book(most=10) as book:
        for number in range(20):
            correlation = b"%d" % number
            clock.now_s += 0.001
            await book.begin(key(correlation), command(correlation))
            if number:
                await book.finish(key(correlation), b"done")
        clock.now_s += 61
        await book.begin(key(b"last"), command(b"last"))

        assert not await book.begin(key(b"0"), command(b"0")), "it has no answer yet"
        assert await book.answer(key(b"1"), b"5") is None
        assert await book.answer(key(b"19"), b"5") == b"done"


async def test_a_disk_that_does_not_take_the_entry_is_told(open_book, tmp_path):
    with open_book() as book:
        other = sqlite3.connect(tmp_path / "data" / "commands.db")
        other.execute("DROP TABLE command")
        other.close()
        with pytest.raises(BookError):
            await book.begin(key(), command())


@pytest.mark.parametrize("set_by_s", [3e7, -3e7])
async def test_a_clock_that_is_set_makes_no_command_new_and_none_stay(open_book, clock, set_by_s):
    with open_book() as book:
        await book.begin(key(), command())
        clock.set_by_s = set_by_s
        clock.now_s += 61
        await book.begin(key(b"2"), command(b"2"))
        assert not await book.begin(key(), command())
        clock.now_s += 600
        await book.begin(key(b"3"), command(b"3"))
        assert await book.begin(key(), command())


async def test_another_command_under_the_same_key_is_told_from_the_first(open_book):
    with open_book() as book:
        await book.begin(key(), command())
        await book.finish(key(), b"done")
        assert not await book.begin(key(), command(payload=b"6"))
        with pytest.raises(KeyTaken):
            await book.answer(key(), b"6")


async def test_on_a_full_disk_what_is_known_is_still_known(open_book, tmp_path, clock):
    with open_book() as book:
        await book.begin(key(), command())
        await book.finish(key(), b"done")
        book._database.execute("PRAGMA query_only = ON")
        clock.now_s += 61

        assert not await book.begin(key(), command())
        assert await book.answer(key(), b"5") == b"done"
        with pytest.raises(BookError):
            await book.begin(key(b"2"), command(b"2"))


async def test_a_file_that_is_no_book_is_told_and_everything_refused_until_it_is_gone(open_book, tmp_path, kept):
    path = tmp_path / "data" / "commands.db"
    path.parent.mkdir()
    path.write_bytes(b"x" * 5000)

    with open_book() as book:
        with pytest.raises(BookError, match=r"commands\.db: file is not a database"):
            await book.begin(key(), command())
        path.unlink()
        assert await book.begin(key(), command())
    assert [call.kwargs["event"] for call in kept.calls] == ["book_not_open"]
