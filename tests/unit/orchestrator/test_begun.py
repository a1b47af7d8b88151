"""What a trigger's next session learns of runs that had begun; a book that is closed is as one of a killed process."""

from contextlib import contextmanager

import pytest
import structlog
from prometheus_client import CollectorRegistry

from services.orchestrator.triggers.begun import BegunRuns
from services.runtime.clock import SystemClock
from services.runtime.commands.book import CommandBook
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
        assert notes.take_left("t") == {"1/2"}, "of 1/3 progress knows"
        assert notes.take_left("t") == set()
    with session() as notes:
        assert notes.take_left("t") == set()
        assert notes.take_left("other") == {"1/1"}


async def test_what_nobody_asks_for_is_forgotten(session):
    with session() as notes:
        await notes.begin("gone", "1/1")
    with session() as notes:
        notes.forget_left()
    with session() as notes:
        assert notes.take_left("gone") == set()
