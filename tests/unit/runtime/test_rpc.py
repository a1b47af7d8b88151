"""The executing side of commands, where a broker would make a test wait: lateness, crashes, answers too long."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.codec import MAX_BYTES, decode
from contracts.v1.command import READ, REPLY, ErrorCode, Read, ReadResult, Reply
from contracts.v1.policy import POLICY, Policy, Rights
from services.runtime.commands.book import MOST_KEPT_BYTES, CommandBook
from services.runtime.commands.gate import Gate
from services.runtime.commands.page import Kind, read_page
from services.runtime.commands.replies import Encoded
from services.runtime.commands.rpc import CommandServer
from services.runtime.commands.serving import Serving
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import BusUnavailable, Delivery, PublishRefused
from services.runtime.settings import Limits
from tests.book_sync import BookSync
from tests.conftest import Eventually
from tests.policies import OPEN
from tests.unit.runtime.manual_clock import ManualClock

LEVELS = {
    "site": "s",
    "user": "anna",
    "id": "filler",
}
RESPONSE_TOPIC = REPLY.build(site="s", user="anna", client="cli")


@dataclass
class Bench:
    """A command server with its clock, what it has sent, and how sending fails if it does."""

    execute: Callable[[Delivery[Read]], Awaitable[ReadResult | Encoded[ReadResult]]]
    fault: Exception | None = None
    clock: ManualClock = field(default_factory=ManualClock)
    log: CapturingLogger = field(default_factory=CapturingLogger)
    book: CommandBook | None = None
    early: bool = False
    anew: bool = False
    limits: Limits = Limits()  # noqa: RUF009 - it is frozen
    sent: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    refused: list[tuple[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._admitted = False
        self.gate = Gate(limits=self.limits, clock=self.clock)
        self.gate.refused.append(lambda command, asked, why, told: self.refused.append((why, told)))
        self.server = CommandServer(
            READ,
            self.execute,
            use=Serving(
                site="s",
                send=self.send,
                gate=self.gate,
                metrics=Metrics(CollectorRegistry()),
                clock=self.clock,
                log=structlog.wrap_logger(self.log, processors=[], wrapper_class=structlog.stdlib.BoundLogger),
            ),
            book=self.book,
            early=self.early,
            anew=self.anew,
        )

    async def send(self, topic: str, data: bytes, **properties: Any) -> None:
        if self.fault:
            raise self.fault
        self.sent.append((topic, data, properties))

    async def admit(self, users: Mapping[str, Rights] = OPEN) -> None:
        """These are the site's users."""
        self._admitted = True
        policy = Policy(t=1, users=dict(users))
        await self.gate.follow(Delivery(topic=POLICY.build(site="s"), levels={"site": "s"}, payload=policy))

    async def handle(self, *, known: bool = True, **more: Any) -> None:
        """known: the policy is, if there was none."""
        if known and not self._admitted:
            await self.admit()
        command = Delivery(
            topic=READ.build(**LEVELS),
            levels=LEVELS,
            payload=b"{}",
            response_topic=RESPONSE_TOPIC,
            correlation=b"1",
            arrived_s=self.clock.monotonic(),
        )
        values = {name: getattr(command, name) for name in Delivery.__slots__}
        await self.server.handle(Delivery(**{**values, **more}))

    @property
    def reply(self) -> Reply:
        ((topic, data, properties),) = self.sent
        assert topic == RESPONSE_TOPIC
        assert properties == {"kind": "REPLY", "retain": False, "expiry_s": 60, "correlation": b"1"}
        return decode(Reply, data, topic=topic)

    @property
    def error(self) -> ErrorCode | None:
        return self.reply.error.code if self.reply.error else None

    @property
    def events(self) -> list[str]:
        return [call.kwargs["event"] for call in self.log.calls]


async def succeed(command: Delivery[Read]) -> ReadResult:
    return ReadResult(t=1, values={})


async def forbidden(command: Delivery[Read]) -> ReadResult:
    raise AssertionError("this command must not be executed")


@pytest.mark.parametrize(("expiry_s", "waited_s"), [(2, 2.0), (None, 5.0), (None, 60.0)])
async def test_a_command_is_not_begun_after_its_deadline(expiry_s: int | None, waited_s: float) -> None:
    bench = Bench(forbidden)

    await bench.handle(expiry_s=expiry_s, arrived_s=bench.clock.monotonic() - waited_s)

    assert bench.error is ErrorCode.TIMEOUT


