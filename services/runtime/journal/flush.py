"""What a journal has to bring to the disk: made in the event loop, carried out in a thread."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from services.runtime.journal.ledger import LedgerFile
from services.runtime.journal.segment import unlink_segment


@dataclass(slots=True, kw_only=True)
class Flush:
    """One round of syncing. It owns its file descriptors and shares nothing with the journal but the ledger's file.

    ledger: the content to write, None if it has not changed. doomed: numbers of the segments to remove.
    removed, errors, written: what came of it.
    """

    folder: Path
    fds: Sequence[int]
    ledger_file: LedgerFile
    ledger: bytes | None
    version: int
    doomed: Sequence[int]
    removed: set[int] = field(default_factory=set)
    errors: list[OSError] = field(default_factory=list)
    written: bool = False

    def run(self) -> None:
        """Syncs, writes, removes; goes on after an error and keeps it in errors."""
        for fd in self.fds:
            self._attempt(partial(os.fdatasync, fd))
            os.close(fd)
        if self.ledger is not None:
            self.written = self._attempt(partial(self.ledger_file.write, self.ledger, version=self.version))
        # Removed even if the ledger could not be written: on a full disk this is what makes room for it.
        for number in self.doomed:
            if self._attempt(partial(unlink_segment, self.folder, number)):
                self.removed.add(number)

    def _attempt(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except OSError as error:
            self.errors.append(error)
            return False
        return True
