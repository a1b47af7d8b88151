"""Fixtures for every suite: a real broker, waiting for what must come, and the check that no test leaves a task."""

import asyncio
import inspect
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from contracts.acl import ACCOUNTS
from tests.book_sync import BookSync
from tests.polling import until
from tests.real_broker import Broker

TURNS_TO_END = 10

# A busy machine may take its time over one example, and over making it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with long tests come first, lest one of several processes be left with one at the end; else as shuffled.

    Within a module the order stays; so it does among those with long tests, and among the others.
    """
    long = {item.path for item in items if {"docker", "slow"} & {mark.name for mark in item.iter_markers()}}
    items.sort(key=lambda item: item.path not in long)


class Eventually(Protocol):
    """Waits until the condition holds; what it last gave is in the failure otherwise."""

    def __call__(self, condition: Callable[[], object], timeout: float = 30.0) -> Awaitable[None]: ...


@pytest.fixture
def eventually() -> Eventually:
    """`await eventually(lambda: x == 3, timeout)`: see tests.polling.until."""

    async def wait(condition: Callable[[], object], timeout: float = 30.0) -> None:
        await until(condition, timeout)

    return wait


@pytest.fixture(scope="session", autouse=True)
def standard_address_space() -> Iterator[None]:
    """OPC UA servers share what they all begin with; see tests.address_space. Nothing where no test imports asyncua."""
    if "asyncua" not in sys.modules:
        yield
        return
    from tests.address_space import made_once

    with made_once():
        yield


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running mosquitto, configured as in production but for access: anybody may do anything."""
    running = Broker(tmp_path / "broker")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def broker_with_accounts(tmp_path: Path) -> Iterator[Broker]:
    """A running mosquitto with the accounts and access rules of production, for the site `test`.

    `.accounts` has the passwords by account.
    """
    accounts = {account.name: secrets.token_urlsafe() for account in ACCOUNTS}
    running = Broker(tmp_path / "broker", accounts=accounts)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def middle_europe() -> Iterator[None]:
    """Its rules of today, whatever the machine knows of zones; clocks are put back on the 26th of October 2025."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def book_sync(monkeypatch: pytest.MonkeyPatch) -> BookSync:
    """In place of the disk's own, until it is allowed."""
    sync = BookSync()
    monkeypatch.setattr(os, "fdatasync", sync)
    return sync


@pytest.fixture(autouse=True)
def no_leaked_tasks(request: pytest.FixtureRequest) -> None:
    """A test that leaves a task running fails: in a service that task would outlive its owner."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("leaked_task_check")


@pytest_asyncio.fixture
async def leaked_task_check() -> AsyncIterator[None]:
    """Looks at the loop's tasks after the test and its fixtures; see no_leaked_tasks."""
    before = asyncio.all_tasks()
    yield
    for _ in range(TURNS_TO_END):  # a task that was cancelled a moment ago may end
        await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    if left:
        pytest.fail(f"the test left tasks running: {', '.join(sorted(map(repr, left)))}")
