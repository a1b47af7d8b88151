"""What a recorder answers of the events it has stored, over a real broker with its accounts."""

import signal
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.event_store import AUDIT_EVENTS, READ_EVENTS, AuditEvents, ReadEvents
from services.runtime.bus.bus import Bus
from tests.conftest import Eventually
from tests.integration.test_recorder import READY_S, RecorderProcess, client
from tests.real_broker import Broker
from tests.real_bus import make_bus, running
from tests.recorder_rig import event_message

PUMP = ReadEvents(scope="plant", aggregate="device", aggregate_id="pump")


async def read(
    bus: Bus, user: str, asked: ReadEvents = PUMP, *, recorder: str = "recorder", timeout_s: float = 30
) -> Any:
    return await bus.request(READ_EVENTS, asked, timeout_s=timeout_s, user=user, id=recorder)


async def test_what_a_service_told_is_read_and_audited_by_those_who_may(
    broker_with_accounts: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    broker = broker_with_accounts
    recorder = RecorderProcess(tmp_path / "recorder", broker, password=broker.accounts["recorder"])
    recorder.start()
    viewer, orchestrator = (make_bus(broker, f"{name}-tool", account=name) for name in ("viewer", "orchestrator"))
    try:
        await eventually(recorder.ready, READY_S)
        async with (
            running(viewer),
            running(orchestrator),
            client(broker, username="gateway", password=broker.accounts["gateway"]) as gateway,
        ):
            nothing = await read(viewer, "viewer")
            for told in (
                event_message(1, "write.accepted", "write.done", user="anna", t=5),
                event_message(2, "x", version=9),
            ):
                await gateway.publish(told.topic, told.payload, qos=1)

            async def all_known() -> bool:
                outcome = await read(viewer, "viewer")
                return outcome.result is not None and len(outcome.result.events) == 3

            await eventually(all_known)
            pump = (await read(viewer, "viewer")).result
            asked = AuditEvents(user="anna", type="write.done")
            audit = await viewer.request(AUDIT_EVENTS, asked, user="viewer", id="recorder")
            other = await read(orchestrator, "orchestrator")
        await eventually(lambda: "event_versions_missing" in recorder.log)
    finally:
        assert recorder.end(signal.SIGTERM) == 0

    assert nothing.error is not None
    assert nothing.error.code == "not_found"
    assert [(event.version, event.type) for event in pump.events] == [
        (1, "write.accepted"),
        (2, "write.done"),
        (9, "x"),
    ]
    assert (pump.missing, pump.repeated) == ([(3, 8)], [])
    assert audit.result is not None, audit.error
    assert [event.id for event in audit.result.events] == ["gateway-1-1-1"]
    assert other.result is not None, other.error
    assert other.result.events == pump.events


async def test_of_several_recorders_one_answers(broker: Broker, tmp_path: Path, eventually: Eventually) -> None:
    recorder = RecorderProcess(tmp_path / "recorder", broker, answers_queries=False)
    recorder.start()
    asker = make_bus(broker, "viewer-tool")
    try:
        await eventually(recorder.ready, READY_S)
        async with running(asker):
            outcome = await read(asker, "viewer", timeout_s=0.5)
    finally:
        recorder.end(signal.SIGTERM)

    assert outcome.error is not None
    assert outcome.error.code == "timeout"


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 1001}, {"after": "1"}, {"after": "1.2' OR 1"}])
def test_a_question_outside_its_bounds_is_none(asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(asked))):
        AuditEvents.model_validate(asked)
