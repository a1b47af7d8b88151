"""A connection to a site's broker with one of the accounts of people."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry
from structlog.typing import EventDict

from contracts.acl import VIEWER
from contracts.topic import TopicError, check_level
from services.cli.person import current_person
from services.cli.settings import read_broker
from services.cli.site import Site
from services.runtime.bus.bus import Bus, BusUnavailable, LoginRefused
from services.runtime.clock import SystemClock
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.delivery import Login
from services.runtime.settings import BrokerSettings

CONNECT_S = 5.0


class ConnectionFailed(Exception):
    """The broker cannot be reached or does not let us in; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to look at a site, or to command it. account: as whom."""

    site: str
    broker: BrokerSettings
    password: str = field(repr=False)
    account: str = VIEWER.name


def viewer_access(site: Site) -> Access:
    """Access to the site in this folder. Raises DocumentError on bad settings, ConnectionFailed without a password."""
    return access_as(VIEWER.name, site)


def access_as(account: str, site: Site) -> Access:
    """Access with this account, or as who was named by `dinrail --as`. Raises as viewer_access() does."""
    name, broker = read_broker(site)
    person = current_person()
    user = person.name if person else account
    try:
        check_level("user", user)
    except TopicError as error:
        raise ConnectionFailed(f"--as: {error}") from None
    path = site.password(user)
    try:
        password = person.password(path) if person else path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        mend = "with an account of your own: `dinrail --as USER ...`; a new site: `dinrail init`"
        raise ConnectionFailed(f"{error.filename or path}: {error.strerror}; {mend}") from None
    except UnicodeDecodeError:
        told = person.password_file or path if person else path
        raise ConnectionFailed(f"{told}: no password, for it is not UTF-8 text; is this the right file?") from None
    return Access(name, broker, password, user)


@asynccontextmanager
async def connected(access: Access, follow: Callable[[Bus], object] = lambda _bus: None) -> AsyncIterator[Bus]:
    """The bus, connected; it comes back by itself if the connection breaks.

    follow: subscribes what is wanted, before the bus connects.
    Raises ConnectionFailed if the broker cannot be reached or does not let us in.
    """
    await _try(access)
    bus = _bus(access)
    follow(bus)
    running = asyncio.create_task(bus.run(), name="bus")
    try:
        await _wait_connected(bus, access.broker)
        yield bus
    finally:
        await bus.stop()
        await running


async def _try(access: Access) -> None:
    """One connection before the bus, which would go on trying: a person wants to be told."""
    where = f"the broker at {access.broker.host}:{access.broker.port}"
    login = Login(client_id=_client_id(access), username=access.account, password=lambda: access.password)
    connection = Connection(
        access.broker, login=login, will=None, deliver=lambda _numbers, _message: None, now_s=time.monotonic
    )
    try:
        async with connection.open():
            return
    except LoginRefused as error:
        raise ConnectionFailed(
            f"{where} refuses the account {access.account} ({error.reason}): is this the password file of its site?"
        ) from None
    except BusUnavailable as error:
        raise ConnectionFailed(str(error)) from None


async def _wait_connected(bus: Bus, broker: BrokerSettings) -> None:
    try:
        await bus.wait_connected(CONNECT_S)
    except TimeoutError:
        raise ConnectionFailed(f"the broker at {broker.host}:{broker.port} does not answer any more") from None


def _client_id(access: Access) -> str:
    """Every connection has an id of its own, so that two terminals can look at once."""
    return f"{access.account}-{uuid4().hex[:12]}"


def _drop(logger: object, method: str, event: EventDict) -> EventDict:
    """The bus's log is for services; a person is told what matters here by other means."""
    raise structlog.DropEvent


def _bus(access: Access) -> Bus:
    log: Log = structlog.wrap_logger(None, processors=[_drop], wrapper_class=Log)
    return Bus(
        broker=access.broker,
        site=access.site,
        client_id=_client_id(access),
        username=access.account,
        password=lambda: access.password,
        presence=None,
        metrics=Metrics(CollectorRegistry()),
        clock=SystemClock(),
        log=log,
    )
