"""How long a compute task takes from the asking to the outputs: dispatcher -> broker -> compute -> worker and back.

    python -m bench.compute --tasks 5000

Broker and compute service are processes of their own, the asker is this one. Tasks are sent one after the other, each
with `--values` other numbers, so that no result is known; what is computed is their weighted average. Prints one JSON
line and adds it to bench/out/compute.jsonl. Times are milliseconds.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import structlog
import uvloop
import yaml
from pydantic import JsonValue

from bench.process import at_work
from bench.results import ROOT, keep
from services.orchestrator.functions.dispatch import Dispatcher
from services.orchestrator.functions.functions import Functions
from services.runtime.clock import SystemClock
from tests.polling import until
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus, running

TEMPLATE = ROOT / "plugins" / "functions" / "_template"
WARM_UP = 200


@contextmanager
def service(broker: Broker, folder: Path, workers: int) -> Iterator[None]:
    """The compute service with the function of the template, while it lasts."""
    shutil.copytree(TEMPLATE, folder / "functions" / "bench")
    manifest = folder / "functions" / "bench" / "plugin.yaml"
    manifest.write_text(manifest.read_text().replace("id: _template", "id: bench").replace("average:", "bench:", 1))
    code = folder / "functions" / "bench" / "function.py"
    code.write_text(code.read_text().replace('{"average": average}', '{"bench": average}'))
    own = {"data": str(folder / "data"), "plugins": [str(folder / "functions")], "workers": workers}
    config = folder / "dinrail.yaml"
    config.write_text(yaml.safe_dump({"site": SITE, "broker": {"port": broker.port}, "compute": own}))
    with at_work({"compute": [sys.executable, "-m", "services.compute", "--config", str(config)]}, {}, folder):
        yield


async def measure(broker: Broker, tasks: int, values: int) -> list[float]:
    """Milliseconds of each task."""
    clock, random = SystemClock(), Random(1)
    bus = make_bus(broker, "asker")
    functions = Functions(bus=bus, clock=clock)
    log = structlog.stdlib.get_logger()
    dispatcher = Dispatcher(bus=bus, user="orchestrator", functions=functions.info, clock=clock, log=log, random=random)
    took = []
    gc.freeze()  # as services do
    async with running(bus):
        await until(lambda: functions.info("bench"), 20)
        for number in range(tasks + WARM_UP):
            inputs: dict[str, JsonValue] = {"values": [float(number + index) for index in range(values)]}
            begun = time.perf_counter()
            outputs = await dispatcher.run("bench", inputs, timeout_s=10)
            took.append((time.perf_counter() - begun) * 1000)
            if outputs["count"] != values:
                raise SystemExit(f"task {number}: {outputs}")
    return took[WARM_UP:]


def main() -> None:
    """Runs the measurement and prints its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--values", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        broker = Broker(Path(name) / "broker")
        broker.start()
        try:
            with service(broker, Path(name), options.workers):
                took = sorted(uvloop.run(measure(broker, options.tasks, options.values)))
        finally:
            broker.stop()
    result = {
        "bench": "compute",
        "tasks": len(took),
        "values": options.values,
        "p50_ms": round(took[len(took) // 2], 3),
        "p99_ms": round(took[len(took) * 99 // 100], 3),
        "max_ms": round(took[-1], 3),
    }
    print(keep("compute", result))


if __name__ == "__main__":
    main()
