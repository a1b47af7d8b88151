"""A gateway run inside a test, with a real broker, real devices, and a subscriber that keeps all it hears."""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import structlog
import yaml
from prometheus_client import CollectorRegistry

from contracts.topic import Topic
from contracts.v1.topics import TOPICS
from plugins.api.clock import Clock
from services.gateway.collaborators import Collaborators
from services.gateway.gateway import Gateway
from services.gateway.settings import GatewaySettings
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.clock import SystemClock
from services.runtime.journal import Journal
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import Password
from services.runtime.process import Means
from services.runtime.settings import LogSettings, Settings
from tests.counted import counted
from tests.real_broker import SITE, Broker


@dataclass
class Listener:
    """All that was published under the site: messages by topic, the latest last. cleared: retained topics."""

    bus: Bus
    heard: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    cleared: set[str] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, delivery: Delivery[bytes]) -> None:
        topic = delivery.topic.removeprefix(f"dinrail/v1/{SITE}/")
        if delivery.payload:
            self.heard[topic].append(json.loads(delivery.payload))
            self.cleared.discard(topic)
        else:
            self.cleared.add(topic)
        self._news.set()

    def last(self, topic: str) -> Any:
        """The latest message of the topic; {} if there is none."""
        return self.heard[topic][-1] if self.heard[topic] else {}

    def samples(self, topic: str) -> list[dict[str, Any]]:
        """The samples of all frames of the topic."""
        return [sample for frame in self.heard[topic] for sample in frame["samples"]]

    async def until(self, condition: Any, timeout_s: float = 30.0) -> None:
        """Returns once the condition holds; looked at whenever a message comes."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def listening(broker: Broker, name: str = "listener", account: str | None = None) -> AsyncIterator[Listener]:
    """Subscribes to everything that the account may read; without one, to everything."""
    clock, metrics = SystemClock(), Metrics(CollectorRegistry())
    bus = Bus(
        broker=broker.settings(),
        site=SITE,
        client_id=name,
        username=account,
        password=(lambda: broker.accounts[account]) if account and broker.accounts else None,
        presence=None,
        metrics=metrics,
        clock=clock,
        log=structlog.stdlib.get_logger(),
        random=Random(1),
    )
    listener = Listener(bus)
    for topic in TOPICS:
        bus.subscribe_raw(any_topic(topic), listener.take, queue_size=100_000)
    task = asyncio.create_task(bus.run())
    try:
        await bus.wait_connected(30)
        yield listener
    finally:
        await bus.stop()
        await task


def any_topic(topic: Any) -> Topic[Any]:
    return topic


@dataclass
class LogKept:
    """A structlog processor that keeps every line before it is printed."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, logger: object, method: str, event: Any) -> Any:
        self.lines.append(dict(event))
        self.news.set()
        return event


@dataclass
class Running:
    """A gateway at work."""

    gateway: Gateway
    metrics: Metrics
    tasks: list["asyncio.Task[None]"]
    log: LogKept
    journal: Journal

    async def stop(self) -> None:
        """As run_service does it: part after part, each drained before the next is asked."""
        for part, task in zip(self.gateway.parts, self.tasks, strict=True):
            await part.stop()
            async with asyncio.timeout(30):
                await asyncio.wait([task])
        for task in self.tasks:
            await task

    async def until_logged(self, event: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Returns the first line of this event, once it has been logged."""
        async with asyncio.timeout(timeout_s):
            while not (lines := [line for line in self.log.lines if line["event"] == event]):
                self.log.news.clear()
                await self.log.news.wait()
        return lines[0]

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it has none."""
        return counted(self.metrics.registry, name, labels)


def modbus_device(
    port: int, tags: Mapping[str, Any], *, interval: str = "20ms", timeout: str = "1s", **more: Any
) -> dict[str, Any]:
    """The content of a device file: unit 1 at this port, with these tags in the group `fast`. more: further fields."""
    return {
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": port, "unit_id": 1, "timeout": timeout, "retries": 0},
        "groups": {"fast": {"interval": interval, "tags": dict(tags)}},
        **more,
    }


def write_devices(folder: Path, devices: Mapping[str, Mapping[str, Any]]) -> None:
    """Device files from their content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in devices.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"device": name, **content}, sort_keys=False))


def replace_device(folder: Path, name: str, content: str | Mapping[str, Any]) -> None:
    """Writes a device file as careful editors do: another file, put in the place of the first. folder: the site's."""
    text = content if isinstance(content, str) else yaml.safe_dump({"device": name, **content}, sort_keys=False)
    new = folder / "devices" / f".{name}.yaml.new"
    new.write_text(text)
    new.replace(folder / "devices" / f"{name}.yaml")


def means_of(metrics: Metrics, kept: LogKept, *, clock: Clock | None = None, password: Password | None = None) -> Means:
    """What a service is given in a test; its log is kept, and shown where the test fails. clock: or the machine's."""
    return Means(
        password=password,
        clock=clock or SystemClock(),
        metrics=metrics,
        log=structlog.wrap_logger(
            structlog.PrintLogger(sys.__stderr__), processors=[kept, structlog.dev.ConsoleRenderer()], wrapper_class=Log
        ),
        random=Random(1),
    )


@asynccontextmanager
async def running_gateway(
    broker: Broker,
    folder: Path,
    devices: Mapping[str, Mapping[str, Any]],
    *,
    loaded: Callable[[], None] = lambda: None,
    **own: Any,
) -> AsyncIterator[Running]:
    """A gateway with these devices, on plain asyncio. loaded: see Keeper. own: fields of GatewaySettings."""
    write_devices(folder / "devices", devices)
    service = GatewaySettings(devices=folder / "devices", data=folder / "data", **{"reload_every": "20ms", **own})
    settings = Settings(site=SITE, broker=broker.settings(), logs=LogSettings(), service=service)
    metrics, kept = Metrics(CollectorRegistry()), LogKept()
    use = Collaborators(settings, means=means_of(metrics, kept, password=broker.password("gateway")))
    gateway = Gateway(settings=settings, use=use, loaded=loaded)
    tasks = [asyncio.create_task(part.run(), name=part.name) for part in reversed(gateway.parts)][::-1]
    running = Running(gateway, metrics, tasks, kept, use.journal)
    try:
        yield running
    finally:
        await running.stop()
