"""The folder of a command book: its pages in the order in which they were written, and what earlier processes left."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from services.runtime.commands.answers import Key, key_of
from services.runtime.commands.page import SUFFIX, Kind, Page, Record, read_page, unpack_command
from services.runtime.logs import Log
from services.runtime.mqtt.delivery import Delivery


class Begun(NamedTuple):
    """A command's number, and the page on which it is entered."""

    number: int
    page: Page


class Entry(NamedTuple):
    """A command as it was entered. keep_s: how long it is to be known."""

    begun: Begun
    command: Delivery[bytes]
    keep_s: int


@dataclass(slots=True)
class Found:
    """What earlier processes have left, oldest first: pages, commands, and the last record of each by its number.

    last: the highest number of all.
    """

    pages: list[Page] = field(default_factory=list)
    commands: dict[Key, Entry] = field(default_factory=dict)
    ends: dict[int, Record] = field(default_factory=dict)
    last: int = 0


class Shelf:
    """The pages in a folder. A page that is made is behind all others, so later commands stand on later pages."""

    def __init__(self, folder: Path, *, log: Log) -> None:
        self._folder = folder
        self._log = log

    def make_page(self) -> Page:
        """Makes a page, and the folder if there is none. Raises OSError, and leaves no page behind."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return Page.create(self._folder, max((int(path.stem) for path in self._paths()), default=0) + 1)

    def open(self) -> tuple[Found, Page]:
        """Reads what there is, and makes a page to write on. Raises OSError, and leaves no page behind."""
        found = Found()
        for path in self._paths():
            self._read(path, found)
        return found, self.make_page()

    def _paths(self) -> list[Path]:
        """What somebody else has put there is none of ours."""
        return sorted(path for path in self._folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())

    def _read(self, path: Path, found: Found) -> None:
        content = read_page(path)
        if content.damaged:  # the last entries before a power cut, which were not begun; or worse
            self._log.warning("book_page_damaged", path=str(path))
        elif not content.records:
            path.unlink()
            return
        page = Page(path)
        found.pages.append(page)
        for kind, number, body in content.records:
            found.last = max(found.last, number)  # of an answer without its command too: it shall be nobody else's
            if kind == Kind.BEGUN:
                command, keep_s = unpack_command(body)
                key = key_of(command)
                found.commands.pop(key, None)  # one that was forgotten, and then done anew
                found.commands[key] = Entry(Begun(number, page), command, keep_s)
            else:
                found.ends[number] = Record(kind, number, body)
