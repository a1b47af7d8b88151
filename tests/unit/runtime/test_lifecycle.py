import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import LogCapture

from services.runtime.lifecycle import run_service
from services.runtime.logs import Log


class Piece:
    """A part that keeps a diary; `hang` makes it ignore stop(), `fail` makes it crash when told to."""

    def __init__(self, name: str, diary: list[str], *, hang: bool = False) -> None:
        self.name = name
        self.started = asyncio.Event()
        self.fail = asyncio.Event()
        self._diary = diary
        self._hang = hang
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        self._diary.append(f"{self.name} started")
        self.started.set()
        ends = [asyncio.create_task(event.wait()) for event in (self.fail, self._stopped)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._diary.append(f"{self.name} cancelled")
            raise
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        if self.fail.is_set():
            raise RuntimeError(f"{self.name} is broken")
        self._diary.append(f"{self.name} drained")

    async def stop(self) -> None:
        self._diary.append(f"{self.name} asked")
        if not self._hang:
            self._stopped.set()


def told(captured: LogCapture) -> list[str]:
    return [entry["event"] for entry in captured.entries]


def signals(*numbers: signal.Signals) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)  # lets the loop's handler see one before the next

    return send


async def run(parts: list[Piece], log: Log, act: Callable[[], Awaitable[None]], *, drain_s: float = 30) -> int:
    """run_service's exit code; `act` runs once all parts have started."""

    async def act_when_started() -> None:
        for part in parts:
            await part.started.wait()
        await act()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        service = group.create_task(run_service(parts=parts, drain_s=drain_s, log=log))
        group.create_task(act_when_started())
    return service.result()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_sinks_start_first_and_sources_drain_first(
    log: Log, captured: LogCapture, number: signal.Signals
) -> None:
    diary: list[str] = []
    parts = [Piece(name, diary) for name in ("source", "sink")]

    code = await run(parts, log, signals(number))

    assert code == 0
    assert diary == [
        "sink started",
        "source started",
        "source asked",
        "source drained",
        "sink asked",
        "sink drained",
    ]
    assert told(captured) == ["service_started", "service_stopping", "part_drained", "part_drained", "service_stopped"]
    assert captured.entries[1]["reason"] == number.name


async def test_a_crash_drains_the_others_and_is_exit_code_1(log: Log, captured: LogCapture) -> None:
    diary: list[str] = []
    _, broken, _ = parts = [Piece(name, diary) for name in ("source", "broken", "sink")]

    async def act() -> None:
        broken.fail.set()

    code = await run(parts, log, act)

    assert code == 1
    assert diary[3:] == ["source asked", "source drained", "sink asked", "sink drained"]
    [crash] = [entry for entry in captured.entries if entry["event"] == "part_crashed"]
    assert (crash["part"], str(crash["exc_info"])) == ("broken", "broken is broken")


async def test_a_part_that_ends_unasked_ends_the_service(log: Log, captured: LogCapture) -> None:
    diary: list[str] = []
    parts = [Piece(name, diary) for name in ("source", "sink")]

    code = await run(parts, log, parts[1].stop)

    assert code == 1
    assert "part_ended_unasked" in told(captured)
    assert diary[-1] == "source drained"


async def test_a_part_that_hangs_is_cancelled_at_the_deadline(log: Log, captured: LogCapture) -> None:
    diary: list[str] = []
    parts = [Piece("source", diary, hang=True), Piece("sink", diary)]
    begun = asyncio.get_running_loop().time()

    code = await run(parts, log, signals(signal.SIGTERM), drain_s=0.4)

    assert code == 1
    assert asyncio.get_running_loop().time() - begun >= 0.3
    assert sorted(diary[3:]) == ["sink cancelled", "source cancelled"]
    assert [entry.get("part") for entry in captured.entries if entry["event"] == "part_cancelled"] == ["source", "sink"]


async def test_a_second_signal_cancels_at_once(log: Log, captured: LogCapture) -> None:
    diary: list[str] = []
    parts = [Piece("source", diary, hang=True)]

    code = await run(parts, log, signals(signal.SIGTERM, signal.SIGINT))

    assert code == 1
    assert diary[-1] == "source cancelled"
    [cut] = [entry for entry in captured.entries if entry["event"] == "drain_cut_short"]
    assert cut["reason"] == "second signal"


async def test_a_crash_in_stop_is_reported_and_exit_code_1(log: Log, captured: LogCapture) -> None:
    class Stubborn(Piece):
        async def stop(self) -> None:
            await super().stop()
            raise RuntimeError("cannot stop")

    code = await run([Stubborn("source", [])], log, signals(signal.SIGTERM))

    assert code == 1
    [crash] = [entry for entry in captured.entries if entry["event"] == "part_crashed"]
    assert crash["part"] == "source.stop"


async def test_cancelling_the_service_leaves_no_part_running(log: Log) -> None:
    diary: list[str] = []
    part = Piece("source", diary)
    service = asyncio.create_task(run_service(parts=[part], drain_s=30, log=log))
    await asyncio.wait_for(part.started.wait(), 30)

    service.cancel()
    with pytest.raises(asyncio.CancelledError):
        await service

    assert diary == ["source started", "source cancelled"]


async def test_the_signal_handlers_are_taken_back(log: Log) -> None:
    before = signal.getsignal(signal.SIGTERM)

    await run([Piece("source", [])], log, signals(signal.SIGTERM))

    assert signal.getsignal(signal.SIGTERM) == before
