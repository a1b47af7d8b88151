"""Waiting for what offers no event to wait on: other processes, state that changes without a word."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

import pytest

EVERY_S = 0.01


async def until(condition: Callable[[], object], timeout_s: float, *, what: str | None = None) -> None:
    """Returns once the condition, or what it awaits, holds. The test fails if that is late, with what it last gave.

    Where there is an event, await it. what: is waited for; by default the condition's source.
    """
    deadline = time.monotonic() + timeout_s
    while not (last := await _held(condition)):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what or _source(condition)} gave {last!r}")
        await asyncio.sleep(EVERY_S)


def wait_until(condition: Callable[[], object], timeout_s: float, *, what: str | Callable[[], str]) -> None:
    """until() where there is no loop: in fixtures that start a server. what: is waited for, or what then tells it."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(EVERY_S)


async def _held(condition: Callable[[], object]) -> object:
    found = condition()
    return await found if isinstance(found, Awaitable) else found


def _source(condition: Callable[[], object]) -> str:
    return inspect.getsource(condition).strip()
