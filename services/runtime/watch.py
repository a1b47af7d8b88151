"""Notices that files have changed, by looking at them again and again.

Notifications of the system would be sooner, but do not come from network folders, nor for the file behind a link that
containers mount. A look costs one stat per file. What an editor writes in several steps counts as one change: files are
changed once two looks in a row have found them the same.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Mark = tuple[int, int, int, int]
"""Time of change in nanoseconds, size, inode, and time of the inode's change: a file put in another's place has another
inode, and one whose clock was set back has another time of its inode."""


def marks(paths: Iterable[Path]) -> dict[Path, Mark]:
    """How the files are now; those that are gone are left out."""
    found: dict[Path, Mark] = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_ctime_ns)
    return found


class Watch:
    """Looks every so many seconds. look: how the files are now; it runs in a thread, since a folder may hang."""

    def __init__(self, look: Callable[[], Mapping[Path, Mark]], *, every_s: float) -> None:
        self._look = look
        self._every_s = every_s
        self._known: Mapping[Path, Mark] | None = None

    async def begin(self) -> None:
        """What is there now is known. To be called before the files are read for the first time."""
        self._known = await asyncio.to_thread(self._look)

    async def changed(self) -> set[Path]:
        """The files that came, went or changed since the last call, once they rest."""
        before = self._known or {}
        last = before
        while True:
            await asyncio.sleep(self._every_s)
            now = await asyncio.to_thread(self._look)
            if now == last and now != before:
                self._known = now
                return {path for path in {*before, *now} if before.get(path) != now.get(path)}
            last = now
