"""What a child process prints, kept in files whose total size is bounded."""

from pathlib import Path

MOST_BYTES = 5 << 20
FILES = 3


class LogFile:
    """A file that is moved to NAME.1, NAME.2 ... when it is full; the oldest goes.

    most_bytes: size at which a file is full. files: how many are kept, the current one included.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES, files: int = FILES) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._files = files
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def write(self, data: bytes) -> None:
        """Appends and flushes."""
        if self._file.tell() + len(data) > self._most_bytes:
            self._rotate()
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """Closes the file; nothing may be written afterwards."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._files - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._file = self.path.open("wb")

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")
