"""Journals in a test's own folder, closed at its end."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from services.runtime.journal import Journal
from services.runtime.metrics import Metrics
from tests.unit.runtime.manual_clock import ManualClock


class Open(Protocol):
    """Opens the journal in the test's folder, or in a copy of it as a killed process would have left it."""

    def __call__(self, *, killed: bool = False, **limits: Any) -> Journal: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def open_journal(folder: Path, clock: ManualClock, metrics: Metrics) -> Iterator[Open]:
    opened: list[Journal] = []

    def open_journal(*, killed: bool = False, **limits: Any) -> Journal:
        if killed:
            # What is written by then is what the killed process leaves: neither close() nor a sync comes to it.
            copy = folder.with_name("copy")
            shutil.copytree(folder, copy)
            opened[-1].close()
            shutil.rmtree(folder)
            copy.rename(folder)
        elif opened:
            opened[-1].close()
        opened.append(Journal.open(folder, clock=clock, metrics=metrics, **limits))
        return opened[-1]

    yield open_journal
    for journal in opened:
        journal.close()
