"""All processes of a site on one machine: started in order, kept running, stopped in the order of the data's way."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any

from services.cli.broker import Mosquitto
from services.cli.broker_reload import BrokerReload
from services.cli.child import Child, Program
from services.cli.log_file import LogFile
from services.cli.settings import SiteSettings
from services.cli.site import TREE, Site
from services.identity.broker_files import ACCESS, PASSWORDS
from services.runtime.retry import Backoff
from services.runtime.settings import ServiceSettings
from services.runtime.stopping import Stopping

READY_S = 10
VALUES_S = 5
"""How long after the gateway others wait for a value: there may be no machine, or none that answers."""
PROBE_S = 0.05
GRACE_S = 5
STOP_ORDER = ("orchestrator", "compute", "gateway", "identity", "recorder", "broker", "plant")
"""Who commands stops first, while those are there who do it for him; then who reads machines, then who stores, then the
broker between them; the machines are there to the end."""


def programs(site: Site, settings: SiteSettings, mosquitto: Mosquitto) -> list[Program]:
    """What runs for this site, in the order in which it is started."""
    config = str((site.broker / "mosquitto.conf").resolve())
    broker = Program(
        name="broker",
        command=(str(mosquitto.program), "-c", config),
        folder=site.folder,
        environment=mosquitto.environment,
        grace_s=GRACE_S,
        ports=(settings.broker.port,),
        rereads=(site.broker / ACCESS, site.broker / PASSWORDS, site.certificates.server),
        store=(site.data / "broker" / "mosquitto.db").resolve(),
    )
    recorder = _service(site, "recorder", settings.recorder)
    gateway = _service(site, "gateway", settings.gateway)
    gateway = replace(gateway, ports=(settings.gateway.http_port,) if settings.gateway.http_port else ())
    compute = replace(_service(site, "compute", settings.compute), late=True)
    orchestrator = replace(_service(site, "orchestrator", settings.orchestrator), late=True)
    identity = replace(_service(site, "identity", settings.identity), late=True)
    return [broker, recorder, *_plant(settings), gateway, identity, compute, orchestrator]


def _service(site: Site, name: str, own: ServiceSettings) -> Program:
    environment = {"PYTHONUNBUFFERED": "1"}
    if own.password_file is None:  # a site that was made before there was this service
        environment[f"DINRAIL_{name.upper()}__PASSWORD_FILE"] = str(site.password(name).resolve())
    return Program(
        name=name,
        command=(sys.executable, "-m", f"services.{name}", "--config", str(site.settings_file.resolve())),
        folder=site.folder,
        environment=environment,
        grace_s=own.drain_s + GRACE_S,
    )


def _plant(settings: SiteSettings) -> list[Program]:
    demo = settings.demo
    if demo.example is None:
        return []
    options = ("--modbus-port", str(demo.modbus_port), "--opcua-port", str(demo.opcua_port))
    return [
        Program(
            name="plant",
            command=(sys.executable, "-m", f"examples.{demo.example}.simulate", *options),
            folder=TREE,
            environment={"PYTHONUNBUFFERED": "1"},
            grace_s=GRACE_S,
            ports=(demo.modbus_port, demo.opcua_port),
        )
    ]


class Processes:
    """The running programs of a site. tell: is given a line for everything that a person should know.

    values: is set once there are values of machines.
    """

    def __init__(
        self, programs: Sequence[Program], *, logs: Path, tell: Callable[[str], None], values: asyncio.Event
    ) -> None:
        self._tell = tell
        self._values = values
        self.logs = logs
        self.children = {
            program.name: Child(
                program=program,
                log=LogFile(logs / f"{program.name}.log"),
                backoff=Backoff(first_s=0.5, most_s=30.0, random=SystemRandom()),
                tell=tell,
            )
            for program in programs
        }
        self._stopping = Stopping()
        self._started = {name: asyncio.Event() for name in self.children}

    @property
    def failures(self) -> int:
        """How many times a program ended by itself or had to be killed."""
        return sum(child.failures for child in self.children.values())

    async def run(self) -> None:
        """Starts one after the other, each once those before it listen; returns when stop() has ended the last.

        Late ones are started once there are values, or VALUES_S after those before them.
        """
        late_s = float(VALUES_S)
        async with asyncio.TaskGroup() as group:
            for name, child in self.children.items():
                if child.program.late:
                    await self._until_values(late_s)
                    late_s = 0.0
                if self._stopping.is_set():
                    return
                await self._start(group, name, child)

    async def _start(self, group: asyncio.TaskGroup, name: str, child: Child) -> None:
        """Returns once it listens."""
        rereading = self._rereading(child) if child.program.rereads else None
        if rereading is not None:
            rereading.begin()
        group.create_task(child.run(), name=name)
        await self._until_listening(child.program.ports)
        if rereading is not None:
            group.create_task(self._while_running(rereading.run()), name=f"{name}.rereading")
        self._started[name].set()

    def _rereading(self, broker: Child) -> BrokerReload:
        async def restart() -> None:
            """Returns once it listens again: SIGHUP would end one that does not yet.

            It is killed: at SIGTERM mosquitto publishes and keeps all last wills, so that every service looks dead.
            """
            await broker.start_anew()
            await self._until_listening(broker.program.ports)

        access, _, certificate = files = broker.program.rereads
        return BrokerReload(
            files,
            access=access,
            reload=broker.reread,
            certificate=certificate,
            restart=restart,
            tell=self._tell,
        )

    async def _while_running(self, work: Coroutine[Any, Any, None]) -> None:
        """Ends it at stop()."""
        working = asyncio.create_task(work)
        try:
            await self._stopping.wait()
        finally:
            working.cancel()
            await asyncio.wait([working])

    async def started(self, name: str) -> None:
        """Returns once this program listens, or has had READY_S for it."""
        await self._started[name].wait()

    async def stop(self) -> bool:
        """Ends one after the other, each within its grace; whether all ended cleanly."""
        self._stopping.set()
        clean = True
        for name in STOP_ORDER:
            if child := self.children.get(name):
                clean = await child.stop() and clean
        return clean

    def kill(self) -> None:
        """Ends all at once, for somebody who does not want to wait."""
        self._stopping.set()
        for child in self.children.values():
            child.kill()

    async def _until_values(self, seconds: float) -> None:
        """Waits until there are values, or until stop(), so long at the most."""
        waits = [asyncio.create_task(event.wait()) for event in (self._values, self._stopping)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _until_listening(self, ports: Sequence[int]) -> None:
        """Waits until somebody listens on all of these ports, but no longer than READY_S or until stop()."""
        waiting = set(ports)
        for _ in range(round(READY_S / PROBE_S)):
            waiting = {port for port in waiting if not await _listens(port)}
            if not waiting or self._stopping.is_set():
                return
            await self._stopping.within(PROBE_S)


async def _listens(port: int) -> bool:
    """Whether somebody takes a connection on this port of this machine."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return True
