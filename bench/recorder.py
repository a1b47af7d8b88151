"""What the recorder moves from the broker into a history: python -m bench.recorder [--store influxdb|embedded]

Prints JSON lines. Publisher, mosquitto, recorder and database are processes on one machine and share its processors.
`sustained`: frames of 500 float32 are published as fast as they are stored, with at most a million values under way;
ends with the number of values that the database then holds.
`backlog`: the database is away while `--away` seconds of 20,000 values/s come in (600 for ten minutes), as fast as they
are taken or, with `--paced`, for as long as they say; then it is back, 20,000 values/s go on, and what has waited
drains. Latency: of live values, from their time to the database's word that it has them, as a proxy before it sees it.
`--store embedded`: the recorder's own history, `sustained` alone; memory is given at a quarter of the time and the end.
VictoriaMetrics is written directly in `sustained`; InfluxDB 1.6 always behind the proxy, which makes version 2's API.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import yaml

from bench.clients import Client
from bench.database_proxy import Proxy, proxy
from bench.history import TAGS, plain
from bench.process import Process, child, cpu_s, wait_for_port
from contracts.v1.frame import FRAME
from services.cli.broker import find_mosquitto
from services.recorder.database import FILE
from tests.ports import free_port
from tests.real_broker import SITE, Broker
from tests.servers import influxd, victoria_metrics

LIVE_FRAMES_PER_S = 40
UNDER_WAY = 2000
"""Frames that are published and not yet stored."""
DEVICES = 4
LAG_S = 15.0


class Frames:
    """Frames of one device, ready but for number and time."""

    def __init__(self, device: str) -> None:
        rng = random.Random(device)
        self.topic = FRAME.build(site=SITE, device=device, group="fast")
        self.seq = 0
        self._last = 0
        self._values = [msgspec.json.encode(plain(rng, at).v) for at in range(64)]

    def next(self, t: int) -> bytes:
        """The next frame. t: its time in microseconds, or a later one, a millisecond from the last frame's."""
        self.seq += 1
        self._last = t = max(t, self._last + 1000)
        values = self._values[self.seq % len(self._values)]
        head = b'{"epoch":1,"seq":%d,"rev":"r","samples":[{"t":%d,"v":' % (self.seq, t)
        return b"".join((head, values, b"}]}"))


class Bench:
    """Broker and recorder, with the database at `url`, None: its own; and the frames that go through them.

    store: settings of the recorder's store, unlike the usual.
    """

    def __init__(self, folder: Path, url: str | None, store: Mapping[str, object]) -> None:
        self.broker = Broker(folder / "broker")
        self.broker.start()
        self.port = free_port()
        settings = folder / "dinrail.yaml"
        own = {"data": str(folder / "data"), "http_port": self.port, "spool_bytes": 1 << 33}
        usual = {"kind": "influxdb", "url": url, "bucket": "history"} if url else {"kind": "embedded", "flush": "1s"}
        wanted = {"site": SITE, "broker": {"host": "127.0.0.1", "port": self.broker.port}}
        settings.write_text(yaml.safe_dump({**wanted, "recorder": {**own, "store": {**usual, **store}}}))
        command = [sys.executable, "-m", "services.recorder", "--config", str(settings)]
        self.recorder = Process("recorder", command, {}, folder / "recorder.log")
        wait_for_port(self.port)

    def metric(self, name: str) -> float:
        """Sum over the metric's labels. It alone is asked for: a page of all took a tenth of the recorder's time."""
        asked = f"http://127.0.0.1:{self.port}/metrics?name[]=dinrail_{name}"
        with urllib.request.urlopen(asked, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"dinrail_{name}[ {{]", line))

    async def client(self) -> Client:
        """A publisher."""
        made = Client(name="bench", account="any", password="any", topic_filter="none", take=lambda _: None)
        await asyncio.get_running_loop().create_connection(lambda: made, "127.0.0.1", self.broker.port)
        await made.ready
        return made

    async def stored(self) -> float:
        """Values that the database has said to have."""
        return await asyncio.to_thread(self.metric, "stored_values_total")

    def close(self) -> None:
        """Ends all of it."""
        self.recorder.child.send_signal(signal.SIGKILL)
        self.recorder.child.wait()
        self.broker.stop()


