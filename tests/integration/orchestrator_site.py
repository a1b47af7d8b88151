"""An orchestrator run inside a test, with a real broker."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from contracts.v1.definition import revision
from contracts.v1.pipeline import RUN_PIPELINE, WORKSPACE, RunAccepted, RunPipeline
from services.orchestrator.collaborators import Collaborators
from services.orchestrator.orchestrator import Orchestrator
from services.orchestrator.pipelines.definitions import parse_definition
from services.orchestrator.pipelines.version import Draft
from services.orchestrator.settings import OrchestratorSettings
from services.runtime.bus.bus import Bus, Outcome
from services.runtime.metrics import Metrics
from services.runtime.settings import LogSettings, Settings
from tests.counted import counted
from tests.integration.gateway_site import LogKept, means_of
from tests.real_broker import SITE, Broker
from tests.real_bus import MovedClock


@dataclass
class Running:
    """An orchestrator at work."""

    orchestrator: Orchestrator
    tasks: list["asyncio.Task[None]"]
    log: LogKept
    metrics: Metrics

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it has none."""
        return counted(self.metrics.registry, name, labels)

    def labels(self) -> list[dict[str, str]]:
        """Of all series that are shown."""
        return [sample.labels for family in self.metrics.registry.collect() for sample in family.samples]

    async def save(self, name: str, content: Mapping[str, Any], by: str = "anna", *, shadow: bool = False) -> int:
        """A version of a pipeline with this content, without its name; gives its number."""
        text = json.dumps({"pipeline": name, **content})
        rev = revision(parse_definition(text))
        draft = Draft(scope=WORKSPACE, pipeline=name, text=text, rev=rev)
        return (await self.orchestrator.repository.save(draft, by=by, at_ms=1, shadow=shadow)).version

    @property
    def running_runs(self) -> int:
        """Runs that have begun and not ended."""
        return self.orchestrator.engine.running

    async def stop(self) -> None:
        """As run_service does it: part after part, each drained before the next is asked."""
        for part, task in zip(self.orchestrator.parts, self.tasks, strict=True):
            await part.stop()
            async with asyncio.timeout(30):
                await asyncio.wait([task])
        for task in self.tasks:
            await task


@asynccontextmanager
async def running_orchestrator(
    broker: Broker, folder: Path, *, clock: MovedClock | None = None, **own: Any
) -> AsyncIterator[Running]:
    """An orchestrator without pipelines. clock: or the machine's. own: fields of OrchestratorSettings."""
    service = OrchestratorSettings(data=folder / "orchestrator", pipelines=folder / "pipelines", **own)
    settings = Settings(site=SITE, broker=broker.settings(), logs=LogSettings(), service=service)
    kept, metrics = LogKept(), Metrics(CollectorRegistry())
    use = Collaborators(settings, means=means_of(metrics, kept, clock=clock, password=broker.password("orchestrator")))
    async with use.database:
        orchestrator = Orchestrator(settings=settings, use=use)
        await orchestrator.open()
        tasks = [asyncio.create_task(part.run(), name=part.name) for part in reversed(orchestrator.parts)][::-1]
        running = Running(orchestrator, tasks, kept, metrics)
        try:
            await use.bus.wait_connected(30)
            yield running
        finally:
            await running.stop()


_MAIN = "from services.runtime.startup import start\nsys.exit(start('services.orchestrator.process'))"


@contextmanager
def orchestrator_process(
    broker: Broker, folder: Path, *, first: str = "", **own: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """An orchestrator in a process of its own, with the data of this folder; killed at the end.

    first: code that it runs before. own: further fields of OrchestratorSettings.
    """
    config = folder / "dinrail.yaml"
    where = broker.settings()
    content = {
        "site": SITE,
        "broker": {"host": where.host, "port": where.port},
        "orchestrator": {"data": str(folder / "orchestrator"), "pipelines": str(folder / "pipelines"), **own},
    }
    config.write_text(yaml.safe_dump(content))
    process = subprocess.Popen(
        [sys.executable, "-c", f"{first}\nimport sys\n{_MAIN}", "--config", str(config)], stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def run_pipeline(
    bus: Bus, name: str, inputs: Mapping[str, Any] | None = None, *, wait: bool = True, timeout_s: float = 30.0
) -> Outcome[RunAccepted]:
    """Asks for a run, as the user `anna`."""
    asked = RunPipeline(inputs=dict(inputs or {}), wait=wait)
    return await bus.request(RUN_PIPELINE, asked, timeout_s=timeout_s, user="anna", scope=WORKSPACE, id=name)
