"""The journal's ledger: which streams there are, what each was numbered up to, and what has become of what left.

Pure but for load() and LedgerFile: the journal decides when it is written.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from services.runtime.journal.faults import JournalBroken
from services.runtime.journal.record import Key
from services.runtime.ranges import Ranges

StreamName = tuple[str, str, str]
"""kind, owner and name of a stream."""

STORED = "stored"
_VERSION = 1
_MOST_EPOCHS = 100
_MOST_RANGES = 1000


@dataclass(slots=True)
class Entry:
    """One stream: its number, its newest epoch, and the last sequence number known to be given in that epoch."""

    number: int
    epoch: int
    last: int


class Ledger:
    """What the journal must know beyond its records.

    streams: by kind, owner and name. gone: what left the journal, by key and reason (`stored`: as it should).
    lost: how many records were lost, by reason. stores: the UUID of each required recorder's database.
    doomed: numbers of segments that are to be removed. version: grows with every change that should reach the disk.
    clock_us: the journal's own clock when this was written: microseconds for which the journal has been open in all.
    Details in `gone` are kept for the last 100 epochs of a stream and the last 1,000 ranges of an epoch; the counts in
    `lost` are kept for ever.
    """

    def __init__(self) -> None:
        self.streams: dict[StreamName, Entry] = {}
        self.gone: dict[Key, dict[str, Ranges]] = {}
        self.lost: Counter[str] = Counter()
        self.stores: dict[str, str] = {}
        self.doomed: set[int] = set()
        self.clock_us = 0
        self.version = 0

    def entry(self, name: StreamName) -> Entry:
        """The stream's entry, made if it is new."""
        if name not in self.streams:
            highest = max((entry.number for entry in self.streams.values()), default=0)
            self.streams[name] = Entry(number=highest + 1, epoch=0, last=0)
        return self.streams[name]

    def begin_epoch(self, entry: Entry, *, epoch: int) -> None:
        """The stream counts from 1 anew. epoch: above the last."""
        entry.epoch, entry.last = epoch, 0
        self.version += 1

    def book(self, key: Key, first: int, last: int, reason: str) -> None:
        """Books records as gone, and unless the reason is `stored` as lost. What is booked already stays as it is."""
        explained = self.explained(key)
        new = key not in self.gone
        ranges = self.gone.setdefault(key, {}).setdefault(reason, Ranges())
        for begin, end in explained.gaps(first, last):
            ranges.add(begin, end)
            if reason != STORED:
                self.lost[reason] += end - begin + 1
        ranges.keep_last(_MOST_RANGES)
        if new:
            self._forget_old_epochs(key[0])
        self.version += 1

    def check_store(self, recorder: str, store: str) -> bool:
        """Whether the recorder has another database than before: what it had stored is then lost."""
        before = self.stores.get(recorder)
        if before == store:
            return False
        self.stores[recorder] = store
        self.version += 1
        if before is None:
            return False
        for key, reasons in list(self.gone.items()):
            for first, last in reasons.pop(STORED, ()):
                self.book(key, first, last, "store_replaced")
        return True

    def doom(self, segment: int) -> None:
        """The segment is to be removed."""
        self.doomed.add(segment)
        self.version += 1

    def explained(self, key: Key) -> Ranges:
        """Every sequence number of the key that is booked, whatever the reason."""
        ranges = Ranges()
        for part in self.gone.get(key, {}).values():
            ranges.update(part)
        return ranges

    def forgot(self, key: Key) -> bool:
        """Whether details of this epoch may have been given up, since there are so many newer ones."""
        epochs = self._epochs(key[0])
        return len(epochs) >= _MOST_EPOCHS and key[1] < epochs[0]

    def _forget_old_epochs(self, stream: int) -> None:
        for epoch in self._epochs(stream)[:-_MOST_EPOCHS]:
            del self.gone[stream, epoch]

    def _epochs(self, stream: int) -> list[int]:
        return sorted(epoch for number, epoch in self.gone if number == stream)

    def dump(self) -> bytes:
        """The ledger as JSON."""
        return json.dumps(
            {
                "version": _VERSION,
                "streams": [[*name, entry.number, entry.epoch, entry.last] for name, entry in self.streams.items()],
                "gone": [
                    [*key, reason, list(ranges)]
                    for key, reasons in self.gone.items()
                    for reason, ranges in reasons.items()
                ],
                "lost": self.lost,
                "stores": self.stores,
                "doomed": sorted(self.doomed),
                "clock_us": self.clock_us,
            }
        ).encode()

    @classmethod
    def load(cls, path: Path) -> "Ledger":
        """The ledger in the file, an empty one if there is no file. Raises JournalBroken."""
        try:
            return cls._parse(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise JournalBroken(
                f"{path}: cannot be read ({error}); move the folder away to begin a new journal"
            ) from None

    @classmethod
    def _parse(cls, content: dict[str, Any]) -> "Ledger":
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, not {_VERSION}")
        ledger = cls()
        for kind, owner, name, number, epoch, last in content["streams"]:
            ledger.streams[kind, owner, name] = Entry(number, epoch, last)
        for number, epoch, reason, ranges in content["gone"]:
            ledger.gone.setdefault((number, epoch), {})[reason] = Ranges((first, last) for first, last in ranges)
        ledger.lost.update(content["lost"])
        ledger.stores.update(content["stores"])
        ledger.doomed.update(content["doomed"])
        ledger.clock_us = int(content.get("clock_us", 0))
        return ledger


class LedgerFile:
    """Writes ledgers to disk, each as a whole or not at all, and never an older one over a newer. From any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._written = 0

    def write(self, data: bytes, *, version: int) -> None:
        """Returns when the ledger is on the disk. Raises OSError; the one before then stays."""
        with self._lock:
            if version < self._written:
                return
            new = self.path.with_suffix(".new")
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._written = version
