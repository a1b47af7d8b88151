"""Real services under hostile messages: each command is answered once, nobody crashes, memory stays bounded."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from contracts.acl import ACCOUNTS
from contracts.v1.audit import SHOW_JOURNAL
from contracts.v1.command import READ, Command, ErrorCode, Reply
from contracts.v1.dead_letter import LIST_LETTERS
from contracts.v1.pipeline import LIST_PIPELINES
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.task import CALL_FUNCTION
from contracts.v1.user import ALL_USERS, LIST_USERS
from tests.account_client import DEADLINE_S
from tests.assault import Assault, memory_bytes
from tests.e2e.stack import SITE, START_S, Stack, Viewer, viewer
from tests.polling import wait_until

SERVICES = ("identity", "gateway", "recorder", "orchestrator", "compute")
MOST_GROWTH = 200 << 20
"""Bytes. One message of 1 MiB takes tens of them while it is read, and Python gives little back."""
DEVICE = {
    "device": "plc",
    "driver": "modbus",
    "connection": {"host": "127.0.0.1", "port": 1, "unit_id": 1},
    "groups": {"fast": {"interval": "1s", "tags": {"level": {"address": "holding:0", "type": "float32"}}}},
}


@pytest_asyncio.fixture
async def attacked(tmp_path: Path) -> AsyncIterator[Stack]:
    """Broker and services at work."""
    stack = Stack.make(tmp_path / "site", example=None)
    try:
        await started(stack)
        yield stack
    finally:
        await stack.close()


async def started(stack: Stack) -> None:
    """Starts all, with a device that does not answer, and returns when they say that they are there."""
    stack.device("plc", DEVICE)
    for name in ("identity", "orchestrator", "compute"):
        stack.service(name)
    await stack.start("broker")
    async with viewer(stack) as view:
        await stack.start(*SERVICES)
        await view.wait(lambda: all(is_online(view, name) for name in SERVICES), "all are online", within_s=START_S)


def is_online(view: Viewer, service: str) -> bool:
    """Whether it says so."""
    state = view.value(SERVICE, service=service, instance=service)
    return state is not None and state.state is ServiceStatus.ONLINE


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_hostile_messages_of_every_kind_leave_every_service_at_work(attacked: Stack) -> None:
    passwords = {one.name: attacked.site.password(one.name).read_text().strip() for one in ACCOUNTS}
    seed = time.time_ns()
    assault = Assault(attacked.ports.broker, SITE, passwords, Random(seed))
    try:
        await asyncio.to_thread(good, assault)
        before = {name: memory_bytes(attacked.processes[name].pid) for name in SERVICES}
        await asyncio.to_thread(lambda: list(assault.everything()))
        await asyncio.to_thread(good, assault)
        after = {name: memory_bytes(attacked.processes[name].pid) for name in SERVICES}
    finally:
        assault.close()
        sys.stdout.write(f"seed {seed}, {assault.sent} messages\n")  # pytest shows it where the test fails

    assert {name: after[name] - before[name] for name in SERVICES if after[name] - before[name] > MOST_GROWTH} == {}
    assert [name for name in SERVICES if "Traceback" in attacked.log(name)] == []


def good(assault: Assault) -> None:
    """Each service does what it is asked."""
    refused = answer(assault, READ, "plc")
    assert refused.error is not None
    assert refused.error.code is ErrorCode.DEVICE_UNAVAILABLE
    assert answer(assault, CALL_FUNCTION, "statistics", b'{"inputs":{"values":[1.0,2.0]}}').ok
    for command, whom in (
        (LIST_PIPELINES, "all"),
        (LIST_LETTERS, "recorder"),
        (SHOW_JOURNAL, "gateway"),
        (LIST_USERS, ALL_USERS),
    ):
        assert answer(assault, command, whom).ok


def answer(assault: Assault, command: Command[Any, Any], whom: str, payload: bytes = b"{}") -> Reply:
    """Once the sender has not sent too much lately."""
    replies: list[Reply] = []

    def passes() -> bool:
        """Whether this time it was not refused for its rate."""
        replies.extend(assault.ask(command, whom, [payload]))
        error = replies[-1].error
        return error is None or error.code is not ErrorCode.RATE_LIMITED

    wait_until(passes, DEADLINE_S, what=f"{command.name} is allowed again")
    return replies[-1]
