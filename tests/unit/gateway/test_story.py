"""When the states of a write are told: together where nothing waits, and never late."""

import asyncio
from typing import Any

from services.gateway.attempt import Story
from tests.unit.runtime.manual_clock import ManualClock


class Ledger:
    """In place of an event log: what it was told, call by call."""

    def __init__(self) -> None:
        self.told: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self.heard = asyncio.Event()

    def tell(self, *types: str, **more: Any) -> str:
        self.told.append((types, more))
        self.heard.set()
        return f"event {len(self.told)}"


def begin(ledger: Ledger, clock: ManualClock) -> Story:
    return Story(ledger, clock, "pump", "anna", {"tag": "speed"})  # type: ignore[arg-type]


async def test_what_was_put_off_goes_before_what_follows_in_one_message_and_says_since_when() -> None:
    ledger, clock = Ledger(), ManualClock()
    story = begin(ledger, clock)
    since_us = clock.now_us()

    story.tell_soon("write.accepted", within_s=60)
    clock.advance(0.003)
    story.tell_soon("write.executing", within_s=60)
    story.tell()
    story.tell("write.verified", "write.done", read_back=1.0)

    (first, early), (second, late) = ledger.told
    assert (first, second) == (("write.accepted", "write.executing"), ("write.verified", "write.done"))
    assert (early["since_us"], early["cause"], early["data"]) == (since_us, None, {"tag": "speed"})
    assert (late["since_us"], late["cause"], late["data"]) == (None, "event 1", {"tag": "speed", "read_back": 1.0})


async def test_what_was_put_off_is_told_in_time_though_nothing_follows() -> None:
    ledger = Ledger()

    begin(ledger, ManualClock()).tell_soon("write.accepted", within_s=0.001)
    assert not ledger.told
    async with asyncio.timeout(30):
        await ledger.heard.wait()

    assert [types for types, _ in ledger.told] == [("write.accepted",)]


async def test_a_state_with_data_of_its_own_does_not_lend_them_to_what_was_put_off() -> None:
    ledger = Ledger()
    story = begin(ledger, ManualClock())

    story.tell_soon("write.accepted", within_s=60)
    story.tell("write.failed", code="timeout")
    story.tell()

    assert [(types, more["data"]) for types, more in ledger.told] == [
        (("write.accepted",), {"tag": "speed"}),
        (("write.failed",), {"tag": "speed", "code": "timeout"}),
    ]
