"""Compute services run inside a test or as processes of their own, and the asking side of them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import structlog
import yaml
from prometheus_client import CollectorRegistry

from contracts.v1.service import ServiceStatus
from services.compute.composition import Compute, compose
from services.compute.settings import ComputeSettings
from services.orchestrator.functions.dispatch import Dispatcher
from services.orchestrator.functions.functions import Functions
from services.runtime.bus.bus import Bus
from services.runtime.clock import SystemClock
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.process import Means
from services.runtime.settings import LogSettings, Settings
from tests.counted import counted
from tests.integration.clients import ROOT
from tests.polling import until
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus

FUNCTIONS = Path(__file__).parent / "functions"


class OwnFunctions(ComputeSettings):
    """Without the shipped functions: what a service of numpy takes to start is no test's but theirs."""

    @property
    def function_folders(self) -> tuple[Path, ...]:
        """Those of the test alone."""
        return self.plugins


@dataclass
class Service:
    """A compute service at work inside the test."""

    compute: Compute
    metrics: Metrics
    tasks: list["asyncio.Task[None]"]

    async def stop(self) -> None:
        """As run_service does it: part after part, each drained before the next is asked."""
        for part, task in zip(self.compute.parts, self.tasks, strict=True):
            await part.stop()
            async with asyncio.timeout(30):
                await asyncio.wait([task])
        for task in self.tasks:
            await task

    def metric(self, name: str, **labels: str) -> float:
        return counted(self.metrics.registry, name, labels)


@asynccontextmanager
async def serving(
    broker: Broker,
    tmp_path: Path,
    instance: str = "compute",
    *,
    folder: Path = FUNCTIONS,
    form: type[ComputeSettings] = OwnFunctions,
    **own: Any,
) -> AsyncIterator[Service]:
    """A service of one worker with these functions, which takes tasks inside. own: fields of ComputeSettings.

    form: ComputeSettings for a service with the shipped functions, too.
    """
    service = form(
        instance=instance, data=tmp_path / instance, plugins=(folder,), **{"workers": 1, "reload_every": "20ms", **own}
    )
    settings = Settings(site=SITE, broker=broker.settings(), logs=LogSettings(), service=service)
    metrics = Metrics(CollectorRegistry())
    log: Log = structlog.stdlib.get_logger()
    password = broker.accounts["compute"] if broker.accounts else None
    means = Means(
        password=None if password is None else lambda: password,
        clock=SystemClock(),
        metrics=metrics,
        log=log,
        random=Random(1),
    )
    compute = compose(settings, means=means)
    tasks = [asyncio.create_task(part.run(), name=part.name) for part in reversed(compute.parts)][::-1]
    running = Service(compute, metrics, tasks)
    stopped = False
    try:
        await compute.bus.wait_connected(30)
        async with asyncio.timeout(30):
            await compute.workshop.loaded.wait()
        await compute.bus.settled()
        yield running
        stopped = all(task.done() for task in tasks)
    finally:
        if not stopped:
            await running.stop()


@dataclass
class Process:
    """A compute service in a process of its own."""

    instance: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)


@asynccontextmanager
async def process(broker: Broker, tmp_path: Path, instance: str, site: "Site") -> AsyncIterator[Process]:
    """`python -m services.compute` with one worker, which takes tasks inside."""
    config = tmp_path / f"{instance}.yaml"
    own = {"instance": instance, "data": str(tmp_path / instance), "plugins": [str(FUNCTIONS)], "workers": 1}
    content = {"site": SITE, "broker": {"host": "127.0.0.1", "port": broker.port}, "compute": own}
    config.write_text(yaml.safe_dump(content))
    running = _started(config)
    try:
        await until(lambda: site.is_online(instance), 30)
        yield Process(instance, running)
    finally:
        running.send_signal(signal.SIGCONT)
        running.terminate()
        running.wait(30)


def _started(config: Path) -> subprocess.Popen[bytes]:
    with config.with_suffix(".log").open("wb") as log:
        command = [sys.executable, "-m", "services.compute", "--config", str(config)]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


@dataclass
class Site:
    """The asking side."""

    bus: Bus
    dispatcher: Dispatcher
    functions: Functions
    states: dict[str, Any]

    def is_online(self, instance: str) -> bool:
        return instance in self.states and self.states[instance].state is ServiceStatus.ONLINE

    async def call(self, function: str, *, timeout_s: float = 30.0, **inputs: Any) -> dict[str, Any]:
        """The outputs."""
        return dict(await self.dispatcher.run(function, inputs, timeout_s=timeout_s))

    async def until_known(self, function: str) -> None:
        await until(lambda: self.functions.info(function) is not None, 30)


@asynccontextmanager
async def asking(broker: Broker) -> AsyncIterator[Site]:
    """A dispatcher as the orchestrator has it."""
    account = "orchestrator" if broker.accounts else None
    bus = make_bus(broker, "orchestrator-bus", account=account)
    clock = SystemClock()
    functions = Functions(bus=bus, clock=clock)
    dispatcher = Dispatcher(
        bus=bus,
        user="orchestrator",
        functions=functions.info,
        clock=clock,
        log=structlog.stdlib.get_logger(),
        random=Random(2),
    )
    site = Site(bus, dispatcher, functions, dispatcher.presence)
    async with AsyncExitStack() as stack:
        running = asyncio.create_task(bus.run())
        stack.push_async_callback(_ended, running)
        stack.push_async_callback(bus.stop)
        await bus.wait_connected(30)
        yield site


async def _ended(task: "asyncio.Task[None]") -> None:
    await task


def multiple(tmp_path: Path, factor: int, *, code: str | None = None) -> Path:
    """A plugin with a function that gives its input times this factor."""
    folder = tmp_path / "functions/multiple"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plugin.yaml").write_text(
        f"id: multiple\nversion: {factor}.0.0\nkind: function\ntitle: t\ndescription: d\nentry: function:FUNCTIONS\n"
        "functions: {times: {title: t, inputs: {x: {type: number}}, outputs: {y: {type: number}}}}\n"
    )
    (folder / "function.py").write_text(
        code or f"def times(x):\n    return {{'y': {factor} * x}}\n\n\nFUNCTIONS = {{'times': times}}\n"
    )
    return folder


NEVER_LOADED = """
import threading
from pathlib import Path

Path({loading!r}).touch()
threading.Event().wait()
"""


def never_loaded(tmp_path: Path) -> tuple[Path, Path]:
    """The folder of a plugin whose loading never ends, and the file that it makes when its loading begins."""
    loading = tmp_path / "loading"
    return multiple(tmp_path, 2, code=NEVER_LOADED.format(loading=str(loading))), loading


def is_gone(pid: int) -> bool:
    """Whether the process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def begun(folder: Path, name: str) -> list[int]:
    """The processes that have begun the function `wait` under this name."""
    return [int(path.name.split(".")[1]) for path in folder.glob(f"{name}.*.begun")]
