"""What history of the demo plant takes: python -m bench.plant [--minutes 10]. Prints a JSON line.

`dinrail up --example plant` in a folder and on ports of its own, with the settings that it makes; stopped after so
many minutes, packs what waits, and the pages of its history are counted: `bytes` of raw values, minutes, series and all
their indexes. `values` are those of tags, of which an array is one; `numbers` counts what stands in arrays; `scalar`
leaves tags with arrays out, and their chunks. In short runs chunks are short, and each tag's row of minutes, of which
there is one an hour, holds few: `raw` and `minutes` tell the two apart. Needs an SQLite with dbstat, as Debian has.
"""

import argparse
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from services.recorder.embedded.chunk import decode

_PAGES = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name IN ({})"
RAW = ("chunk", "chunk_time", "axis", "axis_time", "series", "sqlite_autoindex_series_1")
MINUTES = ("rollup", "sqlite_autoindex_rollup_1")
PORTS = 24
STOPPING_S = 60.0


def free_ports() -> int:
    """The first of so many ports in a row that nobody listens at."""
    for first in range(21000, 29000, PORTS):
        with ExitStack() as held:
            try:
                for port in range(first, first + PORTS):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise SystemExit("no free ports between 21000 and 29000")


def run(site: Path, *, seconds: float) -> None:
    """The demo plant, for so long."""
    command = [sys.executable, "-m", "services.cli.main", "up", "--dir", str(site), "--example", "plant", "--no-watch"]
    process = subprocess.Popen([*command, "--base-port", str(free_ports()), "--duration", str(seconds)])
    try:
        code = process.wait(seconds + STOPPING_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.send_signal(signal.SIGINT)
        code = process.wait(STOPPING_S)
    if code:
        raise SystemExit(f"dinrail up ended with {code}; its logs are in {site}")


def of_arrays(database: sqlite3.Connection) -> tuple[int, int, int]:
    """How many values are arrays, how many numbers they hold, and the bytes of their chunks."""
    arrays = numbers = size = 0
    for body, times in database.execute("SELECT chunk.body, axis.body FROM chunk LEFT JOIN axis ON axis.id = axis"):
        held = [len(value) for _, value, _ in decode(body, times) if isinstance(value, list)]
        arrays, numbers, size = arrays + len(held), numbers + sum(held), size + (len(body) if held else 0)
    return arrays, numbers, size


def size(path: Path) -> dict[str, float]:
    """Of a recorder's database. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        raw, minutes = (
            database.execute(_PAGES.format(",".join("?" * len(names))), names).fetchone()[0] for names in (RAW, MINUTES)
        )
        arrays, numbers, array_bodies = of_arrays(database)
        values, chunks, bodies = database.execute("SELECT sum(n), count(*), sum(length(body)) FROM chunk").fetchone()
        hours, hour_bodies = database.execute("SELECT count(*), sum(length(body)) FROM rollup").fetchone()
        (times,) = database.execute("SELECT sum(length(body)) FROM axis").fetchone()
        (waiting,) = database.execute("SELECT count(*) FROM spool").fetchone()
    return {
        "values": values,
        "bytes": raw + minutes,
        "bytes_per_value": round((raw + minutes) / values, 2),
        "bytes_per_number": round((raw + minutes) / (values - arrays + numbers), 2),
        "bytes_per_scalar": round((raw + minutes - array_bodies) / (values - arrays), 2),
        "numbers": values - arrays + numbers,
        "arrays": arrays,
        "raw": round(raw / values, 2),
        "minutes": round(minutes / values, 2),
        "chunk_bodies": round(bodies / values, 2),
        "times": round(times / values, 2),
        "hour_bodies": round(hour_bodies / values, 2),
        "values_per_chunk": round(values / chunks),
        "tags_and_hours": hours,
        "messages_not_packed": waiting,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--file", type=Path, help="a recorder.db that is there already, instead of a run")
    options = parser.parse_args()
    row = {"bench": "plant"}
    if options.file is not None:
        print(json.dumps(row | size(options.file)))
        return
    with tempfile.TemporaryDirectory(prefix="dinrail-bench-") as folder:
        run(Path(folder) / "site", seconds=60 * options.minutes)
        (path,) = Path(folder).rglob("recorder.db")
        print(json.dumps(row | {"minutes_run": options.minutes} | size(path)))


if __name__ == "__main__":
    main()
