"""The values of one tag over a stretch of time, packed: what the embedded history keeps. Pure.

A chunk holds up to some thousand values of one kind. Layout, little-endian as every machine that we build for, and
compressed whole by zstd level 1:

    u8 format (2) · u8 kind · u32 n · u32 number of runs
    runs of quality: u32 length · u8 quality · u8 1 if there is a value, else 0
    values, only those that are there, by kind:
        f  binary64, byte-transposed          i  i64 differences (mod 2^64), byte-transposed
        b  one byte each                      s  JSON array of strings
        a  JSON array of arrays               x  JSON array of integers beyond int64, as strings
        n  nothing: no value in the whole chunk

The times stand apart, compressed by themselves, once for all tags that share them: polls come some milliseconds early
or late, so that they take up to 3 bytes each.

    times: i64 first · n i64 differences of differences, byte-transposed (all lowest bytes first, ...)

In format 1, which is read still, they follow the runs.

Transposed, the bytes that hardly change (sign, exponent, high bytes) stand side by side, which is what makes zstd
bite: 4 to 5 bytes per value at 0.2 µs (bench/history.py).
"""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, islice, pairwise, repeat
from operator import sub
from struct import Struct, error
from typing import Any

import msgspec
import zstandard

FORMAT = 2
_TIMES_INSIDE = 1

_HEAD = Struct("<BBII")
_RUN = Struct("<IBB")
_FIRST = Struct("<q")
_MASK = (1 << 64) - 1
_SIGN = 1 << 63

Value = bool | int | float | str | list[int | float] | None


class Kind(StrEnum):
    """The type of a chunk's values."""

    FLOAT = "f"
    INT = "i"
    BOOL = "b"
    STRING = "s"
    ARRAY = "a"
    BIG = "x"
    NONE = "n"


class ChunkError(ValueError):
    """The bytes are no chunk that this version can read."""


@dataclass(frozen=True, slots=True)
class Run:
    """So many values in a row with one quality; present: whether they are there at all."""

    length: int
    q: int
    present: bool


def kind_of(value: Value) -> Kind:
    """The kind of chunk that can hold the value with its type."""
    if type(value) is int and not -_SIGN <= value < _SIGN:
        return Kind.BIG
    return _KINDS[type(value)]


_KINDS: dict[type, Kind] = {
    float: Kind.FLOAT,
    bool: Kind.BOOL,
    int: Kind.INT,
    str: Kind.STRING,
    list: Kind.ARRAY,
    type(None): Kind.NONE,
}


def pack_times(times: Sequence[int]) -> bytes:
    """The times, not compressed yet: microseconds, at least one. Tags that share their times share these bytes too."""
    deltas = array("q", map(sub, times[1:], times))
    # The first difference stands as it is, and before it a zero, so that there are n of them.
    seconds = array("q", (0, *deltas[:1], *map(sub, deltas[1:], deltas)))
    return _FIRST.pack(times[0]) + _transposed(seconds.tobytes())


