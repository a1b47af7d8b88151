"""The ends of the event chain, one a day, in a file of their own: `DAY NUMBER:LINK`, to be kept on another machine."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_TAIL = 4096
"""Bytes at the end of the file that are looked at: the last line is in them."""


@dataclass(frozen=True, slots=True)
class AnchorFile:
    """Is only ever added to."""

    path: Path

    def put(self, number: int, link: bytes, *, now_us: int) -> None:
        """Adds the chain's end, unless it was added today or is the last one that was. Blocking. Raises OSError."""
        day = datetime.fromtimestamp(now_us / 1e6, UTC).date().isoformat()
        anchor = f"{number}:{link.hex()}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(max(0, file.tell() - _TAIL))
            told = file.read()
            lines = told.split(b"\n")
            last = next((line for line in reversed(lines) if line), b"").decode(errors="replace").split()
            if last[:1] == [day] or last[1:] == [anchor]:
                return
            # What a power cut has left of a line gets its end, so that it spoils no other.
            begin = "" if not told or told.endswith(b"\n") else "\n"
            file.write(f"{begin}{day} {anchor}\n".encode())
            file.flush()
            os.fsync(file.fileno())
