"""The disk under the books of commands, held until a test lets it go."""

import os
import threading
from pathlib import Path

from services.runtime.commands.page import SUFFIX


class BookSync:
    """The sync of command books' pages. asked: there was one. allowed: it is done, or fails if there is an error."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.allowed = threading.Event()
        self.error: OSError | None = None
        self._sync = os.fdatasync

    def __call__(self, fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == SUFFIX:
            self.asked.set()
            assert self.allowed.wait(30)
            if self.error:
                raise self.error
        self._sync(fd)
