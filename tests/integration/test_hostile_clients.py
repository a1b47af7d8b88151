"""What somebody with a lesser account tries on the sessions and names of others, at a real broker with accounts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.topic import ROOT
from contracts.v1.frame import FRAME
from contracts.v1.task import COMPUTE_GROUP, TASK, Task
from services.runtime.intake import Intake
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import Login
from tests.account_client import DEADLINE_S, REFUSED, AccountClient
from tests.integration.clients import taking
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running

FRAMES = FRAME.build(site=SITE, device="plc", group="fast")
WRITE_AS_ENGINEER = f"{ROOT.format(site=SITE)}/cmd/engineer/device/plant/plc/write/level"


@contextmanager
def hostile(broker: Broker, account: str = "viewer", **how: Any) -> Iterator[AccountClient]:
    """A client that has the account's password, and no good intentions."""
    assert broker.accounts is not None
    client = AccountClient(broker.port, account, broker.accounts.get(account, "x"), **how)
    try:
        yield client
    finally:
        client.close()


def recorders_intake(broker: Broker) -> Intake:
    """As the recorder's account, in the session that the recorder has."""
    assert broker.accounts is not None
    return Intake(
        broker=broker.settings(),
        client_id="recorder-intake",
        username="recorder",
        password=lambda: broker.accounts["recorder"],
        filters=[FRAME.filter(site=SITE)],
        metrics=Metrics(CollectorRegistry()),
        log=structlog.wrap_logger(CapturingLogger(), processors=[], wrapper_class=structlog.stdlib.BoundLogger),
    )


@asynccontextmanager
async def intruders(broker: Broker, *client_ids: str) -> AsyncIterator[None]:
    """A viewer connects under each of these names: to take what the session holds, and to end the session."""
    for client_id in client_ids:
        for session_s in (60, 0):
            with hostile(broker, client_id=client_id, session_s=session_s) as viewer:
                code = await asyncio.to_thread(viewer.connected.get, timeout=DEADLINE_S)
                assert not code.is_failure
    yield


async def test_who_knows_a_services_name_can_neither_throw_it_out_nor_take_what_is_kept_for_it(
    broker_with_accounts: Broker,
) -> None:
    broker = broker_with_accounts
    gateway, recorder = (
        make_bus(broker, "gateway-bus", account="gateway"),
        make_bus(broker, "recorder-bus", account="recorder"),
    )
    async with taking(recorders_intake(broker)):
        pass  # from now on the broker keeps what comes

    async with running(gateway, recorder):
        for number in range(10):
            await gateway.publish_bytes(FRAMES, b"%d" % number, kind="FRAME")
        async with intruders(broker, "recorder-intake", "gateway-bus"):
            intake = recorders_intake(broker)
            async with taking(intake), asyncio.timeout(DEADLINE_S):
                batch = await intake.batch(linger_s=DEADLINE_S, most=10)
                batch.ack()
            await gateway.publish_bytes(FRAMES, b"on", kind="FRAME")  # its connection is the one that it had

    assert [message.payload for message in batch.messages] == [b"%d" % number for number in range(10)]


def test_two_processes_of_one_account_and_name_meet_and_those_of_another_account_do_not() -> None:
    first, second = (Login(client_id="recorder-bus", username="recorder", password=lambda: "a") for _ in range(2))
    viewer = Login(client_id="recorder-bus", username="viewer", password=lambda: "b")

    assert first.identifier == second.identifier
    assert viewer.identifier != first.identifier


async def test_a_stranger_who_joins_the_group_of_compute_services_takes_no_task_from_them(
    broker_with_accounts: Broker,
) -> None:
    broker, inbox = broker_with_accounts, Inbox()
    compute, orchestrator = make_bus(broker, "c", account="compute"), make_bus(broker, "o", account="orchestrator")
    compute.exchange.share(TASK, inbox.handle, group=COMPUTE_GROUP, workers=4, close_s=1)
    task = Task(task="t1", function="fft", inputs={}, attempt=1, deadline=1)

    async with running(compute, orchestrator):
        with hostile(broker) as viewer:
            await asyncio.to_thread(viewer.subscribe, f"$share/{COMPUTE_GROUP}/{TASK.filter(site=SITE)}")
            for number in range(6):
                await orchestrator.publish(TASK, task.model_copy(update={"task": f"t{number}"}), function="fft")
            await inbox.wait(6)
            assert viewer.received.empty()

    assert {delivery.payload.task for delivery in inbox} == {f"t{number}" for number in range(6)}


@pytest.mark.parametrize("delay_s", [0, 1])
def test_a_last_will_on_a_foreign_topic_never_comes(broker_with_accounts: Broker, delay_s: int) -> None:
    broker = broker_with_accounts
    with hostile(broker, "gateway") as gateway:
        gateway.subscribe(WRITE_AS_ENGINEER)
        with hostile(broker, "viewer", will=WRITE_AS_ENGINEER, will_delay_s=delay_s, session_s=1) as viewer:
            code = viewer.connected.get(timeout=DEADLINE_S)
            if code.is_failure:
                assert code.getName() == REFUSED
            else:
                viewer.die()
        with hostile(broker, "engineer", will=WRITE_AS_ENGINEER, will_delay_s=delay_s, session_s=1) as engineer:
            assert not engineer.connected.get(timeout=DEADLINE_S).is_failure
            engineer.die()

        assert gateway.received.get(timeout=DEADLINE_S)[:2] == (WRITE_AS_ENGINEER, b"engineer")
        assert gateway.received.empty()


@pytest.mark.parametrize(
    "name",
    ["viewer/x", "+", "#", "viewer\0", "Viewer", "vıewer", "viewer ", "\u202eviewer", "v" * 65_535, "%u", "$SYS"],
)
def test_a_name_that_is_no_users_is_not_let_in(broker_with_accounts: Broker, name: str) -> None:
    broker = broker_with_accounts
    with hostile(broker, name) as stranger, hostile(broker) as viewer:
        assert stranger.ended.wait(DEADLINE_S)
        assert not viewer.connected.get(timeout=DEADLINE_S).is_failure
        assert stranger.connected.empty() or stranger.connected.get().is_failure
