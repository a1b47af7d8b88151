"""A gap is asked for at its owner, and what the owner says is gone is booked, on disk and aloud."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import ContractError
from contracts.v1.command import ErrorCode, Failure
from contracts.v1.frame import FRAME
from contracts.v1.resend import Resend, ResendResult
from services.recorder.completeness import mender as module
from services.recorder.completeness.incidents import Incidents
from services.recorder.completeness.mender import Mender
from services.recorder.embedded.store import EmbeddedStore
from services.runtime import gaps as gaps_module
from services.runtime.bus.bus import BusUnavailable, Outcome
from services.runtime.gaps import PATIENCE, Gaps, StreamKey
from tests.conftest import Eventually
from tests.recorder_rig import DEVICE, GROUP, SITE, Rig, message, rig

FAST = StreamKey("frame", DEVICE, GROUP)


class Owner:
    """Stands for bus and owner: keeps what is asked, and answers by `answer`."""

    connected = True

    def __init__(self) -> None:
        self.asked: list[Resend] = []
        self.answer: Any = Outcome(result=ResendResult(sending=[]))

    async def request(self, command: Any, payload: Resend, *, timeout_s: float, user: str, **levels: str) -> Any:
        assert (command.name, user, levels) == ("RESEND", "recorder", {"id": DEVICE})
        self.asked.append(payload)
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.005)
    for name in ("GRACE_S", "SILENT_GRACE_S", "FIRST_WAIT_S", "LONGEST_WAIT_S"):
        monkeypatch.setattr(gaps_module, name, 0.0)


def mender_of(bench: Rig, owner: Owner, gaps: Gaps) -> Mender:
    return Mender(
        spool=bench.spool,
        gaps=gaps,
        incidents=Incidents(own="recorder"),
        bus=owner,
        user="recorder",
        metrics=bench.metrics,
        log=bench.log,
    )


@asynccontextmanager
async def mending(path: Path, owner: Owner) -> AsyncIterator[Rig]:
    """A recorder's spool with frames 1 and 5 of epoch 1, and a mender at work."""
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(path, store) as bench:
        await bench.commit(message(1), message(5))
        mender = mender_of(bench, owner, Gaps())
        task = asyncio.create_task(mender.run())
        try:
            yield bench
        finally:
            await mender.stop()
            await asyncio.wait_for(task, 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


async def test_what_is_gone_is_booked_with_its_reason_and_survives_a_restart(
    path: Path, eventually: Eventually
) -> None:
    owner = Owner()
    owner.answer = Outcome(result=ResendResult(sending=[(4, 4)], gone=[(2, 3, "cap_bytes"), (7, 9, "not asked for")]))
    async with mending(path, owner) as bench:
        await eventually(lambda: bench.metric("frames_lost_total", reason="cap_bytes") == 2)
        assert bench.metric("resend_requests_total", outcome="answered") >= 1
        assert (owner.asked[0].stream, owner.asked[0].epoch, owner.asked[0].ranges) == (GROUP, 1, [(2, 4)])
        assert bench.spool.take_touched() == {FAST: {1}}
        await eventually(lambda: owner.asked[-1].ranges == [(4, 4)])

    async with rig(path, EmbeddedStore(batch_bytes=1, flush_s=60, chunk_values=10)) as again:
        assert again.spool.marks[FAST][1].lost == ((2, 3, "cap_bytes"),)


async def test_an_owner_that_does_not_know_the_epoch_is_believed_when_it_has_said_so_often_enough(
    path: Path, eventually: Eventually
) -> None:
    owner = Owner()
    owner.answer = Outcome(error=Failure(code=ErrorCode.NOT_FOUND, message="no such epoch"))
    async with mending(path, owner) as bench:
        await eventually(lambda: bench.spool.marks[FAST][1].lost)

    assert len(owner.asked) == PATIENCE
    assert bench.spool.marks[FAST][1].lost == ((2, 4, "unknown"),)


@pytest.mark.parametrize(
    "answer",
    [BusUnavailable("away"), Outcome(error=Failure(code=ErrorCode.TIMEOUT, message="no answer"))],
)
async def test_an_owner_that_does_not_answer_is_asked_again_and_nothing_is_booked(
    path: Path, eventually: Eventually, answer: Any
) -> None:
    owner = Owner()
    owner.answer = answer
    async with mending(path, owner) as bench:
        await eventually(lambda: len(owner.asked) > 2 * PATIENCE)

    assert bench.spool.marks[FAST][1].lost == ()
    assert [line["event"] for line in bench.logged.entries] == ["resend_not_answered"], "once a second at most"


async def test_an_answer_that_makes_no_sense_is_counted_and_asked_for_again(path: Path, eventually: Eventually) -> None:
    owner = Owner()
    owner.answer = ContractError("reply: $.gone: not a list")
    async with mending(path, owner) as bench:
        await eventually(lambda: len(owner.asked) > 1)
        assert bench.metric("resend_requests_total", outcome="unavailable") >= 1


async def test_gaps_in_very_many_streams_are_asked_for_one_batch_after_the_other(
    path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = 3 * module.AT_ONCE
    owner = Owner()
    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as bench:
        for number in range(streams):
            topic = FRAME.build(site=SITE, device=DEVICE, group=f"g{number}")
            await bench.commit(message(1, topic=topic), message(5, topic=topic))
        gaps = Gaps()
        gaps.note(bench.spool.marks)
        gaps.due(0.0, most=1)  # it has been known for long
        monkeypatch.setattr(module, "LOOK_S", 60.0)
        monkeypatch.setattr(gaps_module, "FIRST_WAIT_S", 60.0)
        monkeypatch.setattr(gaps_module, "LONGEST_WAIT_S", 60.0)
        mender = mender_of(bench, owner, gaps)
        task = asyncio.create_task(mender.run())
        await eventually(lambda: len(owner.asked) == streams)
        await mender.stop()
        await asyncio.wait_for(task, 30)

    assert {asked.stream for asked in owner.asked} == {f"g{number}" for number in range(streams)}
