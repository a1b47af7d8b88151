"""Which layout of points suits InfluxDB 1.6: python -m bench.layout [--frames N]. Prints JSON lines.

The same frames of 500 values (see bench.history, `plant`) as `narrow` points, one for each value, with tags site,
device and tag and a field by type; as such points with a quality only where it is not good; and as `wide` ones, one for
each frame, with a field for each tag and type. Measured: bytes sent and processor time of the server for a million
values, bytes on its disk (files, and the log that becomes files later), and the shortest of five queries: `mean` of one
tag in 1000 buckets over all of the time, `last` of every tag of the device.
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import urllib3

from bench.history import START_US, TAGS, messages, plant
from bench.process import child, cpu_s
from contracts.v1.frame_codec import FrameStruct, decode_frame
from services.recorder.influxdb.line import LineWriter, field
from tests.servers import influxd

STEP_US = 100_000


def narrow(frame: FrameStruct) -> bytes:
    """As dinrail writes it."""
    return _WRITER.block("plc", frame.samples)


def bare(frame: FrameStruct) -> bytes:
    """The same with a quality only where it is not good."""
    return narrow(frame).replace(b",q=192i ", b" ")


def wide(frame: FrameStruct) -> bytes:
    """One point; the quality stands beside each value that is not good."""
    sample = frame.samples[0]
    fields = []
    for tag, value in sample.v.items():
        if value is not None:
            name, _, text = field(value).partition("=")
            fields.append(f"{tag}_{name}={text}")
    fields += [f"{tag}_q={quality.q}i" for tag, quality in (sample.q or {}).items()]
    return f"frame,site=bench,device=plc {','.join(fields)} {sample.t}".encode()


_WRITER = LineWriter(site="bench")
_ONE = 'SELECT mean("f") FROM "tag" WHERE "tag" = \'{tag}\''
_EACH = 'SELECT last(*) FROM "tag" GROUP BY "tag"'
LAYOUTS = {
    "narrow": (narrow, _ONE, _EACH),
    "narrow-good-unsaid": (bare, _ONE, _EACH),
    "wide": (wide, 'SELECT mean("{tag}_f") FROM "frame" WHERE device = \'plc\'', 'SELECT last(*) FROM "frame"'),
}


def measure(layout: str, frames: Sequence[FrameStruct], folder: Path) -> dict[str, object]:
    """Writes the frames, asks, stops the server and looks at its files."""
    make, mean, last = LAYOUTS[layout]
    values = len(frames) * TAGS
    with influxd(folder) as url:
        query(url, "CREATE DATABASE history")
        server = child("influxd")
        spent, begun, sent = cpu_s(server), time.perf_counter(), 0
        for some in _parts(frames, 20):
            body = gzip.compress(b"\n".join(map(make, some)), compresslevel=1)
            headers = {"Content-Encoding": "gzip"}
            answer = urllib3.request("POST", f"{url}/write?db=history&precision=u", body=body, headers=headers)
            if answer.status != 204:
                raise RuntimeError(answer.data.decode())
            sent += len(body)
        row: dict[str, object] = {"values_per_s": round(values / (time.perf_counter() - begun))}
        row["server_cpu_s_per_million"] = round((cpu_s(server) - spent) / values * 1e6, 2)
        row["sent_bytes_per_value"] = round(sent / values, 2)
        end = START_US + len(frames) * STEP_US
        bucket = max(1, (end - START_US) // 1000)
        times = f" AND time >= {START_US}000 AND time < {end}000 GROUP BY time({bucket}u)"
        tag = next(name for name, value in frames[0].samples[0].v.items() if type(value) is float)
        row["mean_ms"] = shortest(url, mean.format(tag=tag) + times)
        row["last_ms"] = shortest(url, last)
    row |= {f"{part}_bytes_per_value": round(_size(folder / part) / values, 2) for part in ("data", "wal")}
    return row


def shortest(url: str, text: str) -> float:
    """Milliseconds of the shortest of five."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        answer = query(url, text)
        took.append(time.perf_counter() - begun)
        if "series" not in answer["results"][0]:
            raise RuntimeError(f"{text}: {answer}")
    return round(min(took) * 1e3, 1)


def query(url: str, text: str) -> dict[str, list[dict[str, object]]]:
    """The answer to a query in InfluxQL."""
    asked = urllib.parse.urlencode({"db": "history", "q": text}).encode()
    with urllib.request.urlopen(f"{url}/query", data=asked) as answer:
        return dict(json.load(answer))


def _parts(frames: Sequence[FrameStruct], most: int) -> Iterator[Sequence[FrameStruct]]:
    for at in range(0, len(frames), most):
        yield frames[at : at + most]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Command line; returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--frames", type=int, default=4000)
    options = arguments.parse_args()
    frames = [decode_frame(one.payload, topic=one.topic) for one in messages(plant, options.frames)]
    for layout in LAYOUTS:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(layout, frames, Path(folder))
        print(json.dumps({"bench": "layout", "layout": layout, "values": len(frames) * TAGS, **row}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
