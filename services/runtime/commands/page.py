"""A page of the command book: a file of records, framed as the journal's are, and made in full size before it is used.

A record written over bytes that the file has is on the disk after one fdatasync. Where a file grows, the file system
must write its own journal too: on ext4 the median is then 15 % higher and the 99th percentile 3 ms instead of 0.5.
"""

import os
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from services.runtime.journal.record import OVERHEAD, pack, records
from services.runtime.mqtt.delivery import Delivery

PAGE_BYTES = 1 << 20
SUFFIX = ".page"
_HEAD = Struct("<IHHH")
_NONE = 0xFFFF
"""The length of a response topic that there is none of; MQTT's own greatest length is never reached by our topics."""


class Kind(IntEnum):
    """What a record says of the command with its number."""

    BEGUN = 1
    ANSWERED = 2
    WITHDRAWN = 3


class Record(NamedTuple):
    """number: of the command, ascending over all pages. body: the command or its answer, in bytes."""

    kind: int
    number: int
    body: bytes


class Content(NamedTuple):
    """A page's whole records. damaged: there are bytes between or behind them that are none and not empty."""

    records: list[Record]
    damaged: bool


@dataclass(slots=True, eq=False)
class Page:
    """One file. until_s: when nothing in it matters any more, by the clock's monotonic()."""

    path: Path
    until_s: float = 0.0
    _fd: int = -1
    _used: int = 0
    _synced: int = 0
    _failure: OSError | None = None

    @classmethod
    def create(cls, folder: Path, number: int) -> "Page":
        """A new page, on the disk with its name. Raises OSError, and leaves nothing behind."""
        path = folder / f"{number:012d}{SUFFIX}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            _write_at(fd, bytes(PAGE_BYTES), 0)
            os.fsync(fd)
            _sync_folder(folder)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return cls(path, _fd=fd)

    @property
    def filling(self) -> bool:
        """Whether it is time for the next page; this one still takes all that comes until then."""
        return self._used > PAGE_BYTES // 2

    @property
    def full(self) -> bool:
        """Whether what is written makes the file grow."""
        return self._used >= PAGE_BYTES

    def write(self, record: Record) -> None:
        """Adds a record: from now on a SIGKILL does not lose it. Raises OSError; nothing is then added."""
        data = pack((record.kind, 0), record.number, record.body)
        _write_at(self._fd, data, self._used)
        self._used += len(data)

    def sync(self) -> None:
        """Returns when all that was written before is on the disk. To be called by one thread. Raises OSError."""
        if self._failure is not None:
            raise self._failure  # the kernel tells of lost writes once, and then says that all is well
        used = self._used
        if used > self._synced:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._failure = error
                raise
            self._synced = used

    def close(self) -> None:
        """Takes no more records. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_page(path: Path) -> Content:
    """Reads a page as an earlier process left it. Raises OSError."""
    data = path.read_bytes()
    found, last_end, gap = [], 0, False
    for (kind, _), number, offset, end in records(data):
        found.append(Record(kind, number, data[offset + OVERHEAD : end]))
        gap = gap or offset != last_end
        last_end = end
    return Content(found, damaged=gap or data.count(0, last_end) != len(data) - last_end)


def pack_command(command: Delivery[bytes], keep_s: int) -> bytes:
    """The command as it came, without its place in time. keep_s: how long it is to be known."""
    topic, response = command.topic.encode(), command.response_topic
    response_bytes = (response or "").encode()
    correlation = command.correlation or b""
    length = _NONE if response is None else len(response_bytes)
    head = _HEAD.pack(keep_s, len(topic), length, len(correlation))
    return b"".join((head, topic, response_bytes, correlation, command.payload))


def unpack_command(body: bytes) -> tuple[Delivery[bytes], int]:
    """The command and its keep_s."""
    keep_s, topic, response, correlation = _HEAD.unpack_from(body)
    ends = [_HEAD.size, _HEAD.size + topic]
    ends.append(ends[-1] + (0 if response == _NONE else response))
    ends.append(ends[-1] + correlation)
    command = Delivery(
        topic=body[ends[0] : ends[1]].decode(),
        levels={},
        payload=body[ends[3] :],
        response_topic=None if response == _NONE else body[ends[1] : ends[2]].decode(),
        correlation=body[ends[2] : ends[3]],
    )
    return command, keep_s


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
