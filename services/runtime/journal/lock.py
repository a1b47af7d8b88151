"""One process per journal."""

from pathlib import Path

from services.runtime.file_lock import FileTaken, lock_file
from services.runtime.journal.faults import JournalBroken


def lock_folder(folder: Path) -> int:
    """Holds the journal for this process until the file is closed. Raises JournalBroken if another has it."""
    try:
        return lock_file(folder / "lock")
    except FileTaken:
        raise JournalBroken(f"{folder}: another process has this journal open; stop it first") from None
