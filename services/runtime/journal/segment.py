"""A segment: one file of a journal's records. The newest is appended to; the others are closed and have an index."""

import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from services.runtime.journal import record
from services.runtime.journal.index import INDEX_BYTES, read_summary, read_tracks, write_index
from services.runtime.journal.record import Key, Track, Tracks
from services.runtime.ranges import Ranges

SUFFIX = ".segment"


class Segment:
    """One file of records.

    size: bytes of the file. records: how many it holds. runs: their sequence numbers by key.
    oldest_us, newest_us: when its first and last record were written, by the journal's own clock.
    wanted: the keys, by stream, that a required recorder has not all of. grown: whether it has grown since it was last
    synced; the shelf keeps both.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.path = folder / f"{number:012d}{SUFFIX}"
        self.index_path = self.path.with_suffix(".index")
        self.size = 0
        self.records = 0
        self.oldest_us = 0
        self.newest_us = 0
        self.runs: dict[Key, Ranges] = {}
        self.wanted: dict[int, set[Key]] = {}
        self.grown = False
        self._tracks: Tracks | None = None
        self._fd = -1

    @property
    def disk_bytes(self) -> int:
        """Bytes that the segment and its index take."""
        return self.size + INDEX_BYTES * self.records

    @classmethod
    def create(cls, folder: Path, number: int, *, now_us: int) -> "Segment":
        """An empty segment, to be appended to. Raises OSError."""
        segment = cls(folder, number)
        segment._fd = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        segment._tracks = {}
        segment.oldest_us = segment.newest_us = now_us
        return segment

    @classmethod
    def recover(cls, folder: Path, number: int, *, newest: bool, now_us: int) -> "Segment":
        """A closed segment as an earlier process left it. newest: what is torn at its end is cut off.

        Reads the head of its index, or the whole segment where it has no index that fits: its age then counts from now.
        """
        segment = cls(folder, number)
        status = segment.path.stat()
        summary = read_summary(segment.index_path)
        if summary and summary.size == status.st_size:
            segment.size, segment.records, segment.runs = summary.size, summary.records, summary.runs
            segment.oldest_us, segment.newest_us = summary.oldest_us, summary.newest_us
            return segment
        tracks, end = record.scan(segment.path.read_bytes())
        if newest and end < status.st_size:
            os.truncate(segment.path, end)
        segment.size = end if newest else status.st_size
        segment.oldest_us = segment.newest_us = now_us
        segment.records = sum(len(track.seqs) for track in tracks.values())
        segment.runs = {key: track.runs for key, track in tracks.items()}
        segment._tracks = tracks
        segment.seal()
        return segment

    def append(self, key: Key, seq: int, payload: bytes, *, now_us: int) -> int:
        """Writes one record and returns by how many bytes the segment has grown. seq: above all of this key.

        Raises OSError if the disk refuses; nothing is then added.
        """
        if self._tracks is None:
            raise ValueError(f"{self.path} is closed")
        data = record.pack(key, seq, payload)
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = Track()
            self.runs[key] = track.runs
        track.add(seq, self.size)
        self.size += len(data)
        self.records += 1
        self.newest_us = now_us
        self.grown = True
        return len(data) + INDEX_BYTES

    def seal(self) -> None:
        """Closes the segment for appending and writes its index, which a full disk may cost: it can be made anew."""
        if self._tracks is not None:
            with suppress(OSError):
                write_index(
                    self.index_path,
                    self._tracks,
                    size=self.size,
                    oldest_us=self.oldest_us,
                    newest_us=self.newest_us,
                )
            self._tracks = None

    def detach(self) -> int:
        """The file descriptor, for another to sync and close; -1 if there is none any more."""
        fd, self._fd = self._fd, -1
        return fd

    def duplicate(self) -> int:
        """A second file descriptor, for another to sync and close. Raises OSError."""
        return os.dup(self._fd)

    def read(self, key: Key, first: int, last: int, *, tracks: Tracks) -> Iterator[tuple[int, bytes | None]]:
        """The key's records first..last of its runs; None for one that the disk does not give back as it was.

        tracks: as located() gives them. Raises OSError where the segment is there and cannot be opened now, as when
        the process has no file descriptor left: that says nothing of its records.
        """
        sought = [
            seq for begin, end in self.runs.get(key, Ranges()).within(first, last) for seq in range(begin, end + 1)
        ]
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield from ((seq, None) for seq in sought)
            return
        try:
            track = tracks.get(key, Track())
            for seq in sought:
                at = bisect_left(track.seqs, seq)
                found = at < len(track.seqs) and track.seqs[at] == seq
                yield seq, record.read_at(fd, track.offsets[at], key=key, seq=seq) if found else None
        finally:
            os.close(fd)

    def located(self) -> Tracks:
        """Where each record stands: known while open, else from the index, else by reading the segment.

        Raises OSError as read() does.
        """
        if self._tracks is not None:
            return self._tracks
        tracks = read_tracks(self.index_path)
        if tracks is not None:
            return tracks
        try:
            return record.scan(self.path.read_bytes())[0]
        except FileNotFoundError:
            return {}


def unlink_segment(folder: Path, number: int) -> None:
    """Removes the index, then the segment: an index must not outlive what it describes. Raises OSError."""
    path = folder / f"{number:012d}{SUFFIX}"
    path.with_suffix(".index").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
