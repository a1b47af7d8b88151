"""A journal's record: magic, CRC-32 of what follows, payload length, stream, epoch, sequence number, payload.

All integers are little-endian. The magic only serves to find the next record after a damaged one.
"""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from zlib import crc32

from services.runtime.ranges import Ranges

Key = tuple[int, int]
"""Number of a stream in the journal's ledger, and an epoch of it."""

MOST_PAYLOAD = 1 << 24
_MAGIC = b"DRJ1"
_HEAD = Struct("<4sI")
_BODY = Struct("<IIQQ")
OVERHEAD = _HEAD.size + _BODY.size


@dataclass(slots=True)
class Track:
    """Where the records of one key stand in a segment, in ascending order of their sequence numbers."""

    runs: Ranges = field(default_factory=Ranges)
    seqs: "array[int]" = field(default_factory=lambda: array("Q"))
    offsets: "array[int]" = field(default_factory=lambda: array("I"))

    def add(self, seq: int, offset: int) -> None:
        """Takes note of a record. seq: above all before it."""
        self.runs.add(seq, seq)
        self.seqs.append(seq)
        self.offsets.append(offset)


Tracks = dict[Key, Track]


def pack(key: Key, seq: int, payload: bytes) -> bytes:
    """The record in one piece: the kernel takes a gathered write piece by piece, which costs more than joining."""
    body = _BODY.pack(len(payload), *key, seq)
    return b"".join((_HEAD.pack(_MAGIC, crc32(payload, crc32(body))), body, payload))


def read_at(fd: int, offset: int, *, key: Key, seq: int) -> bytes | None:
    """The payload of the record that should stand at this offset; None if it is damaged, or the disk refuses it."""
    try:
        head = os.pread(fd, OVERHEAD, offset)
        if len(head) < OVERHEAD:
            return None
        length = _BODY.unpack_from(head, _HEAD.size)[0]
        if length > MOST_PAYLOAD:
            return None
        data = head + os.pread(fd, length, offset + OVERHEAD)
    except OSError:
        return None
    found = _parse(data, 0)
    return data[OVERHEAD:] if found and found[:2] == (key, seq) else None


def scan(data: bytes) -> tuple[Tracks, int]:
    """Every whole record in a segment's content, and the offset at which the last one ends.

    What stands between records and is none is skipped; a record whose number is not above the ones before it too.
    """
    tracks: Tracks = {}
    last_end = 0
    for key, seq, offset, end in records(data):
        last_end = end
        track = tracks.setdefault(key, Track())
        if seq > track.runs.last:
            track.add(seq, offset)
    return tracks, last_end


def records(data: bytes) -> Iterator[tuple[Key, int, int, int]]:
    """Key, sequence number, offset and end of every whole record."""
    offset = 0
    while 0 <= offset < len(data):
        found = _parse(data, offset)
        if found:
            key, seq, end = found
            yield key, seq, offset, end
            offset = end
        else:
            offset = data.find(_MAGIC, offset + 1)


def _parse(data: bytes, offset: int) -> tuple[Key, int, int] | None:
    """Key, sequence number and end of the record at the offset, if there is a whole and undamaged one."""
    start = offset + OVERHEAD
    if start > len(data):
        return None
    magic, crc = _HEAD.unpack_from(data, offset)
    length, stream, epoch, seq = _BODY.unpack_from(data, offset + _HEAD.size)
    end = start + length
    if magic != _MAGIC or length > MOST_PAYLOAD or end > len(data):
        return None
    if crc32(memoryview(data)[offset + _HEAD.size : end]) != crc:
        return None
    return (stream, epoch), seq, end
