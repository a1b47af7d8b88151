"""What a trigger's next session learns of runs that had begun; a book that is closed is as one of a killed process."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import structlog
from prometheus_client import CollectorRegistry

from services.orchestrator.triggers.begun import BegunRuns
from services.orchestrator.triggers.session import SessionTrigger
from services.orchestrator.triggers.sources import FrameSource
from services.runtime.clock import SystemClock
from services.runtime.commands.book import BookError, CommandBook
from services.runtime.metrics import Metrics


@pytest.fixture
def session(tmp_path):
    @contextmanager
    def session():
        book = CommandBook(
            tmp_path,
            clock=SystemClock(),
            metrics=Metrics(CollectorRegistry()),
            log=structlog.get_logger(),
            synced=False,
        )
        yield BegunRuns(book=book)
        book.close()

    return session


async def test_what_was_begun_and_not_over_is_left_and_told_once(session):
    with session() as notes:
        for name in ("1/1", "1/2", "1/3"):
            await notes.begin("t", name)
        await notes.begin("other", "1/1")
        notes.over("t", "1/1")
        notes.kept("t", "1/3")
    with session() as notes:
        assert [notes.is_over("t", name) for name in ("1/1", "1/2", "1/3")] == [True, False, False]
        assert (notes.take_ended("t"), notes.take_ended("t")) == (["1/1"], ())
        assert notes.take_left("t") == {"1/2"}, "of 1/3 progress knows"
        assert notes.take_left("t") == set()
    with session() as notes:
        assert notes.take_left("t") == set()
        assert notes.take_left("other") == {"1/1"}


async def test_what_a_book_that_could_not_be_read_at_first_says_has_begun_is_not_begun_again(session, tmp_path):
    with session() as notes:
        await notes.begin("t", "1/1")
    unreadable = tmp_path / "000000000009.page"
    unreadable.mkdir()
    with session() as notes:
        assert notes.take_left("t") == set()
        unreadable.rmdir()
        with pytest.raises(BookError, match="has begun"):
            await notes.begin("t", "1/1")
        await notes.begin("t", "1/2")


async def test_what_a_kill_left_over_or_under_way_goes_into_the_progress_of_the_next_session(session):
    put, told = {}, []

    def trigger(notes):
        return SessionTrigger(
            client="t", source=FrameSource("pump/fast", site="s", begun_us=0), open_intake=None, start=None,
            repeats=False, progress=SimpleNamespace(put=put.__setitem__), notes=notes, kept={}, before=None,
            notice=SimpleNamespace(tell=lambda kind, name: told.append(name)), beside=None,
            workspace="plant", pipeline="p", metrics=Metrics(CollectorRegistry()),
        )  # fmt: skip

    with session() as notes:
        for name in ("1/1", "1/2"):
            await notes.begin("t", name)
        notes.over("t", "1/1")
    with session() as notes:
        assert json.loads(trigger(notes).state)["source"]["1"]["done"] == [[1, 2]]
    assert json.loads(put["t"])["begun"] == []
    assert told == ["1/2"]


async def test_what_nobody_asks_for_is_forgotten(session):
    with session() as notes:
        await notes.begin("gone", "1/1")
    with session() as notes:
        notes.forget_left()
    with session() as notes:
        assert notes.take_left("gone") == set()
