"""What runs of pipelines cost: python -m bench.runs [five|wide|layers|memory ...]. Prints JSON lines.

Broker and recorder are processes of their own, the orchestrator is this one, under uvloop; every event is journalled,
published and stored by the recorder. Runs are started as a trigger starts them.

    five    five nodes (read a tag, two expressions, a condition, a derived tag), ten runs at a time, as many as go;
            `stored_per_s` counts until the recorder has committed the last event. `paused`: one node is a delay of 1 ms
    wide    100 nodes, in one chain and side by side: from the start to the last event told
    layers  100 delays of 50 ms in ten layers
    memory  resident memory over --runs runs of `five`

Times are milliseconds, memory is MiB.
"""

import argparse
import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from bench.process import at_work
from contracts.v1.definition import revision
from contracts.v1.event import EVENT_STREAM
from contracts.v1.pipeline import WORKSPACE
from contracts.v1.run import RunStatus, RunTrigger
from contracts.v1.stored import STORED, Stored
from contracts.v1.tag import TAG, TagValue
from services.cli.broker import find_mosquitto
from services.cli.settings import read_broker
from services.cli.site import Site, make_site, write_broker_files
from services.orchestrator.collaborators import Collaborators
from services.orchestrator.engine.execution import Execution
from services.orchestrator.orchestrator import Orchestrator
from services.orchestrator.pipelines.definitions import parse_definition
from services.orchestrator.pipelines.version import Draft
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.orchestrator.use_cases import RunOrder
from services.runtime.bus.bus import Delivery
from services.runtime.clock import SystemClock
from services.runtime.event_log import EVENT_KIND
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.process import Means, password_of
from services.runtime.settings import load_settings
from tests.ports import site_ports

START_S = 20.0
AT_ONCE = 10
QUEUE = 10_000
NODES: Mapping[str, Any] = {
    "level": {"type": "read", "tag": "bench/level"},
    "scaled": {"type": "expression", "expression": "x * 2 + k", "inputs": {"x": "level.value"}, "constants": {"k": 3}},
    "high": {"type": "condition", "when": "x > 80", "inputs": {"x": "scaled.value"}},
    "over": {"type": "expression", "expression": "x - 80", "inputs": {"x": "scaled.value"}, "after": ["high.then"]},
    "told": {"type": "derive", "tag": "bench-line/over", "inputs": {"value": "over.value"}},
}
PAUSED = {**NODES, "scaled": {"type": "delay", "duration": "1ms"}} | {
    "high": {"type": "condition", "when": "x > 8", "inputs": {"x": "level.value"}, "after": ["scaled"]},
    "over": {"type": "expression", "expression": "x - 8", "inputs": {"x": "level.value"}, "after": ["high.then"]},
    "told": {"type": "derive", "tag": "bench-line/over-paused", "inputs": {"value": "over.value"}},
}
PIPELINES: Mapping[str, Mapping[str, Any]] = {
    "five": NODES,
    "paused": PAUSED,
    "side": {f"n{at}": {"type": "expression", "expression": "1 + 2"} for at in range(100)},
    "chain": {"n0": {"type": "expression", "expression": "0"}}
    | {
        f"n{at}": {"type": "expression", "expression": "x + 1", "inputs": {"x": f"n{at - 1}.value"}}
        for at in range(1, 100)
    },
    "layers": {
        f"l{layer}-{at}": {
            "type": "delay",
            "duration": "50ms",
            "after": [f"l{layer - 1}-{other}" for other in range(10)] if layer else [],
        }
        for layer in range(10)
        for at in range(10)
    },
}


def processes(site: Site) -> AbstractContextManager[None]:
    """Broker and recorder while it lasts."""
    mosquitto = find_mosquitto()
    commands = {
        "broker": [str(mosquitto.program), "-c", str(site.broker / "mosquitto.conf")],
        "recorder": [sys.executable, "-m", "services.recorder", "--config", str(site.settings_file)],
    }
    return at_work(commands, mosquitto.environment, site.folder)


