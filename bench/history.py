"""What it costs to keep history: python -m bench.history [--values N] [--folder PATH]. Prints JSON lines.

`embedded` is the whole way of a frame inside the recorder, in one process: header read, committed to the spool with
fsync in groups of 50, read back, decoded, packed, inserted, removed from the spool. `line` is the making of InfluxDB
lines with level-1 gzip, without the sending. Two sets of values: `float` has 500 float32 per frame; `plant` has the mix
of a bottling line: noise, ramps, counters, states, texts, one broken sensor.
"""

import argparse
import asyncio
import gzip
import json
import math
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.v1.frame_codec import FrameStruct, QualityStruct, SampleStruct, encode_frame
from services.recorder.database import Database
from services.recorder.embedded.history import History
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.influxdb.line import LineWriter
from services.recorder.spool.admission import admit
from services.recorder.spool.deadletters import DeadLetters
from services.recorder.spool.frames import FrameReader, Spooled
from services.recorder.spool.spool import Spool
from services.runtime.clock import SystemClock
from services.runtime.gaps import Gaps

TAGS = 500
GROUP_COMMIT = 50
START_US = 1_700_000_000_000_000
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
            size = await database.transaction(lambda sql: sql.execute("SELECT sum(length(body)) FROM chunk").fetchone())
            row["chunk_bytes_per_value"] = round(size[0] / (len(given) * TAGS), 2)
            row["payload_bytes_per_value"] = round(sum(len(one.payload) for one in given) / (len(given) * TAGS), 2)
    row = {
        "bench": "history",
        "what": "file",
        **more,
        "bytes_per_value": round(path.stat().st_size / (len(given) * TAGS), 2),
    }
    print(json.dumps(row), flush=True)
    read(path, **more)


async def settle(spool: Spool, store: EmbeddedStore, reader: FrameReader) -> None:
    """Moves one batch from the spool into the history."""
    rows = await spool.head(most_bytes=store.batch_bytes)
    frames, dead = reader.read_all(rows)
    written = await store.write(frames)
    await spool.settle(rows, dead, written.also)


def read(path: Path, **more: str) -> None:
    """Prints how long it takes to read all points of one tag."""
    begun = time.perf_counter()
    points = History(path).read("plc", "tag-001", 0, 2**53)
    row = {"bench": "history", "what": "read", **more, "points": len(points)}
    print(json.dumps({**row, "ms": round((time.perf_counter() - begun) * 1e3, 2)}), flush=True)


def lines(given: list[Message], **more: str) -> None:
    """Makes lines of all the messages, 20 frames to a body, as it is sent compressed."""
    writer, reader = LineWriter(site="bench"), FrameReader()
    with measured("line", len(given) * TAGS, **more) as row:
        size = 0
        for start in range(0, len(given), 20):
            rows = [Spooled(0, "plc", "fast", one.topic, one.payload) for one in given[start : start + 20]]
            frames, _ = reader.read_all(rows)
            text = b"\n".join(writer.block(one.device, one.frame.samples) for one in frames)
            size += len(gzip.compress(text, compresslevel=1))
        row["sent_bytes_per_value"] = round(size / (len(given) * TAGS), 2)


def main() -> int:
    """Command line; returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--values", type=int, default=2_000_000)
    arguments.add_argument("--folder", type=Path, help="where the database goes; its disk takes the fsyncs")
    options = arguments.parse_args()
    for name, make in (("float", plain), ("plant", plant)):
        given = messages(make, options.values // TAGS)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            asyncio.run(embedded(Path(folder), given, set=name))
        lines(given, set=name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
