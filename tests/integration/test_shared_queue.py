"""Many questions of one user at a recorder that is slow to answer, and one of another, through a real broker."""

import asyncio
from collections import Counter

from prometheus_client import CollectorRegistry

from contracts.codec import encode
from contracts.v1.command import REPLY, ErrorCode
from contracts.v1.history import QUERY_HISTORY, HistoryFound, QueryHistory
from services.runtime.bus.bus import Bus, Delivery
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running

ROOM = 1000
"""Questions that wait."""
FLOOD = ROOM + 50
ASKED = QueryHistory(tags=["level"], since=0, until=10)


class SlowHistory:
    """Answers nothing until it may."""

    def __init__(self) -> None:
        self.asked_by: list[str] = []
        self.may = asyncio.Event()

    async def query(self, command: Delivery[QueryHistory]) -> HistoryFound:
        self.asked_by.append(command.levels["user"])
        await self.may.wait()
        return HistoryFound(series=[])


async def flood(bus: Bus, user: str, count: int) -> None:
    """So many questions, each under correlation data of its own."""
    topic = QUERY_HISTORY.build(site=SITE, user=user, id="recorder")
    for number in range(count):
        await bus._link.send(
            topic,
            encode(ASKED, topic=topic),
            kind="QUERY_HISTORY",
            retain=False,
            expiry_s=600,
            correlation=str(number).encode(),
            response_topic=REPLY.build(site=SITE, user=user, client="flood"),
        )


async def test_a_user_who_floods_a_service_hears_so_and_keeps_nobody_waiting(broker_with_accounts: Broker) -> None:
    registry, history = CollectorRegistry(), SlowHistory()
    recorder = make_bus(broker_with_accounts, "recorder-bus", account="recorder", registry=registry)
    recorder.serve(QUERY_HISTORY, history.query, at_once=2, anew=True, id="recorder")
    hostile, other = (make_bus(broker_with_accounts, f"{name}-1", account=name) for name in ("viewer", "operator"))
    told = Inbox()
    hostile.subscribe(REPLY, told.handle, user="viewer", client="flood")

    async with running(recorder, hostile, other):
        await flood(hostile, "viewer", FLOOD)
        await told.wait(FLOOD - ROOM - 2)
        asking = asyncio.create_task(other.request(QUERY_HISTORY, ASKED, user="operator", id="recorder", timeout_s=120))
        await told.wait(FLOOD - ROOM - 1)  # one more gave way to it
        history.may.set()
        answer = await asking
        before = history.asked_by.index("operator")
        await told.wait(FLOOD)

    codes = Counter(reply.error.code if reply.error else None for reply in told.payloads)
    assert answer.ok, answer.error
    assert before <= 4, "it was next but for what had been begun, and one"
    assert codes == {None: ROOM + 1, ErrorCode.RATE_LIMITED: FLOOD - ROOM - 1}
    refusal = next(reply.error for reply in told.payloads if reply.error)
    assert "most of them viewer's; send it again once some are answered" in refusal.message
    assert refusal.detail["retry_after_s"] > 0
    drops = registry.get_sample_value("dinrail_dropped_items_total", {"queue": "bus.QUERY_HISTORY", "reason": "full"})
    assert drops == FLOOD - ROOM - 1