class Encoder:
    """Makes chunks, one at a time: the compressor that it keeps is half the cost if made anew for each."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=1)

    def compressed(self, times: bytes) -> bytes:
        """The times, from pack_times, as decode() takes them."""
        return self._compressor.compress(times)

    def encode(self, kind: Kind, values: Sequence[Value], runs: Sequence[Run]) -> bytes:
        """A chunk without its times. values: those that are there, all of `kind`. runs: cover every time."""
        head = _HEAD.pack(FORMAT, ord(kind), sum(run.length for run in runs), len(runs))
        quality = b"".join(_RUN.pack(run.length, run.q, run.present) for run in runs)
        return self._compressor.compress(b"".join((head, quality, _PACK[kind](values))))


def decode(body: bytes, apart: bytes | None) -> list[tuple[int, Value, int]]:
    """(time, value, quality) of every value of a chunk, in the order they were given. Raises ChunkError.

    apart: its times, see Encoder.compressed(); None for a chunk that has them inside.
    """
    try:
        decompressor = zstandard.ZstdDecompressor()
        data = decompressor.decompress(body)
        form, kind, n, run_count = _HEAD.unpack_from(data)
        if form != (_TIMES_INSIDE if apart is None else FORMAT):
            kept = "inside" if apart is None else "apart"
            raise ChunkError(f"format {form}, times {kept}; this version reads {_TIMES_INSIDE} and {FORMAT}")
        runs = [Run(*_RUN.unpack_from(data, _HEAD.size + at * _RUN.size)) for at in range(run_count)]
        at = _HEAD.size + run_count * _RUN.size
        end = at + _FIRST.size + 8 * n if apart is None else at
        times = _unpack_times(data[at:end] if apart is None else decompressor.decompress(apart))
        values = _UNPACK[Kind(chr(kind))](data[end:])
    except (zstandard.ZstdError, error, ValueError, msgspec.DecodeError) as broken:
        raise broken if isinstance(broken, ChunkError) else ChunkError(str(broken)) from None
    here = sum(run.length for run in runs if run.present)
    if len(times) != n or sum(run.length for run in runs) != n or here != len(values):
        raise ChunkError("runs, times and values do not match")
    if len(runs) == 1 and runs[0].present:
        return list(zip(times, values, repeat(runs[0].q)))
    return list(zip(times, _spread(runs, values), _qualities(runs), strict=True))


def _spread(runs: Iterable[Run], values: Sequence[Value]) -> Iterator[Value]:
    here = iter(values)
    for run in runs:
        yield from islice(here, run.length) if run.present else repeat(None, run.length)


def _qualities(runs: Iterable[Run]) -> Iterator[int]:
    for run in runs:
        yield from repeat(run.q, run.length)


def _transposed(raw: bytes) -> bytes:
    return b"".join(raw[byte::8] for byte in range(8))


def _restored(raw: bytes) -> bytes:
    n = len(raw) // 8
    restored = bytearray(len(raw))
    for byte in range(8):
        restored[byte::8] = raw[byte * n : (byte + 1) * n]
    return bytes(restored)


def _unpack_times(data: bytes) -> list[int]:
    (first,) = _FIRST.unpack_from(data)
    seconds = array("q", _restored(data[_FIRST.size :]))
    deltas = accumulate(seconds)
    return list(accumulate(deltas, initial=first))[1:]


def _differences(values: Sequence[int]) -> "array[int]":
    """The first value and then each one's difference from the one before."""
    try:
        return array("q", (*values[:1], *map(sub, values[1:], values)))
    except OverflowError:
        return array("q", (*values[:1], *(_signed((b - a) & _MASK) for a, b in pairwise(values))))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= _SIGN else word


def _integers(data: bytes) -> list[int]:
    return [_signed(total & _MASK) for total in accumulate(array("q", _restored(data)))]


_PACK: dict[Kind, Callable[[Sequence[Any]], bytes]] = {
    Kind.FLOAT: lambda values: _transposed(array("d", values).tobytes()),
    Kind.INT: lambda values: _transposed(_differences(values).tobytes()),
    Kind.BOOL: bytes,
    Kind.STRING: msgspec.json.encode,
    Kind.ARRAY: lambda values: json.dumps(values, separators=(",", ":")).encode(),
    Kind.BIG: lambda values: msgspec.json.encode([str(value) for value in values]),
    Kind.NONE: lambda _: b"",
}
_UNPACK: dict[Kind, Callable[[bytes], list[Any]]] = {
    Kind.FLOAT: lambda data: array("d", _restored(data)).tolist(),
    Kind.INT: _integers,
    Kind.BOOL: lambda data: [byte == 1 for byte in data],
    Kind.STRING: lambda data: msgspec.json.decode(data, type=list[str]),
    Kind.ARRAY: json.loads,
    Kind.BIG: lambda data: [int(digits) for digits in msgspec.json.decode(data, type=list[str])],
    Kind.NONE: lambda _: [],
}
