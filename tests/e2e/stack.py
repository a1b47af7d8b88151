"""A whole site as real processes, each of which a test may kill, and a client that watches its topics."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import aiomqtt
import yaml
from pydantic import BaseModel

from contracts.codec import decode
from contracts.topic import Topic
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct, decode_frame
from services.cli.broker import find_mosquitto
from services.cli.settings import read_broker
from services.cli.site import Ports, Site, make_site, write_broker_files
from tests.policies import IDENTITY, publish_policy
from tests.polling import until
from tests.ports import listens, site_ports

P = TypeVar("P", bound=BaseModel)
ROOT = Path(__file__).parents[2]
SITE = "plant"
START_S = 30
"""How long what other processes do may take."""


@dataclass
class Stack:
    """A site's broker, services and demo plant as child processes; `kill` is SIGKILL, `stop` is SIGTERM."""

    site: Site
    ports: Ports
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    commands: dict[str, tuple[list[str], Mapping[str, str]]] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, *, example: str | None) -> "Stack":
        ports = site_ports()
        site = Site(folder)
        make_site(site, name=SITE, example=example, ports=ports)
        write_broker_files(site, name=SITE, broker=read_broker(site)[1])
        stack = cls(site, ports)
        mosquitto = find_mosquitto()
        stack.commands["broker"] = (
            [str(mosquitto.program), "-c", str(site.broker / "mosquitto.conf")],
            mosquitto.environment,
        )
        stack.service("gateway")
        stack.service("recorder")
        stack.commands["plant"] = (
            [
                sys.executable,
                "-m",
                "examples.plant.simulate",
                "--modbus-port",
                str(ports.modbus),
                "--opcua-port",
                str(ports.opcua),
            ],
            {},
        )
        return stack

    def service(self, kind: str, *, name: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Names the process of a service; a second recorder has another name, instance and environment."""
        command = [sys.executable, "-m", f"services.{kind}", "--config", str(self.site.settings_file)]
        self.commands[name or kind] = (command, {"DINRAIL_LOGS__FORMAT": "json", **(environment or {})})

    def device(self, name: str, content: Mapping[str, object]) -> None:
        """Writes a device file."""
        (self.site.devices / f"{name}.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))

    async def start(self, *names: str) -> None:
        for name in names:
            command, environment = self.commands[name]
            self.site.logs.mkdir(exist_ok=True)
            with (self.site.logs / f"{name}.log").open("ab") as log:
                self.processes[name] = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environment},
                    start_new_session=True,
                )
            if name == "broker":
                await until(lambda: listens(self.ports.broker), START_S, what="the broker listens")
                password = self.site.password(IDENTITY).read_text().strip()
                publish_policy(self.ports.broker, site=SITE, password=password)

    async def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        await asyncio.wait_for(process.wait(), 30)

    async def stop(self, name: str, *, within_s: float = 30) -> int:
        process = self.processes.pop(name)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(process.wait(), within_s)

    def log(self, name: str) -> str:
        path = self.site.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def close(self) -> None:
        for name in ("gateway", "recorder", *self.processes):
            if name in self.processes:
                try:
                    await self.stop(name)
                except TimeoutError:
                    await self.kill(name)


@dataclass
class Viewer:
    """Everything that the account `viewer` sees: the last payload by topic, and every frame."""

    client: aiomqtt.Client
    last: dict[str, bytes] = field(default_factory=dict)
    frames: dict[tuple[str, str], list[FrameStruct]] = field(default_factory=dict)
    retained: set[str] = field(default_factory=set)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self) -> None:
        async for message in self.client.messages:
            topic = str(message.topic)
            payload = bytes(message.payload) if isinstance(message.payload, bytes | bytearray) else b""
            async with self.news:
                self.last[topic] = payload
                if message.retain:
                    self.retained.add(topic)
                if levels := FRAME.parse(topic):
                    self.frames.setdefault((levels["device"], levels["group"]), []).append(
                        decode_frame(payload, topic=topic)
                    )
                self.news.notify_all()

    def value(self, topic: Topic[P], **levels: str) -> P | None:
        """The last payload on a topic, or None if there was none yet."""
        address = topic.build(site=SITE, **levels)
        data = self.last.get(address)
        return decode(topic.payload, data, topic=address) if data else None

    async def wait(self, condition: Callable[[], object], what: str, *, within_s: float = 30) -> None:
        """Waits for messages until the condition holds."""
        async with self.news:
            try:
                await asyncio.wait_for(self.news.wait_for(lambda: bool(condition())), within_s)
            except TimeoutError:
                raise AssertionError(f"not within {within_s} s: {what}") from None


@asynccontextmanager
async def viewer(stack: Stack) -> AsyncIterator[Viewer]:
    """A client of the account `viewer` that subscribes to everything but commands, from now on."""
    password = stack.site.password("viewer").read_text().strip()
    client = aiomqtt.Client(
        "127.0.0.1", stack.ports.broker, username="viewer", password=password, protocol=aiomqtt.ProtocolVersion.V5
    )
    async with client:
        view = Viewer(client)
        reader = asyncio.create_task(view.read(), name="viewer")
        try:
            for name in ("frame", "tag", "device", "service", "stored", "plugin"):
                depth = {"device": "+/+", "stored": "+/+/+/+", "plugin": "+/+/+"}.get(name, "+/+")
                await client.subscribe(f"dinrail/v1/{SITE}/{name}/{depth}", qos=1)
            yield view
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