class Bench:
    """The orchestrator at work, and what the recorder says that it has stored."""

    def __init__(self, orchestrator: Orchestrator, use: Collaborators) -> None:
        self.orchestrator = orchestrator
        self.use = use
        self.orchestrator_name = SECTION
        self.stored_epoch = self.stored_seq = 0
        self._news = asyncio.Event()

    async def on_stored(self, delivery: Delivery[Stored]) -> None:
        """The recorder has committed more."""
        for epoch in delivery.payload.epochs:
            if epoch.have:
                self.stored_epoch, self.stored_seq = epoch.epoch, epoch.have[-1][1]
        self._news.set()

    async def all_stored(self) -> None:
        """Returns when the last event told so far is on the recorder's disk."""
        name = (EVENT_KIND, self.orchestrator_name, EVENT_STREAM)
        async with asyncio.timeout(60):
            while not self.stored_seq:
                self._news.clear()
                await self._news.wait()
            wanted = self.use.journal.given(*name, self.stored_epoch)
            while self.stored_seq < wanted:
                self._news.clear()
                await self._news.wait()

    def tell_level(self) -> None:
        """The tag that the pipelines read, as its gateway would: the broker forgets it after three minutes."""
        now = self.use.clock.now_us() // 1000
        self.use.bus.retain(TAG, TagValue(value=50.0, ts=now, q=192, seen=now), device="bench", tag="level")

    def start(self, pipeline: str) -> Execution:
        """A run, as a trigger starts it."""
        trigger = RunTrigger(kind="every")
        return self.orchestrator.run_pipeline.start(RunOrder(scope=WORKSPACE, pipeline=pipeline, trigger=trigger))

    async def many(self, pipeline: str, runs: int) -> None:
        """So many runs, ten at a time; the event loop has its turn after each, as it has between two triggers."""
        self.tell_level()

        async def one_after_the_other() -> None:
            """One place's share of the runs; fails if one of them is not done."""
            for _ in range(runs // AT_ONCE):
                execution = self.start(pipeline)
                await execution.over.wait()
                await asyncio.sleep(0)
                assert execution.run.status is RunStatus.DONE, execution.run.error

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(one_after_the_other())


@asynccontextmanager
async def orchestrating(site: Site) -> AsyncIterator[Bench]:
    """An orchestrator with the pipelines of this bench."""
    settings = load_settings(SECTION, OrchestratorSettings, path=site.settings_file, environ={})
    log: Log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=Log)
    means = Means(
        password=password_of(settings),
        clock=SystemClock(),
        metrics=Metrics(CollectorRegistry()),
        log=log,
        random=Random(),
    )
    use = Collaborators(settings, means=means)
    async with use.database:
        orchestrator = Orchestrator(settings=settings, use=use)
        await orchestrator.open()
        bench = Bench(orchestrator, use)
        use.bus.subscribe(STORED, bench.on_stored, recorder="recorder", kind="event", owner=settings.service.instance)
        parts = orchestrator.parts
        tasks = [asyncio.create_task(part.run()) for part in reversed(parts)][::-1]
        try:
            await use.bus.wait_connected(START_S)
            bench.tell_level()
            for name, nodes in PIPELINES.items():
                text = json.dumps({"pipeline": name, "nodes": nodes, "limits": {"runs": 100}})
                draft = Draft(scope=WORKSPACE, pipeline=name, text=text, rev=revision(parse_definition(text)))
                await orchestrator.repository.save(draft, by="bench", at_ms=1)
            yield bench
        finally:
            for part, task in zip(parts, tasks, strict=True):
                await part.stop()
                await asyncio.wait([task], timeout=30)


def cpu_s() -> float:
    """Processor seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_mib() -> float:
    """Memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


async def measure_five(bench: Bench, runs: int) -> None:
    """Runs a second, made and stored."""
    for pipeline in ("five", "paused"):
        await bench.many(pipeline, 500)
        await bench.all_stored()
        begun, cpu = time.perf_counter(), cpu_s()
        await bench.many(pipeline, runs)
        made = time.perf_counter() - begun
        used = cpu_s() - cpu
        await bench.all_stored()
        stored = time.perf_counter() - begun
        show(
            bench=pipeline,
            runs=runs,
            per_s=round(runs / made),
            stored_per_s=round(runs / stored),
            cpu_us_per_run=round(1e6 * used / runs),
        )


async def measure_wide(bench: Bench, _runs: int) -> None:
    """A run of 100 nodes, from its start to its end."""
    for pipeline in ("side", "chain"):
        took = []
        for _ in range(50):
            begun = time.perf_counter()
            await bench.start(pipeline).over.wait()
            took.append(1000 * (time.perf_counter() - begun))
            await asyncio.sleep(0.01)
        show(bench=pipeline, nodes=100, p50_ms=round(statistics.median(took), 2), max_ms=round(max(took), 2))


async def measure_layers(bench: Bench, _runs: int) -> None:
    """100 delays in ten layers; the best that could be is 500 ms."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        await bench.start("layers").over.wait()
        took.append(1000 * (time.perf_counter() - begun))
    show(bench="layers", nodes=100, p50_ms=round(statistics.median(took), 1), max_ms=round(max(took), 1))


async def measure_memory(bench: Bench, runs: int) -> None:
    """Memory after each tenth of the runs."""
    seen = []
    for _ in range(10):
        await bench.many("five", runs // 10)
        await bench.all_stored()
        seen.append(round(resident_mib(), 1))
    show(bench="memory", runs=runs, mib=seen)


def show(**figures: object) -> None:
    """One line of the result."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


MEASURES: Mapping[str, Callable[[Bench, int], Awaitable[None]]] = {
    "five": measure_five,
    "wide": measure_wide,
    "layers": measure_layers,
    "memory": measure_memory,
}


async def measure(site: Site, what: list[str], runs: int) -> None:
    """All of it, one after the other."""
    async with orchestrating(site) as bench:
        for name in what:
            await MEASURES[name](bench, runs)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=[*MEASURES, []], default=[])
    parser.add_argument("--runs", type=int, default=5000)
    options = parser.parse_args()
    ports = site_ports()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder) / "site")
        make_site(site, name="bench", example=None, ports=ports)
        settings = site.settings_file.read_text()
        site.settings_file.write_text(settings.replace("\norchestrator:\n", f"\norchestrator:\n  queue: {QUEUE}\n"))
        write_broker_files(site, name="bench", broker=read_broker(site)[1])
        with processes(site):
            uvloop.run(measure(site, options.what or ["five", "wide", "layers"], options.runs))


if __name__ == "__main__":
    main()
