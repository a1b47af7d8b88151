"""What the watch over fail-safe values makes of one that was being written when something broke."""

import asyncio
import json
from types import SimpleNamespace

import pytest
import structlog

from services.gateway.guard import Guard
from services.runtime.clock import SystemClock


class Ledger:
    """A device's writer. broken: what it is to tell of raises an error that nobody expects."""

    def __init__(self):
        self.broken = False
        self.accounted = []
        self.written = asyncio.Event()

    async def account_fail_safe(self, name, *, user, value, why):
        if self.broken:
            raise RuntimeError("broken")
        self.accounted.append((name, user, value, why))

    async def write_fail_safe(self, name, *, user, why, begin):
        assert await begin(5)
        self.written.set()
        return True


def guard_of(path, ledger):
    speed = SimpleNamespace(fail_safe=SimpleNamespace(after=0.0))
    pump = SimpleNamespace(tags={"speed": speed})
    return Guard(
        path=path,
        user="gateway",
        writer=lambda _device: ledger,
        devices=lambda: {"pump": pump},
        bus=SimpleNamespace(subscribe=lambda *_: None),
        clock=SystemClock(),
        log=structlog.stdlib.get_logger(),
    )


async def test_a_watch_that_broke_before_it_told_of_a_cut_off_value_tells_and_writes_it_in_its_next_run(
    tmp_path, eventually
):
    path, ledger = tmp_path / "armed.json", Ledger()
    path.write_text(json.dumps([["pump", "speed", "anna", 5, "silence of anna"]]))
    ledger.broken = True
    guard = guard_of(path, ledger)
    with pytest.raises(ExceptionGroup):
        await guard.run()

    ledger.broken = False
    running = asyncio.create_task(guard.run())
    async with asyncio.timeout(30):
        await ledger.written.wait()
    await eventually(lambda: json.loads(path.read_text()) == [])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ledger.accounted == [("speed", "gateway", 5, "silence of anna")]
