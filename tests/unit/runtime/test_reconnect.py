"""Connecting again: with growing waits, at once after a good connection, never giving up on its own."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from services.runtime.mqtt import reconnect
from services.runtime.mqtt.delivery import BusUnavailable, LoginRefused, TakenOver
from services.runtime.mqtt.reconnect import Reconnection


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(reconnect, "LONGEST_RETRY_S", 0.004)
    monkeypatch.setattr(reconnect, "SAY_AGAIN_S", 60.0)


def make_reconnection(log: CapturingLogger) -> Reconnection:
    bound = structlog.wrap_logger(log, processors=[], wrapper_class=structlog.stdlib.BoundLogger)
    return Reconnection(log=bound, random=Random(1))


async def run(attempts: Callable[[int], BaseException | None], *, say_again_s: float = 0.0) -> list[dict[str, Any]]:
    """Connects until the attempt of that number gives None; what was logged."""
    reconnect.SAY_AGAIN_S = say_again_s
    log = CapturingLogger()
    reconnection = make_reconnection(log)
    count = 0

    async def connect() -> None:
        nonlocal count
        count += 1
        error = attempts(count)
        if error is None:
            reconnection.stopping.set()
        else:
            raise error

    async with asyncio.timeout(30):
        await reconnection.run(connect)
    return [{"level": call.method_name, **call.kwargs} for call in log.calls]


async def test_it_tries_until_it_succeeds() -> None:
    logged = await run(lambda count: BusUnavailable("nobody there") if count < 20 else None)

    assert len(logged) == 19
    assert {(entry["level"], entry["event"], entry["error"]) for entry in logged} == {
        ("warning", "broker_unavailable", "nobody there")
    }


async def test_a_long_outage_is_not_told_with_every_attempt() -> None:
    logged = await run(lambda count: BusUnavailable("nobody there") if count < 20 else None, say_again_s=60.0)

    assert len(logged) == 3, "waits of 1 and 2 ms, then the longest"


async def test_a_refused_login_names_user_and_reason() -> None:
    (entry,) = await run(lambda count: LoginRefused("gateway", "Not authorized") if count == 1 else None)

    assert (entry["level"], entry["event"]) == ("error", "broker_refuses_login")
    assert (entry["user"], entry["reason"]) == ("gateway", "Not authorized")


async def test_a_takeover_passes() -> None:
    with pytest.raises(TakenOver):
        await run(lambda count: TakenOver("gateway-bus"))


async def test_a_good_connection_makes_the_next_wait_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "LONGEST_RETRY_S", 100.0)
    monkeypatch.setattr(reconnect, "STEADY_S", 0.0)

    logged = await run(lambda count: BusUnavailable("gone") if count < 15 else None)

    assert len(logged) == 14


async def test_a_stop_does_not_sit_out_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_RETRY_S", 1000.0)
    reconnection = make_reconnection(CapturingLogger())
    tried = asyncio.Event()

    async def connect() -> None:
        tried.set()
        raise BusUnavailable("nobody there")

    running = asyncio.create_task(reconnection.run(connect))
    await tried.wait()
    reconnection.stopping.set()
    async with asyncio.timeout(30):
        await running
