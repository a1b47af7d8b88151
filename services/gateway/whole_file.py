"""Files that are changed as a whole or not at all, and stay changed through a power cut."""

import os
from pathlib import Path


def read_text(path: Path) -> str | None:
    """The file's text; None if there is no file. Raises OSError."""
    try:
        return path.read_bytes().decode("utf-8", errors="surrogateescape")  # line ends stay as they are
    except FileNotFoundError:
        return None


def write_whole(path: Path, text: str) -> None:
    """Puts the text in the file's place; who reads meanwhile gets the one or the other. Raises OSError.

    A link stays, and the file that it leads to gets the text.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        partial.chmod(path.stat().st_mode & 0o777)
    partial.replace(path)
    _sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes the file if it is there. Raises OSError."""
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
