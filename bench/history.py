"""What it costs to keep history: python -m bench.history [--values N] [--folder PATH]. Prints JSON lines.

`embedded` is the whole way of a frame inside the recorder, in one process: header read, committed to the spool with
fsync in groups of 50, read back, decoded, packed, inserted, removed from the spool. `line` is the making of InfluxDB
lines with level-1 gzip, without the sending. Two sets of values: `float` has 500 float32 per frame; `plant` has the mix
of a bottling line: noise, ramps, counters, states, texts, one broken sensor. `file` counts the pages in use: chunks,
roll-up, indexes. `buckets` asks for one tag in about 1,000 buckets, out of so many values (--buckets) of 1,000 tags,
and of that tag alone; there once in buckets of whole minutes and once in such as divide minutes.
"""

import argparse
import asyncio
import gzip
import json
import math
import random
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from contracts.v1.frame_codec import FrameStruct, QualityStruct, SampleStruct, encode_frame
from services.recorder.database import Database
from services.recorder.embedded.axis import MINUTE_US
from services.recorder.embedded.history import History
from services.recorder.embedded.packing import pack, write
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.influxdb.line import LineWriter
from services.recorder.spool.admission import admit
from services.recorder.spool.deadletters import DeadLetter, DeadLetters
from services.recorder.spool.frames import DeviceFrame, FrameReader, Spooled
from services.recorder.spool.spool import Spool
from services.runtime.clock import SystemClock
from services.runtime.gaps import Gaps

TAGS = 500
GROUP_COMMIT = 50
START_US = 1_700_000_000_000_000
_BODIES = "SELECT (SELECT sum(length(body)) FROM chunk) + (SELECT sum(length(body)) FROM axis)"
TOPIC = "dinrail/v1/bench/frame/plc/fast"


@dataclass(frozen=True)
class Message:
    """A frame as it comes from the broker."""

    topic: str
    payload: bytes


def float32(value: float) -> float:
    """The number nearest to it that a float32 holds."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def plain(rng: random.Random, at: int) -> SampleStruct:
    """A frame's sample of 500 noisy sines as float32. at: its place, one each 100 ms, with up to 0.5 ms of jitter."""
    t = START_US + 100_000 * at + rng.randrange(500)
    return SampleStruct(
        t=t, v={f"tag-{i:03}": float32(50 + 40 * math.sin(at / 50 + i) + rng.random()) for i in range(TAGS)}
    )


