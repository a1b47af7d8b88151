"""One process per file: of two that would work with the same folder, the second learns of it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileTaken(Exception):
    """Another process holds the file."""


def lock_file(path: Path) -> int:
    """Holds the file, made if there is none, for this process until the descriptor that it gives is closed.

    A process that dies lets go of it; one that it has started does not hold it. Raises FileTaken, OSError.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise FileTaken(f"{path.parent}: another process works with this folder; stop it first") from None
    return lock


@contextmanager
def held_file(path: Path) -> Iterator[None]:
    """Holds the file, made if there is none, for a moment; waits for another who does. Raises OSError."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