@pytest.mark.parametrize(("expiry_s", "waited_s"), [(2, 1.9), (None, 4.9), (10, 9.0)])
async def test_a_command_is_begun_before_its_deadline(expiry_s: int | None, waited_s: float) -> None:
    bench = Bench(succeed)

    await bench.handle(expiry_s=expiry_s, arrived_s=bench.clock.monotonic() - waited_s)

    assert bench.reply.ok


async def test_a_crash_is_answered_and_passes_on_to_the_supervisor() -> None:
    async def crash(command: Delivery[Read]) -> ReadResult:
        raise ZeroDivisionError

    bench = Bench(crash)

    with pytest.raises(ZeroDivisionError):
        await bench.handle()

    assert bench.error is ErrorCode.INTERNAL


async def test_a_crashed_command_is_not_executed_again_when_it_comes_again() -> None:
    calls = 0

    async def crash(command: Delivery[Read]) -> ReadResult:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    bench = Bench(crash)
    with pytest.raises(ZeroDivisionError):
        await bench.handle()
    await bench.handle()

    assert calls == 1
    assert len(bench.sent) == 2


async def test_a_command_that_only_asks_is_answered_anew_when_it_comes_again() -> None:
    times = iter((1, 2))

    async def tell(command: Delivery[Read]) -> ReadResult:
        return ReadResult(t=next(times), values={})

    bench = Bench(tell, anew=True)
    await bench.handle()
    await bench.handle(payload=b'{"group":"fast"}')  # another one under the same correlation data

    assert [decode(Reply, data, topic=topic).result for topic, data, _ in bench.sent] == [
        {"t": 1, "values": {}},
        {"t": 2, "values": {}},
    ]


async def test_an_encoded_result_is_answered_as_it_would_have_been() -> None:
    result = ReadResult(t=1, values={"level": 1.5, "name": "tank"})

    async def tell(command: Delivery[Read]) -> Encoded[ReadResult]:
        return Encoded.of(result)

    async def make(command: Delivery[Read]) -> ReadResult:
        return result

    kept, made = Bench(tell), Bench(make)
    await kept.handle()
    await made.handle()

    assert kept.sent == made.sent
    assert kept.reply.result == result.model_dump(mode="json")


async def test_a_cancelled_command_is_not_answered() -> None:
    begun = asyncio.Event()

    async def hang(command: Delivery[Read]) -> ReadResult:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench = Bench(hang)
    executing = asyncio.create_task(bench.handle())
    await begun.wait()
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing

    assert not bench.sent


async def test_an_answer_too_long_becomes_an_error() -> None:
    async def answer_at_length(command: Delivery[Read]) -> ReadResult:
        return ReadResult(t=1, values={"text": "x" * MAX_BYTES})

    bench = Bench(answer_at_length)

    await bench.handle()

    assert bench.error is ErrorCode.INTERNAL


@pytest.mark.parametrize("fault", [BusUnavailable("gone"), PublishRefused("t", 0x87, "Not authorized")])
async def test_an_answer_that_cannot_be_sent_is_logged(fault: Exception) -> None:
    bench = Bench(succeed, fault=fault)

    await bench.handle()

    assert bench.events == ["answer_lost"]


async def test_a_handler_without_a_bus_is_unavailable() -> None:
    async def depend(command: Delivery[Read]) -> ReadResult:
        raise BusUnavailable("gone")

    bench = Bench(depend)

    await bench.handle()

    assert bench.error is ErrorCode.UNAVAILABLE


async def test_a_command_without_response_topic_is_executed_and_not_answered() -> None:
    executed = asyncio.Event()

    async def note(command: Delivery[Read]) -> ReadResult:
        executed.set()
        return await succeed(command)

    bench = Bench(note)

    await bench.handle(response_topic=None)

    assert executed.is_set()
    assert not bench.sent


async def test_the_wiping_of_a_retained_command_is_no_command() -> None:
    bench = Bench(forbidden)

    await bench.handle(payload=b"", retained=True)

    assert not bench.sent


async def test_an_empty_command_is_answered() -> None:
    bench = Bench(forbidden)

    await bench.handle(payload=b"")

    assert bench.reply.error is not None
    assert bench.reply.error.code is ErrorCode.INVALID


async def test_another_command_with_the_correlation_data_of_the_first_is_not_answered_as_that() -> None:
    async def execute(command: Delivery[Read]) -> ReadResult:
        return ReadResult(t=1, values={})

    bench = Bench(execute)
    await bench.handle(payload=b'{"group": "fast"}')
    bench.sent.clear()
    await bench.handle(payload=b'{"group": "slow"}')

    assert bench.reply.error is not None
    assert bench.reply.error.code is ErrorCode.CONFLICT


