"""A journal that is copied while its service writes it.

The recorder's database is copied in one moment, and the journals some time later. What a journal lets go of in
between, since the recorder has it stored by then, is missing in the database's copy. So the segments are held open
from before that moment on: a file that is open stays readable when it is removed. The ledger of the copy says of what
is gone what it said before, and of the streams what it says after.
"""

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services.runtime.journal.ledger import Entry, Ledger
from services.runtime.journal.segment import SUFFIX

LEDGER = "ledger.json"


@dataclass(frozen=True, slots=True)
class HeldSegment:
    """A segment as it was at one moment; size: in bytes, what it grew afterwards does not count."""

    name: str
    file: BinaryIO
    status: os.stat_result


class HeldJournal:
    """The journal in a folder, held from now on until the stack is closed. Raises JournalBroken, OSError."""

    def __init__(self, folder: Path, *, held: ExitStack) -> None:
        self._folder = folder
        self._held = held
        self._ledger = Ledger.load(folder / LEDGER)
        self._segments: dict[str, BinaryIO] = {}
        self.look()

    def look(self) -> None:
        """Holds the segments that are new; to be called often, since a busy journal begins and removes many."""
        with os.scandir(self._folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX))
        for name in names:
            if name not in self._segments:
                with suppress(FileNotFoundError):  # gone meanwhile
                    self._segments[name] = self._held.enter_context((self._folder / name).open("rb"))

    def capture(self) -> list[HeldSegment]:
        """What there is now, oldest first."""
        self.look()
        return [HeldSegment(name, file, os.fstat(file.fileno())) for name, file in sorted(self._segments.items())]

    def ledger(self) -> bytes:
        """The ledger that goes with what was captured before. Raises JournalBroken."""
        now = Ledger.load(self._folder / LEDGER)
        for name, entry in now.streams.items():
            before = self._ledger.streams.get(name)
            same = before is not None and before.epoch == entry.epoch
            # Higher numbers are in the segments; one that was given after they were captured is not missing in them.
            now.streams[name] = Entry(entry.number, entry.epoch, before.last if before is not None and same else 0)
        now.gone, now.doomed, now.lost = self._ledger.gone, self._ledger.doomed, self._ledger.lost
        return now.dump()
