"""Programs and libraries that tests fetch once into the user's cache."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dinrail"


@contextmanager
def kept(name: str) -> Iterator[Path]:
    """The folder for what has this name, for this process alone meanwhile: two would fetch into each other's files."""
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