class Meter:
    """Processor seconds of everything that takes part, since it was made."""

    def __init__(self, bench: Bench, database: str | None) -> None:
        self._pids = {"recorder": bench.recorder.child.pid, "publisher": os.getpid()}
        self._pids |= {name: child(name) for name in ("mosquitto", database) if name}
        self._since = {name: cpu_s(pid) for name, pid in self._pids.items()}
        self._begun = time.monotonic()

    def row(self, values: int) -> dict[str, object]:
        """Values a second, and processor seconds for a million of them by process."""
        took = time.monotonic() - self._begun
        cpu = {name: cpu_s(pid) - self._since[name] for name, pid in self._pids.items()}
        each = {name: round(spent / values * 1e6, 2) for name, spent in cpu.items()}
        busy = {name: round(spent / took, 2) for name, spent in cpu.items()}
        return {"values_per_s": round(values / took), "cpu_s_per_million": each, "processors_busy": busy}


async def sustained(bench: Bench, database: str | None, seconds: float) -> dict[str, object]:
    """As fast as it goes for so long, and until all is stored."""
    client = await bench.client()
    given = [Frames(f"plc-{at}") for at in range(DEVICES)]
    meter, published, stored, early = Meter(bench, database), 0, 0.0, 0.0
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        room = UNDER_WAY - (published - int(stored) // TAGS)
        for _ in range(max(0, room) // 20):
            for _ in range(20):
                one = given[published % DEVICES]
                client.publish(one.topic, one.next(time.time_ns() // 1000))
                published += 1
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        stored = await bench.stored()
        if not early and time.monotonic() > begun + seconds / 4:
            early = bench.recorder.rss_mb()
    while stored < published * TAGS:
        await asyncio.sleep(0.05)
        stored = await bench.stored()
    row = meter.row(published * TAGS)
    rss = bench.recorder.rss_mb()
    client.close()
    return {**row, "values": published * TAGS, "refused": client.refused, "recorder_rss_mb": [round(early), round(rss)]}


async def fill(bench: Bench, frames: int, *, paced: bool) -> None:
    """The backlog: frames that the recorder takes while the database is away. paced: each at its time."""
    client = await bench.client()
    given = [Frames(f"plc-{at}") for at in range(DEVICES)]
    start = time.time_ns() // 1000 - (0 if paced else frames * 25_000)
    rows = 0.0
    for at in range(frames):
        one = given[at % DEVICES]
        await asyncio.sleep(max(0.0, (start + at * 25_000) / 1e6 - time.time()) if paced else 0.0)
        client.publish(one.topic, one.next(start + at * 25_000))
        while at - rows > UNDER_WAY:
            await asyncio.sleep(0.05)
            rows = await asyncio.to_thread(bench.metric, "spool_rows")
    while rows < frames:
        await asyncio.sleep(0.05)
        rows = await asyncio.to_thread(bench.metric, "spool_rows")
    client.close()


async def drain(bench: Bench, database: str, backlog: int) -> dict[str, object]:
    """Live values beside the backlog, from its first batch until it is gone. backlog: its values."""
    while not await bench.stored():  # noqa: ASYNC110 - another process knows
        await asyncio.sleep(0.01)
    client = await bench.client()
    live = Frames("live")
    meter, begun = Meter(bench, database), time.monotonic()
    drained_s = 0.0
    while not drained_s:
        while live.seq < (time.monotonic() - begun) * LIVE_FRAMES_PER_S:
            client.publish(live.topic, live.next(time.time_ns() // 1000))
        await asyncio.sleep(0.01)
        if live.seq % 10 == 0 and await asyncio.to_thread(bench.metric, "spool_rows") < LIVE_FRAMES_PER_S:
            drained_s = time.monotonic() - begun
    while len(Proxy.taken) < live.seq:  # noqa: ASYNC110 - the proxy's threads know no event loop
        await asyncio.sleep(0.05)
    waits = sorted(wait for _, wait in Proxy.taken)
    row = meter.row(backlog + live.seq * TAGS)
    client.close()
    share = {"p50_s": waits[len(waits) // 2], "p99_s": waits[int(len(waits) * 0.99)], "longest_s": waits[-1]}
    row |= {
        "values": backlog + live.seq * TAGS,
        "drained_s": round(drained_s, 1),
        "backlog_values": backlog,
        "backlog_per_s": round(backlog / drained_s),
    }
    return {**row, "live": {name: round(value, 3) for name, value in share.items()}}


def held(database: str, url: str, wanted: object) -> int:
    """Values that the database gives when it is asked: VictoriaMetrics' answers lag behind what it has taken."""
    until_s = time.monotonic() + LAG_S
    while (found := counted(database, url)) != wanted and time.monotonic() < until_s:
        time.sleep(0.5)
    return found


def counted(database: str, url: str) -> int:
    """Values that the database gives now."""
    if database == "influxd":
        query = urllib.parse.urlencode({"db": "history", "q": 'SELECT count("f") FROM "tag"'})
        with urllib.request.urlopen(f"{url}/query?{query}") as answer:
            return int(json.load(answer)["results"][0]["series"][0]["values"][0][1])
    urllib.request.urlopen(f"{url}/internal/force_flush").close()
    query = urllib.parse.urlencode({"query": "sum(count_over_time(tag_f[1d]))"})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as answer:
        return int(json.load(answer)["data"]["result"][0]["value"][1])


def run_embedded(options: argparse.Namespace) -> None:
    """Into the recorder's own history."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        bench = Bench(Path(name), None, options.set)
        stack.callback(bench.close)
        row = asyncio.run(sustained(bench, None, options.seconds))
        with closing(sqlite3.connect(Path(name) / "data" / FILE)) as database:
            row["held"] = database.execute("SELECT sum(n) FROM chunk").fetchone()[0]
        print(json.dumps({"bench": "recorder", "what": "sustained", "store": options.store, **row}), flush=True)


def run(options: argparse.Namespace) -> None:
    """Both measurements."""
    find_mosquitto()
    if options.store == "embedded":
        run_embedded(options)
        return
    v1 = options.store == "influxdb"
    database, server = ("influxd", influxd) if v1 else ("victoria-metrics", victoria_metrics)
    for what in options.what:
        with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
            folder, port = Path(name), free_port()
            behind = f"http://127.0.0.1:{port}"
            proxied = v1 or what == "backlog"
            usual = {} if v1 else {"quality": "changed"}
            url = stack.enter_context(proxy(behind, v1=v1)) if proxied else behind
            bench = Bench(folder, url, {**usual, **options.set})
            stack.callback(bench.close)
            frames = int(options.away * LIVE_FRAMES_PER_S) if what == "backlog" else 0
            asyncio.run(fill(bench, frames, paced=options.paced))
            stack.enter_context(server(folder / "database", port=port))
            if v1:
                urllib.request.urlopen(f"{behind}/query?q=CREATE+DATABASE+history", data=b"").close()
            if what == "backlog":
                row = asyncio.run(drain(bench, database, frames * TAGS))
            else:
                row = asyncio.run(sustained(bench, database, options.seconds))
            row["held"] = held(database, behind, row["values"])
            print(json.dumps({"bench": "recorder", "what": what, "store": options.store, **row}), flush=True)


def main() -> int:
    """Command line; returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", nargs="*", default=["sustained", "backlog"], metavar="sustained | backlog")
    arguments.add_argument("--store", choices=("victoria-metrics", "influxdb", "embedded"), default="victoria-metrics")
    arguments.add_argument("--seconds", type=float, default=20.0)
    arguments.add_argument("--away", type=float, default=60.0, help="seconds of values that wait; 600 for ten minutes")
    arguments.add_argument(
        "--set", type=yaml.safe_load, default={}, metavar="'{gzip: true}'", help="settings of recorder.store"
    )
    arguments.add_argument("--paced", action="store_true", help="so many seconds pass, too")
    arguments.add_argument("--folder", type=Path, help="where files go; its disk takes the fsyncs")
    run(arguments.parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(main())
