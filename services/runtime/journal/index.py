"""The index of a closed segment: a summary that recovery reads, then where each record stands.

head: magic, CRC-32 and length of the summary; summary: JSON; then per track its sequence numbers (8 bytes each) and its
offsets (4 bytes each). A journal stays on its machine, so the numbers have the machine's byte order.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from zlib import crc32

from services.runtime.journal.record import Key, Track, Tracks
from services.runtime.ranges import Ranges

INDEX_BYTES = 12
"""What the index takes for each record; its head is not worth counting."""

_HEAD = Struct("<4sII")
_MAGIC = b"DRX1"


@dataclass(frozen=True, slots=True)
class Summary:
    """What recovery wants to know of a segment without reading it.

    size: of the segment in bytes. oldest_us, newest_us: when its first and last record were written, by the journal's
    own clock. records: how many it has. runs: their sequence numbers.
    """

    size: int
    oldest_us: int
    newest_us: int
    records: int
    runs: dict[Key, Ranges]


def write_index(path: Path, tracks: Tracks, *, size: int, oldest_us: int, newest_us: int) -> None:
    """Writes the index. Raises OSError."""
    positions = b"".join(part for track in tracks.values() for part in (track.seqs.tobytes(), track.offsets.tobytes()))
    summary = {
        "size": size,
        "oldest_us": oldest_us,
        "newest_us": newest_us,
        "crc": crc32(positions),
        "tracks": [[*key, len(track.seqs), list(track.runs)] for key, track in tracks.items()],
    }
    data = json.dumps(summary).encode()
    path.write_bytes(_HEAD.pack(_MAGIC, crc32(data), len(data)) + data + positions)


def read_summary(path: Path) -> Summary | None:
    """The summary; None if there is no index or it is damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
            length = _HEAD.unpack(head)[2] if len(head) == _HEAD.size else 0
            data = _checked(head, file.read(length))
    except OSError:
        return None
    return None if data is None else _summary(data)


def read_tracks(path: Path) -> Tracks | None:
    """Where each record stands; None if there is no index or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = content[: _HEAD.size]
    start = _HEAD.size + (_HEAD.unpack(head)[2] if len(head) == _HEAD.size else 0)
    data = _checked(head, content[_HEAD.size : start])
    if data is None:
        return None
    fields = json.loads(data)
    if crc32(content[start:]) != fields["crc"]:
        return None
    tracks: Tracks = {}
    for stream, epoch, count, runs in fields["tracks"]:
        track = tracks[stream, epoch] = Track(_ranges(runs))
        track.seqs.frombytes(content[start : start + 8 * count])
        track.offsets.frombytes(content[start + 8 * count : start + 12 * count])
        start += 12 * count
    return tracks


def _checked(head: bytes, data: bytes) -> bytes | None:
    if len(head) < _HEAD.size:
        return None
    magic, crc, length = _HEAD.unpack(head)
    return data if magic == _MAGIC and len(data) == length and crc32(data) == crc else None


def _summary(data: bytes) -> Summary:
    fields = json.loads(data)
    tracks = fields["tracks"]
    return Summary(
        size=fields["size"],
        oldest_us=fields["oldest_us"],
        newest_us=fields["newest_us"],
        records=sum(count for _, _, count, _ in tracks),
        runs={(stream, epoch): _ranges(runs) for stream, epoch, _, runs in tracks},
    )


def _ranges(runs: list[tuple[int, int]]) -> Ranges:
    return Ranges((first, last) for first, last in runs)
