"""How long a gateway takes from its process's start to its first value: python -m bench.start. Prints a JSON line.

One Modbus device with 500 float32 each 100 ms, tag topics at their defaults. Measured at a subscriber, with the
interpreter's own start, after a start that leaves the bytecode of every module.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from bench.outage import SCENARIO, Watch, start
from bench.process import machine_ticks, stolen_share
from bench.results import machine
from bench.rig import running

PAUSE_S = 0.5
"""Between two starts: the broker and the history are done with the one before."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=8, help="how often (at most 100)")
    starts = max(1, min(parser.parse_args().starts, 100))
    with tempfile.TemporaryDirectory(prefix="dinrail-bench-") as folder, running(SCENARIO, True, Path(folder)) as rig:
        watch = Watch(rig)
        watch.until(lambda: watch.all_are(192))
        ticks, seconds = machine_ticks(), []
        for _ in range(starts):
            seconds.append(start(rig, watch)["first_value_s"])
            time.sleep(PAUSE_S)
        watch.close()
        memory = round(rig.processes["gateway"].rss_mb())
        stolen = stolen_share(ticks)
    figures = {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds)}
    rounded = {f"{name}_s": round(value, 3) for name, value in figures.items()}
    print(json.dumps({**machine(), "starts": starts, **rounded, "gateway_rss_mb": memory, "stolen": stolen}))


if __name__ == "__main__":
    main()
