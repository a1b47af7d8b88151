"""One process per journal."""

import fcntl
import os
from pathlib import Path

from services.runtime.journal.faults import JournalBroken


def lock_folder(folder: Path) -> int:
    """Holds the journal for this process until the file is closed. Raises JournalBroken if another has it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise JournalBroken(f"{folder}: another process has this journal open; stop it first") from None
    return fd
