"""Real services under hostile messages: each command is answered once, nobody crashes, memory stays bounded."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from contracts.acl import ACCOUNTS
from contracts.v1.audit import SHOW_JOURNAL
from contracts.v1.command import READ, ErrorCode
from contracts.v1.dead_letter import LIST_LETTERS
from contracts.v1.pipeline import LIST_PIPELINES
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.task import CALL_FUNCTION
from tests.assault import Assault, memory_bytes
from tests.e2e.stack import SITE, START_S, Stack, Viewer, viewer

SERVICES = ("gateway", "recorder", "orchestrator", "compute")
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
    for name in ("orchestrator", "compute"):
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
    (reply,) = assault.ask(READ, "plc", [b"{}"])
    assert reply.error is not None
    assert reply.error.code is ErrorCode.DEVICE_UNAVAILABLE
    (reply,) = assault.ask(CALL_FUNCTION, "statistics", [b'{"inputs":{"values":[1.0,2.0]}}'])
    assert reply.ok, reply
    for command, whom in ((LIST_PIPELINES, "all"), (LIST_LETTERS, "recorder"), (SHOW_JOURNAL, "gateway")):
        (reply,) = assault.ask(command, whom, [b"{}"])
        assert reply.ok, reply
