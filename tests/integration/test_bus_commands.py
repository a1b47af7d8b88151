"""Commands over a real mosquitto: asked, executed once, in time, and answered to the right one."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from contracts.codec import ContractError
from contracts.v1.command import READ, REPLY, ErrorCode, Read, ReadResult, Reply, WriteResult
from contracts.v1.message import Value
from services.runtime.bus.bus import Bus, CommandFailed, Delivery, Outcome
from tests.conftest import Eventually
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running

LEVELS = {"id": "filler"}
COMMAND_TOPIC = READ.build(site=SITE, user="viewer", **LEVELS)
REPLY_TOPIC = REPLY.build(site=SITE, user="viewer", client="viewer-1")

Execute = Callable[[Delivery[Read]], Awaitable[ReadResult]]


class Counter:
    """A handler that counts what it executes and answers with the count."""

    def __init__(self) -> None:
        self.executed: list[Delivery[Read]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def execute(self, command: Delivery[Read]) -> ReadResult:
        self.executed.append(command)
        self.begun.set()
        await self.go.wait()
        return ReadResult(t=1, values={"count": len(self.executed)})


def done(**values: Value) -> Outcome[ReadResult]:
    return Outcome(result=ReadResult(t=1, values=values))


def answer(**values: Value) -> Reply:
    return Reply(ok=True, result={"t": 1, "values": values})


def server(broker: Broker, execute: Execute, registry: CollectorRegistry | None = None) -> Bus:
    bus = make_bus(broker, "gateway-bus", registry=registry)
    bus.serve(READ, execute)
    return bus


async def send(bus: Bus, **more: object) -> None:
    message = {"kind": "READ", "retain": False, "expiry_s": 30, "correlation": b"1", "response_topic": REPLY_TOPIC}
    await bus._link.send(COMMAND_TOPIC, b"{}", **{**message, **more})  # type: ignore[arg-type]


def refused(registry: CollectorRegistry, why: str) -> float | None:
    return registry.get_sample_value("dinrail_dropped_items_total", {"queue": "bus.READ", "reason": why})


def listening(bus: Bus) -> Inbox:
    inbox = Inbox()
    bus.subscribe(REPLY, inbox.handle)
    return inbox


async def test_a_command_is_executed_and_its_answer_comes_back(broker_with_accounts: Broker) -> None:
    counter = Counter()
    gateway = make_bus(broker_with_accounts, "gateway-bus", account="gateway")
    gateway.serve(READ, counter.execute)
    viewer = make_bus(broker_with_accounts, "viewer-1", account="viewer")

    async with running(gateway, viewer):
        first = await viewer.request(READ, Read(group="fast"), user="viewer", **LEVELS)
        second = await viewer.request(READ, Read(), user="viewer", **LEVELS)

    assert (first, second) == (done(count=1), done(count=2))
    assert [command.payload.group for command in counter.executed] == ["fast", None]
    assert counter.executed[0].levels["user"] == "viewer"


async def test_a_command_that_nobody_serves_times_out(broker: Broker) -> None:
    bus = make_bus(broker, "viewer-1")

    async with running(bus):
        reply = await bus.request(READ, Read(), timeout_s=0.05, user="viewer", **LEVELS)

    assert reply.error is not None
    assert reply.error.code is ErrorCode.TIMEOUT
    assert not bus._channel.requests._waiting


async def test_a_command_that_comes_twice_is_executed_once_and_answered_twice(broker: Broker) -> None:
    counter, registry = Counter(), CollectorRegistry()
    gateway, viewer = server(broker, counter.execute, registry), make_bus(broker, "viewer-1")
    replies = listening(viewer)

    async with running(gateway, viewer):
        await send(viewer)
        await replies.wait(1)
        await send(viewer)
        await replies.wait(2)
        await send(viewer, correlation=b"2")
        await replies.wait(3)

    assert replies.payloads == [answer(count=1), answer(count=1), answer(count=2)]
    assert [delivery.correlation for delivery in replies] == [b"1", b"1", b"2"]
    assert refused(registry, "duplicate") == 1


async def test_a_duplicate_of_a_command_in_execution_waits_for_its_answer(
    broker: Broker, eventually: Eventually
) -> None:
    counter, registry = Counter(), CollectorRegistry()
    gateway, viewer = server(broker, counter.execute, registry), make_bus(broker, "viewer-1")
    replies = listening(viewer)
    counter.go.clear()

    async with running(gateway, viewer):
        await send(viewer)
        await counter.begun.wait()
        await send(viewer)
        await eventually(lambda: refused(registry, "duplicate") == 1)
        counter.go.set()
        await replies.wait(1)

    assert len(counter.executed) == 1
    assert replies.payloads == [answer(count=1)]


async def test_an_answer_to_another_users_topic_is_refused(broker: Broker, eventually: Eventually) -> None:
    counter, registry = Counter(), CollectorRegistry()
    gateway, viewer = server(broker, counter.execute, registry), make_bus(broker, "viewer-1")
    foreign = [
        REPLY.build(site=SITE, user="other", client="viewer-1"),
        REPLY.build(site="elsewhere", user="viewer", client="viewer-1"),
        COMMAND_TOPIC,
    ]

    async with running(gateway, viewer):
        for topic in foreign:
            await send(viewer, response_topic=topic)
        await eventually(lambda: refused(registry, "foreign_response_topic") == len(foreign))

    assert not counter.executed


async def test_a_retained_command_is_not_executed_and_wiped(broker: Broker, eventually: Eventually) -> None:
    counter, registry, later = Counter(), CollectorRegistry(), Inbox()
    gateway, viewer = server(broker, counter.execute, registry), make_bus(broker, "viewer-1")
    latecomer = make_bus(broker, "latecomer")
    latecomer.subscribe_raw(READ, later.handle)

    async with running(gateway, viewer):
        await send(viewer, retain=True)
        await eventually(lambda: refused(registry, "retained") == 1)
        await send(viewer, response_topic=None)  # the wiping has reached the broker before this is executed
        await counter.begun.wait()
        async with running(latecomer):
            await send(viewer)
            await later.wait(1)

    assert [command.retained for command in counter.executed] == [False, False]
    assert [delivery.retained for delivery in later] == [False]


async def test_commands_planted_before_the_service_started_are_wiped_and_not_executed(
    broker_with_accounts: Broker, eventually: Eventually
) -> None:
    counter, registry, later = Counter(), CollectorRegistry(), Inbox()
    gateway = make_bus(broker_with_accounts, "gateway-bus", account="gateway", registry=registry)
    gateway.serve(READ, counter.execute, id="filler")
    viewer = make_bus(broker_with_accounts, "viewer-1", account="viewer")
    elsewhere = READ.build(site=SITE, user="viewer", id="another-gateways")
    latecomer = make_bus(broker_with_accounts, "latecomer", account="gateway")
    latecomer.subscribe_raw(READ, later.handle)

    async with running(viewer):
        await send(viewer, retain=True, expiry_s=None)
        await viewer._link.send(elsewhere, b"{}", kind="READ", retain=True)
        async with running(gateway):
            await eventually(lambda: refused(registry, "planted") == 1)
            done = await viewer.request(READ, Read(), user="viewer", **LEVELS)
        async with running(latecomer):
            await later.wait(1)

    assert done.ok
    assert len(counter.executed) == 1
    assert [delivery.topic for delivery in later] == [elsewhere]


async def test_a_command_is_cut_off_at_its_deadline(broker: Broker) -> None:
    ended = asyncio.Event()

    async def hang(command: Delivery[Read]) -> ReadResult:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    gateway, viewer = server(broker, hang), make_bus(broker, "viewer-1")
    replies = listening(viewer)

    async with running(gateway, viewer):
        await send(viewer, expiry_s=1)
        await replies.wait(1)

    assert ended.is_set()
    assert replies.payloads[0].error.code is ErrorCode.TIMEOUT


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (CommandFailed(ErrorCode.NOT_FOUND, "no group named slow"), ErrorCode.NOT_FOUND, "no group named slow"),
        (ZeroDivisionError(), ErrorCode.INTERNAL, "the command crashed; the log says where"),
    ],
)
async def test_an_error_becomes_a_typed_answer(
    broker: Broker, raised: Exception, code: ErrorCode, message: str
) -> None:
    async def fail(command: Delivery[Read]) -> ReadResult:
        raise raised

    gateway, viewer = server(broker, fail), make_bus(broker, "viewer-1")

    async with running(gateway, viewer):
        reply = await viewer.request(READ, Read(), user="viewer", **LEVELS)

    assert reply.error is not None
    assert (reply.error.code, reply.error.message) == (code, message)


async def test_an_invalid_command_is_answered_with_the_place_of_the_fault(broker: Broker) -> None:
    counter = Counter()
    gateway, viewer = server(broker, counter.execute), make_bus(broker, "viewer-1")
    replies = listening(viewer)

    async with running(gateway, viewer):
        await viewer._link.send(
            COMMAND_TOPIC,
            b'{"grop": "fast"}',
            kind="READ",
            retain=False,
            response_topic=REPLY_TOPIC,
            correlation=uuid.uuid4().bytes,
        )
        await replies.wait(1)

    assert replies.payloads[0].error.code is ErrorCode.INVALID
    assert "$.grop" in replies.payloads[0].error.message
    assert not counter.executed


async def test_one_slow_command_holds_up_no_other(broker: Broker) -> None:
    release = asyncio.Event()

    async def execute(command: Delivery[Read]) -> ReadResult:
        if command.levels["id"] == "slow":
            await release.wait()
        return ReadResult(t=1, values={"count": 1})

    gateway, viewer = server(broker, execute), make_bus(broker, "viewer-1")
    async with running(gateway, viewer):
        slow = asyncio.create_task(viewer.request(READ, Read(), user="viewer", **{**LEVELS, "id": "slow"}))
        quick = await viewer.request(READ, Read(), user="viewer", **LEVELS)
        still_waiting = not slow.done()
        release.set()
        late = await slow

    assert still_waiting
    assert quick == late == done(count=1)


async def test_after_a_reconnection_commands_are_served_and_answered_again(
    broker: Broker, eventually: Eventually
) -> None:
    counter = Counter()
    gateway, viewer = server(broker, counter.execute), make_bus(broker, "viewer-1")

    async with running(gateway, viewer):
        await viewer.request(READ, Read(), user="viewer", **LEVELS)
        broker.kill()
        await eventually(lambda: not gateway.connected and not viewer.connected)
        broker.start()
        await gateway.wait_connected(30)
        await viewer.wait_connected(30)
        reply = await viewer.request(READ, Read(), user="viewer", **LEVELS)

    assert reply == done(count=2)


async def test_a_service_that_is_closed_answers_no_more_and_one_begun_while_running_does(broker: Broker) -> None:
    gateway, viewer = make_bus(broker, "gateway-bus"), make_bus(broker, "viewer-1")

    async with running(gateway, viewer):
        before = await viewer.request(READ, Read(), timeout_s=0.1, user="viewer", **LEVELS)
        for _ in range(2):
            counter = Counter()
            service = gateway.serve(READ, counter.execute, id="filler")
            other = gateway.serve(READ, counter.execute, id="other")
            answered = await ask_until_answered(viewer)
            await service.close()
            await service.close()
            after = await viewer.request(READ, Read(), timeout_s=0.1, user="viewer", **LEVELS)
            still = await viewer.request(READ, Read(), user="viewer", id="other")
            await other.close()

            assert (answered.ok, after.ok, still.ok) == (True, False, True)

    assert not before.ok


async def test_a_service_that_is_closed_first_answers_what_it_has_taken(broker: Broker) -> None:
    counter = Counter()
    counter.go.clear()
    gateway, viewer = make_bus(broker, "gateway-bus"), make_bus(broker, "viewer-1")
    service = gateway.serve(READ, counter.execute, id="filler")

    async with running(gateway, viewer):
        asking = asyncio.create_task(viewer.request(READ, Read(), user="viewer", **LEVELS))
        await counter.begun.wait()
        closing = asyncio.create_task(service.close())
        counter.go.set()
        await closing

        assert await asking == done(count=1)


async def test_a_service_begun_before_a_reconnection_is_served_after_it_and_a_closed_one_is_not(
    broker: Broker, eventually: Eventually
) -> None:
    counter = Counter()
    gateway, viewer = make_bus(broker, "gateway-bus"), make_bus(broker, "viewer-1")

    async with running(gateway, viewer):
        gateway.serve(READ, counter.execute, id="filler")
        await gateway.serve(READ, counter.execute, id="other").close()
        broker.kill()
        await eventually(lambda: not gateway.connected and not viewer.connected)
        broker.start()
        await gateway.wait_connected(30)
        await viewer.wait_connected(30)
        reply = await viewer.request(READ, Read(), user="viewer", **LEVELS)
        closed = await viewer.request(READ, Read(), timeout_s=0.1, user="viewer", id="other")

    assert (reply.ok, closed.ok) == (True, False)


async def test_a_result_that_is_not_the_verbs_is_no_answer(broker: Broker) -> None:
    gateway, viewer = make_bus(broker, "gateway-bus"), make_bus(broker, "viewer-1")

    async def lie(command: Delivery[Read]) -> ReadResult:
        return WriteResult(tag="level", value=1, read_back=1, t=1)  # type: ignore[return-value]

    gateway.serve(READ, lie)
    async with running(gateway, viewer):
        with pytest.raises(ContractError, match=r"reply/viewer/viewer-1: \$\.result\.values: Field required"):
            await viewer.request(READ, Read(), user="viewer", **LEVELS)


async def ask_until_answered(viewer: Bus) -> Outcome[ReadResult]:
    """A service begun a moment ago may not have reached the broker yet."""
    async with asyncio.timeout(30):
        while True:
            reply = await viewer.request(READ, Read(), timeout_s=0.2, user="viewer", **LEVELS)
            if reply.ok:
                return reply


async def test_services_on_which_nothing_comes_cost_no_task_each(broker: Broker) -> None:
    counter = Counter()
    gateway, viewer = make_bus(broker, "gateway-bus"), make_bus(broker, "viewer-1")
    async with running(gateway, viewer):
        services = [gateway.serve(READ, counter.execute, id=f"device-{number}") for number in range(300)]
        await gateway.settled()
        idle = workers()
        replies = await asyncio.gather(
            *(viewer.request(READ, Read(), user="viewer", id=f"device-{number}") for number in range(0, 300, 10))
        )
        await asyncio.gather(*(service.close() for service in services))
        after = workers()

    assert all(reply.ok for reply in replies)
    assert idle == after == []


def workers() -> list[str]:
    return [name for task in asyncio.all_tasks() if "READ" in (name := task.get_name())]