async def test_a_command_that_was_there_before_is_wiped_and_not_executed_whoever_sent_it() -> None:
    for sender in ({}, {"response_topic": None, "correlation": None}):
        bench = Bench(forbidden)

        await bench.handle(retained=True, planted=True, **sender)

        assert [(data, more["retain"]) for _, data, more in bench.sent] == [(b"", True)]


async def test_a_retained_command_that_may_not_be_wiped_is_reported() -> None:
    bench = Bench(forbidden, fault=PublishRefused("t", 0x87, "Not authorized"))

    await bench.handle(retained=True)

    assert bench.events == ["command_refused", "retained_command_stays"]


async def test_a_flood_of_foreign_commands_is_one_line_a_second_in_the_log() -> None:
    bench = Bench(forbidden)
    foreign = REPLY.build(site="s", user="berta", client="cli")

    for _ in range(3):
        await bench.handle(response_topic=foreign)
    await bench.handle(retained=True)
    bench.clock.advance(1)
    await bench.handle(response_topic=foreign)

    assert [call.kwargs["reason"] for call in bench.log.calls] == [
        "foreign_response_topic",
        "retained",
        "foreign_response_topic",
    ]


def make_book(path: Path) -> CommandBook:
    return CommandBook(path, clock=ManualClock(), metrics=Metrics(CollectorRegistry()), log=structlog.get_logger())


async def nothing(command: Delivery[Read]) -> ReadResult:
    return ReadResult(t=1, values={})


async def test_who_sent_no_correlation_data_gets_none_though_the_book_has_some(tmp_path: Path) -> None:
    with closing(make_book(tmp_path / "commands")) as book:
        bench = Bench(nothing, book=book)

        await bench.handle(correlation=None)

    ((_, data, properties),) = bench.sent
    assert decode(Reply, data, topic="reply").ok
    assert properties["correlation"] is None


async def test_what_cannot_be_understood_or_is_too_long_is_refused_and_not_kept(tmp_path: Path) -> None:
    with closing(make_book(tmp_path / "commands")) as book:
        for payload in (b"{", b'"' + b"x" * MOST_KEPT_BYTES + b'"'):
            bench = Bench(forbidden, book=book)
            await bench.handle(payload=payload)
            assert bench.reply.error is not None
            assert bench.reply.error.code is ErrorCode.INVALID
    (page,) = (tmp_path / "commands").iterdir()
    assert not any(page.read_bytes())


async def test_nothing_is_done_that_the_book_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "commands").write_bytes(b"no folder")
    with closing(make_book(tmp_path / "commands")) as book:
        bench = Bench(forbidden, book=book)

        await bench.handle()

    assert bench.reply.error is not None
    assert bench.reply.error.code is ErrorCode.UNAVAILABLE


@pytest.mark.parametrize("early", [False, True])
async def test_a_handler_waits_until_the_command_is_on_the_disk_unless_it_is_an_early_one(
    tmp_path: Path, book_sync: BookSync, eventually: Eventually, early: bool
) -> None:
    called = asyncio.Event()

    async def note(command: Delivery[Read]) -> ReadResult:
        called.set()
        assert book_sync.allowed.is_set() != early
        return ReadResult(t=1, values={})

    with closing(make_book(tmp_path / "commands")) as book:
        bench = Bench(note, book=book, early=early)
        handling = asyncio.create_task(bench.handle())
        await eventually(called.is_set if early else book_sync.asked.is_set)
        book_sync.allowed.set()
        await handling

    assert bench.reply.ok


async def test_the_book_has_the_command_before_it_is_begun_and_the_answer_before_it_is_sent(tmp_path: Path) -> None:
    (folder := tmp_path / "commands").mkdir()

    def kinds() -> list[int]:
        return [record.kind for page in sorted(folder.iterdir()) for record in read_page(page).records]

    async def look(command: Delivery[Read]) -> ReadResult:
        assert kinds() == [Kind.BEGUN]
        return ReadResult(t=1, values={})

    class Looking(Bench):
        async def send(self, topic: str, data: bytes, **properties: Any) -> None:
            assert kinds() == [Kind.BEGUN, Kind.ANSWERED]
            await super().send(topic, data, **properties)

    with closing(make_book(folder)) as book:
        bench = Looking(look, book=book)
        await bench.handle()
    assert bench.reply.ok
