"""What the gateway says of a journal that loses records."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger, LogCapture

from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.journal_watch import LOSS_S, JournalWatch
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from tests.unit.runtime.manual_clock import ManualClock


class Bench:
    """A journal in a folder, and who watches it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        registry = CollectorRegistry()
        self.journal = Journal.open(folder, clock=self.clock, metrics=Metrics(registry))
        self.stream = self.journal.open_stream("frame", "pump", "fast")
        self.health = Health(host="127.0.0.1", port=0, registry=registry, clock=self.clock)
        self.logged = LogCapture()
        log: Log = structlog.wrap_logger(CapturingLogger(), processors=[self.logged], wrapper_class=Log)
        self.watch = JournalWatch(journal=self.journal, health=self.health, clock=self.clock, log=log)

    def look(self) -> tuple[bool, str]:
        self.watch.look()
        part = self.health.state()["parts"]["journal"]
        return part["ok"], part["detail"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.journal.close()


def test_a_journal_that_loses_nothing_is_well(bench):
    bench.journal.append(bench.stream, 1, b"frame")

    assert bench.look() == (True, "0% of its cap, 1 records")
    assert bench.logged.entries == []


def test_a_loss_is_said_once_a_minute_and_health_fails_while_it_goes_on(bench):
    for seq in (3, 5, 7):
        bench.journal.append(bench.stream, seq, b"frame")
        well, detail = bench.look()
        assert not well
    assert detail.endswith("3 records; lost since the start: 4 skipped")
    bench.clock.advance(LOSS_S)
    bench.look()

    assert [line["skipped"] for line in bench.logged.entries] == [2, 2]
    bench.clock.advance(LOSS_S)
    assert bench.look()[0]
    assert len(bench.logged.entries) == 2


def test_what_goes_wrong_is_told_in_words_that_stay_while_it_goes_on(bench):
    assert bench.watch.look() is None
    for seq in (3, 5):
        bench.journal.append(bench.stream, seq, b"frame")
        assert bench.watch.look() == "the journal loses records: skipped"
    bench.clock.advance(LOSS_S)
    bench.watch.look()
    bench.clock.advance(LOSS_S)

    assert bench.watch.look() is None


def test_what_is_found_damaged_at_the_start_is_a_loss_and_what_was_lost_before_is_not(bench, tmp_path):
    for seq in (2, 3):
        bench.journal.append(bench.stream, seq, b"frame")
    bench.journal.close()
    for file in tmp_path.glob("*.segment"):
        file.write_bytes(b"rubbish")
    again = Bench(tmp_path)

    assert again.look()[1].endswith("lost since the start: 2 damaged")
    again.journal.close()
