"""When the states of a write are told: together where nothing waits, and never late."""

import asyncio
from typing import Any

import pytest

from services.gateway import story as story_module
from services.gateway.story import Story
from tests.unit.runtime.manual_clock import ManualClock

Happened = tuple[str, dict[str, Any]]


class Ledger:
    """In place of an event log: what it was told, call by call."""

    def __init__(self) -> None:
        self.told: list[tuple[list[Happened], dict[str, Any]]] = []
        self.heard = asyncio.Event()

    def tell_step(self, _subject: object, happened: list[Happened], **more: Any) -> str:
        self.told.append((happened, more))
        self.heard.set()
        return f"event {len(self.told)}"


def begin(ledger: Ledger, clock: ManualClock) -> Story:
    return Story(ledger, clock, "pump", "anna", {"tag": "speed"})  # type: ignore[arg-type]


async def test_a_write_that_waits_for_nothing_is_one_message_and_each_state_says_when_and_what() -> None:
    ledger, clock = Ledger(), ManualClock()
    story, begun_us = begin(ledger, clock), clock.now_us()

    story.tell_soon("write.accepted")
    clock.advance(0.003)
    story.tell_soon("write.executing")
    clock.advance(0.002)
    story.tell("write.verified", "write.done", read_back=1.0)
    story.tell()

    ((happened, more),) = ledger.told
    assert happened == [
        ("write.accepted", {"tag": "speed"}),
        ("write.executing", {"tag": "speed"}),
        ("write.verified", {"tag": "speed", "read_back": 1.0}),
        ("write.done", {"tag": "speed", "read_back": 1.0}),
    ]
    assert more["times_us"] == [begun_us, begun_us + 3000, begun_us + 5000, begun_us + 5000]
    assert more["cause"] is None


async def test_what_was_put_off_is_told_in_time_though_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "PUT_OFF_S", 0.001)
    ledger = Ledger()
    story = begin(ledger, ManualClock())

    story.tell_soon("write.accepted")
    assert not ledger.told
    async with asyncio.timeout(30):
        await ledger.heard.wait()
    story.tell("write.failed", code="timeout")

    (early, _), (late, more) = ledger.told
    assert early == [("write.accepted", {"tag": "speed"})]
    assert late == [("write.failed", {"tag": "speed", "code": "timeout"})]
    assert more["cause"] == "event 1"
