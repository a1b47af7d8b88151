"""A site as `dinrail init` makes it, its real broker, which reads its files again, and its identity service."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import structlog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from contracts.v1.command import Command
from contracts.v1.policy import Role
from contracts.v1.user import ADD_USER, LIST_USERS, UserChange
from services.cli.broker import find_mosquitto
from services.cli.broker_reload import BrokerReload
from services.cli.connection import access_as, connected
from services.cli.settings import read_broker
from services.cli.site import Site, make_site, write_broker_files
from services.identity.broker_files import ACCESS, PASSWORDS
from services.identity.composition import Identity, compose
from services.identity.password import hash_password
from services.identity.roster import Users
from services.identity.settings import SECTION, IdentitySettings
from services.identity.user_file import parse_users
from services.runtime.bus.bus import Bus, Outcome
from services.runtime.clock import SystemClock
from services.runtime.metrics import Metrics
from services.runtime.process import Means
from services.runtime.settings import load_settings
from tests.account_client import AccountClient
from tests.polling import until
from tests.ports import listens, site_ports

SITE = "plant"
ROOT = f"dinrail/v1/{SITE}"
DEADLINE_S = 30
LOST_S = 30

R = TypeVar("R", bound=BaseModel)


def hashed(password: str) -> str:
    """As the command line sends it."""
    return hash_password(password, salt=secrets.token_bytes(12))


@dataclass
class IdentitySite:
    """site: its folder. port: of its broker. told: what the watcher of the broker's files has said to people."""

    site: Site
    port: int
    admin: Bus | None = None
    told: list[str] = field(default_factory=list)
    clients: list[AccountClient] = field(default_factory=list)

    @property
    def users(self) -> Users:
        """As they stand in the file."""
        return parse_users(self.site.users_file.read_text(), source="users.yaml")

    async def login(self, user: str, password: str | None = None) -> AccountClient:
        """A connection as any MQTT tool makes one; client.connected tells whether it was let in.

        One that the broker drops unanswered, since it reads its files again in that moment, is made anew.
        """
        password = password or self.site.password(user).read_text().strip()
        while True:
            client = await asyncio.to_thread(AccountClient, self.port, user, password)
            self.clients.append(client)
            await until(lambda: not client.connected.empty() or client.ended.is_set(), DEADLINE_S, what="an answer")  # noqa: B023 - it is awaited here
            if not client.connected.empty():
                return client

    async def ask(self, command: Command[Any, R], name: str, *, timeout_s: float = 30, **fields: Any) -> Outcome[R]:
        """As the admin."""
        assert self.admin is not None
        asked = command.payload(**fields)
        return await self.admin.request(command, asked, timeout_s=timeout_s, user="admin", id=name)

    async def add(self, name: str, role: Role, **rights: Any) -> str:
        """A user, who is let in by the time this returns. Gives his password."""
        password = secrets.token_urlsafe()
        outcome: Outcome[UserChange] = await self.ask(ADD_USER, name, role=role, password=hashed(password), **rights)
        assert outcome.error is None, outcome.error
        await self.let_in(name, password)
        return password

    async def let_in(self, user: str, password: str) -> None:
        """Returns once the broker takes this user's password."""

        async def tried() -> bool:
            """One login."""
            client = await self.login(user, password)
            self.clients.remove(client)
            await asyncio.to_thread(client.close)
            return await is_in(client)

        await until(tried, DEADLINE_S, what=f"{user} is let in")


async def is_in(client: AccountClient) -> bool:
    """Whether the broker took its name and password."""
    return (await asyncio.to_thread(client.connected.get, timeout=DEADLINE_S)).getName() == "Success"


async def taken(client: AccountClient, *topics: str) -> set[str]:
    """Which of these topics below the site's root the broker lets the client publish to."""
    found = await asyncio.to_thread(client.publish, [f"{ROOT}/{topic}" for topic in topics])
    return {topic.removeprefix(f"{ROOT}/") for topic in found}


@asynccontextmanager
async def identity_site(folder: Path) -> AsyncIterator[IdentitySite]:
    """The site with its broker; nobody changes its users yet."""
    ports = site_ports()
    site = Site(folder)
    make_site(site, name=SITE, example=None, ports=ports)
    write_broker_files(site, name=SITE, broker=read_broker(site)[1])
    mosquitto = find_mosquitto()
    running = IdentitySite(site, ports.broker)
    files = [site.broker / name for name in (PASSWORDS, ACCESS)]
    with (site.folder / "broker.log").open("ab") as log:
        broker = await asyncio.create_subprocess_exec(
            str(mosquitto.program),
            "-c",
            str(site.broker / "mosquitto.conf"),
            env={**os.environ, **mosquitto.environment},
            stdout=log,
            stderr=log,
        )
        reload = BrokerReload(
            files, access=files[1], reload=lambda: broker.send_signal(signal.SIGHUP), tell=running.told.append
        )
        reload.begin()
        following = None
        try:
            await until(lambda: listens(ports.broker), DEADLINE_S, what="the broker listens")
            following = asyncio.create_task(reload.run())
            yield running
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait([following])
            for client in running.clients:
                await asyncio.to_thread(client.close)
            broker.terminate()
            await broker.wait()


def composed(site: Site) -> Identity:
    """The service, about to run."""
    settings = load_settings(
        SECTION,
        IdentitySettings,
        path=site.settings_file,
        environ={"DINRAIL_IDENTITY__LOOK_EVERY": "50ms", "DINRAIL_IDENTITY__HTTP_PORT": "0"},
    )
    password = site.password(SECTION).read_text().strip()
    means = Means(
        password=lambda: password,
        clock=SystemClock(),
        metrics=Metrics(CollectorRegistry()),
        log=structlog.stdlib.get_logger(),
        random=Random(1),
    )
    return compose(settings, means=means)


@asynccontextmanager
async def admin_of(running: IdentitySite) -> AsyncIterator[None]:
    """Somebody who may ask the service."""
    async with connected(access_as("admin", running.site)) as running.admin:
        yield


async def is_served(running: IdentitySite) -> bool:
    """Whether the service answers by now; what is asked before it has begun is lost."""
    return (await running.ask(LIST_USERS, "all", timeout_s=1)).error is None


@asynccontextmanager
async def identity_at_work(running: IdentitySite) -> AsyncIterator[Identity]:
    """The service inside the test, and an admin who may ask it."""
    identity = composed(running.site)
    tasks = [asyncio.create_task(part.run(), name=part.name) for part in reversed(identity.parts)][::-1]
    try:
        await identity.bus.wait_connected(DEADLINE_S)
        await identity.bus.settled()
        async with admin_of(running):
            yield identity
    finally:
        await _stop(identity.parts, tasks)


async def _stop(parts: Any, tasks: list["asyncio.Task[None]"]) -> None:
    """As run_service does it: part after part, each drained before the next is asked."""
    for part, task in zip(parts, tasks, strict=True):
        await part.stop()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait([task])
    for task in tasks:
        await task
