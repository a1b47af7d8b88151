"""How far the versions of aggregates have been counted: a file that each new version is added to.

One line per version given, `scope/aggregate/id number`; opening the file leaves one line per aggregate. A line is one
write(), so that a SIGKILL loses none; sync() brings what was written to the disk. Number 0: the aggregate is over.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from threading import Lock

from contracts.topic import LEVEL_PATTERN

_MOST_LINES = 50_000
_NAME = re.compile(f"{LEVEL_PATTERN}/{LEVEL_PATTERN}/{LEVEL_PATTERN}")


class Versions:
    """The last version of each aggregate. Used by one process; sync() by any of its threads."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one; starts on a full disk too. Raises OSError if it cannot be read."""
        self._path = path
        self._last = _read(path)
        self._lines = 0
        self._behind = False
        self._descriptor = -1
        self._turn = Lock()
        try:
            self._rewrite()
        except OSError:
            self._behind = True

    def last(self, aggregate: str) -> int:
        """The version that was given last; 0 before the first."""
        return self._last.get(aggregate, 0)

    def next(self, aggregate: str, *, count: int = 1) -> int:
        """The aggregate's next version: 1, 2, 3, ... count: so many are taken; the first of them is given.

        Counts on while the disk is full; the file is written anew as soon as the disk takes it.
        """
        last = self._last.get(aggregate, 0)
        self._last[aggregate] = last + count
        self._write(f"{aggregate} {last + count}\n".encode())
        return last + 1

    def forget(self, aggregate: str) -> None:
        """Nothing more happens to the aggregate."""
        if self._last.pop(aggregate, 0):
            self._write(f"{aggregate} 0\n".encode())

    def open_of(self) -> list[str]:
        """The aggregates that were not forgotten."""
        return list(self._last)

    def _write(self, line: bytes) -> None:
        with self._turn:
            try:
                if self._behind or self._lines >= _MOST_LINES:
                    self._rewrite()
                else:
                    self._behind = os.write(self._descriptor, line) != len(line)
                    self._lines += 1
            except OSError:
                self._behind = True

    def sync(self) -> None:
        """Returns once all versions given are on the disk. Raises OSError."""
        if self._behind:
            with self._turn:
                self._rewrite()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Syncs and closes the file. Idempotent."""
        if self._descriptor >= 0 or self._behind:
            with suppress(OSError):
                self.sync()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rewrite(self) -> None:
        """Leaves one line per aggregate; the file is whole at every moment."""
        partial = self._path.with_name(self._path.name + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            # As a list, which is made in one step: versions are given meanwhile.
            file.writelines(f"{name} {version}\n" for name, version in list(self._last.items()))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._lines = 0
        self._behind = False


def _read(path: Path) -> dict[str, int]:
    """The file's last version per aggregate. A last line without its end was cut off by a crash and does not count.

    Nor does one that the disk has not given back as it was: with it a service would not start at all.
    """
    if not path.exists():
        return {}
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    last: dict[str, int] = {}
    for line in whole.splitlines():
        name, _, version = line.rpartition(" ")
        if not _NAME.fullmatch(name):
            continue
        if version == "0":
            last.pop(name, None)
        elif version.isascii() and version.isdecimal():
            last[name] = max(last.get(name, 0), int(version))
    return last