def plant(rng: random.Random, at: int) -> SampleStruct:
    """A frame's sample of the mix of a bottling line, one broken sensor among it. at: as in plain()."""
    kinds: list[Callable[[int], Any]] = [
        lambda i: float32(50 + 40 * math.sin(at / 50 + i) + rng.gauss(0, 0.1)),
        lambda i: round(20 + 5 * math.sin(at / 300 + i), 1),
        lambda i: at * (i % 7 + 1),
        lambda i: (at // 37 + i) % 5 == 0,
        lambda i: 3 if (at // 600) % 2 else 1,
        lambda i: f"recipe-{(at // 900 + i) % 4}",
    ]
    weights = (40, 30, 12, 12, 4, 2)
    picks = random.Random(1).choices(range(len(kinds)), weights, k=TAGS)
    v = {f"tag-{i:03}": kinds[pick](i) for i, pick in enumerate(picks)}
    v["tag-000"] = None
    t = START_US + 100_000 * at + rng.randrange(500)
    return SampleStruct(t=t, v=v, q={"tag-000": QualityStruct(q=0, cause="comm")})


def messages(make: Callable[[random.Random, int], SampleStruct], frames: int) -> list[Message]:
    """So many frames of one stream, the same at each run."""
    rng = random.Random(42)
    return [
        Message(TOPIC, encode_frame(FrameStruct(epoch=1, seq=at + 1, rev="r", samples=[make(rng, at)]), topic=TOPIC))
        for at in range(frames)
    ]


@contextmanager
def measured(what: str, values: int, **more: str) -> Iterator[dict[str, Any]]:
    """Prints the row with what the body's values cost; the body may add to the row."""
    row: dict[str, Any] = {"bench": "history", "what": what, **more, "values": values}
    wall, cpu = time.perf_counter(), time.process_time()
    yield row
    row["values_per_s"] = round(values / (time.perf_counter() - wall))
    row["cpu_us_per_value"] = round((time.process_time() - cpu) / values * 1e6, 3)
    print(json.dumps(row), flush=True)


async def embedded(folder: Path, given: list[Message], **more: str) -> None:
    """The whole way into a database in the folder, and what it takes there in bytes per value."""
    path = folder / "recorder.db"
    async with Database(path) as database:
        spool = Spool(database=database, letters=DeadLetters(), clock=SystemClock())
        await spool.load()
        store = EmbeddedStore(batch_bytes=8 << 20, flush_s=300, chunk_values=1000)
        reader, gaps = FrameReader(), Gaps()
        with measured("embedded", len(given) * TAGS, **more) as row:
            for start in range(0, len(given), GROUP_COMMIT):
                await spool.commit(admit(given[start : start + GROUP_COMMIT], spool.marks, gaps, site="bench"))
                if spool.bytes >= store.batch_bytes:
                    await settle(spool, store, reader)
            while spool.rows:
                await settle(spool, store, reader)
            size = await database.transaction(lambda sql: sql.execute(_BODIES).fetchone())
            row["chunk_bytes_per_value"] = round(size[0] / (len(given) * TAGS), 2)
            pages = [
                await database.transaction(partial(pragma, what))
                for what in ("page_count", "freelist_count", "page_size")
            ]
            row["payload_bytes_per_value"] = round(sum(len(one.payload) for one in given) / (len(given) * TAGS), 2)
    row = {
        "bench": "history",
        "what": "file",
        **more,
        "bytes_per_value": round((pages[0] - pages[1]) * pages[2] / (len(given) * TAGS), 2),
    }
    print(json.dumps(row), flush=True)
    read(path, **more)


def pragma(what: str, database: sqlite3.Connection) -> int:
    """What SQLite says of its file."""
    return int(database.execute(f"PRAGMA {what}").fetchone()[0])


async def settle(spool: Spool, store: EmbeddedStore, reader: FrameReader) -> None:
    """Moves one batch from the spool into the history."""
    rows = await spool.head(most_bytes=store.batch_bytes)
    dead: list[DeadLetter] = []
    written = await store.write(reader.read_all(rows, dead))
    await spool.settle(rows, dead, written.also)


def read(path: Path, **more: str) -> None:
    """Prints how long it takes to read all points of one tag."""
    begun = time.perf_counter()
    points = History(path).read("plc", "tag-001", 0, 2**53)
    row = {"bench": "history", "what": "read", **more, "points": len(points)}
    print(json.dumps({**row, "ms": round((time.perf_counter() - begun) * 1e3, 2)}), flush=True)


async def buckets(folder: Path, *, tags: int, values: int) -> None:
    """One tag in about 1,000 buckets, the best of 5. values: of all tags together; each has one each 100 ms."""
    path, frames, rng = folder / "recorder.db", values // tags, random.Random(7)
    begin = START_US - START_US % MINUTE_US
    end, names, at_once = begin + 100_000 * frames, [f"tag-{i}" for i in range(tags)], max(1, 600_000 // tags)
    async with Database(path) as database:
        for first in range(0, frames, at_once):
            samples = [
                SampleStruct(
                    t=begin + 100_000 * at + rng.randrange(500),
                    v={name: float32(50 + 40 * math.sin(at / 50) + rng.random()) for name in names},
                )
                for at in range(first, min(first + at_once, frames))
            ]
            batch = pack(
                [DeviceFrame("plc", "fast", FrameStruct(epoch=1, seq=1, rev="r", samples=samples))], chunk_values=1000
            )
            await database.transaction(partial(write, parts=batch.parts))
    exact = (end - begin) // 1000
    for step_us in dict.fromkeys((exact, -(-exact // MINUTE_US) * MINUTE_US)) if tags == 1 else (exact,):
        took = []
        for _ in range(5):
            begun = time.perf_counter()
            found = History(path).summaries("plc", "tag-0", begin, end, step_us)
            took.append(time.perf_counter() - begun)
        row = {"bench": "history", "what": "buckets", "tags": tags, "values": values, "values_of_tag": frames}
        row |= {"step_s": step_us / 1e6, "buckets": len(found), "ms": round(min(took) * 1e3, 1)}
        print(json.dumps(row), flush=True)


def lines(given: list[Message], **more: str) -> None:
    """Makes lines of all the messages, 20 frames to a body, as it is sent compressed."""
    writer, reader = LineWriter(site="bench"), FrameReader()
    with measured("line", len(given) * TAGS, **more) as row:
        size = 0
        for start in range(0, len(given), 20):
            rows = [Spooled(0, "plc", "fast", one.topic, one.payload) for one in given[start : start + 20]]
            frames = reader.read_all(rows, [])
            text = b"\n".join(writer.block(one.device, one.frame.samples) for one in frames)
            size += len(gzip.compress(text, compresslevel=1))
        row["sent_bytes_per_value"] = round(size / (len(given) * TAGS), 2)


def main() -> int:
    """Command line; returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--values", type=int, default=2_000_000, help="values to write; 0: none, buckets alone")
    arguments.add_argument("--folder", type=Path, help="where the database goes; its disk takes the fsyncs")
    arguments.add_argument(
        "--buckets", type=int, default=10_000_000, help="values to ask one tag out of; 0: not at all"
    )
    options = arguments.parse_args()
    for name, make in (("float", plain), ("plant", plant)) if options.values else ():
        given = messages(make, options.values // TAGS)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            asyncio.run(embedded(Path(folder), given, set=name))
        lines(given, set=name)
    for tags in (1000, 1) if options.buckets else ():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            asyncio.run(buckets(Path(folder), tags=tags, values=options.buckets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
