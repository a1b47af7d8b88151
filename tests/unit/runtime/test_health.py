import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from services.runtime.health import Health, PortTaken
from services.runtime.metrics import Metrics
from tests.unit.runtime.manual_clock import START_US, ManualClock


def make(metrics: Metrics, clock: ManualClock, port: int = 0) -> Health:
    return Health(host="127.0.0.1", port=port, registry=metrics.registry, clock=clock)


@pytest.fixture
async def health(metrics: Metrics, clock: ManualClock) -> AsyncIterator[Health]:
    health = make(metrics, clock)
    running = asyncio.create_task(health.run())
    await asyncio.wait_for(health.started.wait(), 30)
    yield health
    await health.stop()
    await running


def fetch(health: Health, path: str, method: str = "GET") -> tuple[int, str]:
    request = Request(f"http://127.0.0.1:{health.port}{path}", method=method)
    try:
        with urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def get(health: Health, path: str = "/health", method: str = "GET") -> tuple[int, str]:
    return await asyncio.to_thread(fetch, health, path, method)


async def test_a_process_with_nothing_required_is_healthy(health: Health) -> None:
    status, body = await get(health)

    assert status == 200
    assert json.loads(body) == {"status": "ok", "ready": True, "missing": [], "failing": [], "parts": {}}


async def test_503_lists_what_has_not_reported(health: Health) -> None:
    health.require("bus")
    health.require("intake")
    health.report("bus", True, "connected")

    status, body = await get(health)

    assert status == 503
    assert json.loads(body) == {
        "status": "starting",
        "ready": False,
        "missing": ["intake"],
        "failing": [],
        "parts": {"bus": {"ok": True, "detail": "connected", "since": START_US // 1000}},
    }


async def test_503_lists_what_fails_and_since_when(health: Health, clock: ManualClock) -> None:
    health.require("bus")
    health.report("bus", True)
    clock.advance(5)
    health.report("bus", False, "no broker")
    clock.advance(5)
    health.report("bus", False, "still no broker")

    status, body = await get(health)

    answer = json.loads(body)
    assert (status, answer["status"], answer["failing"]) == (503, "failing", ["bus"])
    assert answer["parts"]["bus"] == {"ok": False, "detail": "still no broker", "since": START_US // 1000 + 5000}


async def test_a_part_that_is_not_required_is_shown_and_fails_nobody(health: Health) -> None:
    health.report("device-7", False, "no answer")

    status, body = await get(health)

    assert status == 200
    assert not json.loads(body)["parts"]["device-7"]["ok"]


def test_a_part_that_falls_silent_fails(metrics: Metrics, clock: ManualClock) -> None:
    health = make(metrics, clock)
    health.require("writer", within_s=5)
    health.report("writer", True, "row 7")
    assert health.state()["ready"]

    clock.advance(6)
    state = health.state()

    assert state["failing"] == ["writer"]
    assert state["parts"]["writer"]["detail"] == "silent for 6 s; last said: row 7"


async def test_health_answers_503_while_the_event_loop_hangs(health: Health, clock: ManualClock) -> None:
    answers: list[tuple[int, str]] = []
    clock.advance(60)
    asking = threading.Thread(target=lambda: answers.append(fetch(health, "/health")))
    asking.start()
    asking.join(5)  # hangs, as a bug would, until the other thread has its answer

    [(status, body)] = answers
    assert status == 503
    assert json.loads(body)["failing"] == ["loop"]
    assert "hangs for 60 s" in json.loads(body)["parts"]["loop"]["detail"]


async def test_metrics_are_in_prometheus_s_text_format(health: Health, metrics: Metrics) -> None:
    metrics.crashes.labels("bus").inc()

    status, body = await get(health, "/metrics")

    assert status == 200
    assert 'dinrail_crashes_total{task="bus"} 1.0' in body


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/health", "POST", 405)])
async def test_anything_else_is_refused(health: Health, path: str, method: str, status: int) -> None:
    assert (await get(health, path, method))[0] == status


async def test_a_client_that_says_nothing_delays_no_other(health: Health) -> None:
    with socket.create_connection(("127.0.0.1", health.port)):
        assert (await get(health))[0] == 200


async def test_a_taken_port_is_named(health: Health, metrics: Metrics, clock: ManualClock) -> None:
    other = make(metrics, clock, port=health.port)

    with pytest.raises(PortTaken, match=f"port {health.port} on 127.0.0.1 is taken; set another http_port"):
        await other.run()


async def test_after_a_stop_the_port_is_free(metrics: Metrics, clock: ManualClock) -> None:
    health = make(metrics, clock)
    running = asyncio.create_task(health.run())
    await asyncio.wait_for(health.started.wait(), 30)

    await health.stop()
    await asyncio.wait_for(running, 30)

    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", health.port))
