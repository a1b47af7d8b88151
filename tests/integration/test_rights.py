"""Two hostile clients, whom the broker's lines let through, at real services: each refusal, and what is told of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import yaml
from pydantic import BaseModel

from contracts.v1.command import (
    CALL,
    DELETE,
    PUT,
    READ,
    WRITE,
    Call,
    Command,
    Delete,
    ErrorCode,
    Put,
    Read,
    Write,
)
from contracts.v1.device import ValueType
from contracts.v1.event_chain import VERIFY_EVENTS, VerifyEvents
from contracts.v1.event_state import REPLAY_EVENTS, ReplayEvents
from contracts.v1.event_store import AUDIT_EVENTS, READ_EVENTS, AuditEvents, ReadEvents
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import SampleStruct
from contracts.v1.history import HISTORY_AT, QUERY_HISTORY, HistoryAt, QueryHistory
from contracts.v1.pipeline import (
    GET_PIPELINE,
    LIST_PIPELINES,
    RUN_PIPELINE,
    SAVE_PIPELINE,
    GetPipeline,
    ListPipelines,
    RunPipeline,
    SavePipeline,
)
from contracts.v1.policy import Rights, Role
from contracts.v1.run import CANCEL_RUN, CancelRun
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.recorder.events.archive import EventArchive
from services.recorder.events.desk import EventDesk
from services.recorder.events.replay import EventReplay
from services.recorder.events.verification import EventVerifier
from services.recorder.queries.desk import HistoryDesk
from services.recorder.queries.queries import HistoryQueries
from services.runtime.bus.bus import Bus, Outcome
from services.runtime.clock import SystemClock
from services.runtime.settings import Limits, Rate
from tests.histories import Embedded
from tests.integration.gateway_site import Listener, Running, listening, running_gateway
from tests.integration.orchestrator_site import run_pipeline, running_orchestrator
from tests.integration.test_orchestrator_devices import known, pump
from tests.policies import OPEN
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus, running
from tests.recorder_rig import event_message, message, rig

NARROW = {
    "operator": Rights(role=Role.OPERATOR, devices=["pump"], writes=["pump/sp*"]),
    "engineer": Rights(role=Role.ENGINEER, devices=["pump"], workspaces=["north"]),
    "admin": Rights(role=Role.ADMIN),
}
"""The user `viewer` has been removed; at the broker all four still have the lines of their roles."""


@asynccontextmanager
async def plant(
    broker: Broker, plc: ModbusSimulator, folder: Path, **own: Any
) -> AsyncIterator[tuple[Listener, Running, dict[str, Bus]]]:
    """A gateway with the devices pump and fan, who listens as admin, and a hostile client for each account."""
    hostile = {name: make_bus(broker, f"{name}-tool", account=name) for name in ("viewer", "operator", "engineer")}
    devices = {name: pump(plc.port) for name in ("pump", "fan")}
    async with (
        listening(broker, account="admin") as listener,
        running_gateway(broker, folder, devices, **own) as gateway,
        running(*hostile.values()),
    ):
        await known(listener)
        yield listener, gateway, hostile


def refused(listener: Listener) -> list[dict[str, Any]]:
    """The events of refused commands."""
    heard = [one for topic, some in listener.heard.items() if topic.startswith("event/") for one in some]
    return [event for one in heard for event in one["events"] if event["type"] == "command.refused"]


def codes(*outcomes: Outcome[Any]) -> list[ErrorCode | None]:
    return [one.error and one.error.code for one in outcomes]


async def test_the_gateway_does_nothing_beyond_a_users_rights_though_the_broker_would_let_him(
    broker_with_accounts: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    broker = broker_with_accounts
    async with plant(broker, plc, tmp_path) as (listener, gateway, hostile):
        broker.publish_policy(NARROW, t=2)
        operator, engineer, viewer = hostile["operator"], hostile["engineer"], hostile["viewer"]
        fan = (tmp_path / "devices" / "fan.yaml").read_text()
        removed = await viewer.request(READ, Read(), user="viewer", id="pump")
        answers = [
            removed,
            await operator.request(WRITE, Write(value=1.0), user="operator", id="fan", arg="speed"),
            await operator.request(WRITE, Write(value=1.0), user="operator", id="pump", arg="level"),
            await operator.request(CALL, Call(function="reset"), user="operator", id="pump"),
            await operator.request(READ, Read(), user="operator", id="fan"),
            await engineer.request(PUT, Put(file=fan), user="engineer", id="gateway"),
            await engineer.request(DELETE, Delete(device="fan"), user="engineer", id="gateway"),
        ]
        done = await operator.request(WRITE, Write(value=7.0), user="operator", id="pump", arg="speed")
        await listener.until(lambda: len(refused(listener)) >= len(answers))
        counted = gateway.metric("dropped_items_total", queue="bus.WRITE", reason="forbidden")

    assert codes(*answers) == [ErrorCode.FORBIDDEN] * len(answers)
    assert [one.error.message for one in answers if one.error] == [
        "viewer is no user of this site",
        "operator has no right to the device 'fan'",
        "operator has no right to write the tag pump/level",
        "operator has no right to call functions of 'pump': that takes the right to write all of its tags, `pump/*`",
        "operator has no right to the device 'fan'",
        "engineer has no right to the device 'fan'",
        "engineer has no right to the device 'fan'",
    ]
    assert done.ok, "what he may is done"
    assert unit.writes == 1
    assert counted == 2
    assert {(one["user"], one["data"]["why"]) for one in refused(listener)} == {
        ("viewer", "forbidden"), ("operator", "forbidden"), ("engineer", "forbidden"),
    }  # fmt: skip


async def test_who_may_write_some_tags_puts_no_file_that_lets_them_move_others(
    broker_with_accounts: Broker, plc: ModbusSimulator, tmp_path: Path
) -> None:
    broker, engineer_with = broker_with_accounts, partial(Rights, role=Role.ENGINEER)
    async with plant(broker, plc, tmp_path) as (listener, _, hostile):
        path = tmp_path / "devices" / "pump.yaml"
        put = partial(hostile["engineer"].request, PUT, user="engineer", id="gateway")
        before = path.read_text()
        broker.publish_policy({"engineer": engineer_with(writes=["pump/sp*"])}, t=2)
        refusal = await put(Put(file=before + "# moved\n"))
        kept = path.read_text()
        await listener.until(lambda: len(refused(listener)) >= 1)
        broker.publish_policy({"engineer": engineer_with(writes=["pump/*"])}, t=3)
        done = await put(Put(file=before + "# moved\n"))

    assert codes(refusal) == [ErrorCode.FORBIDDEN]
    assert kept == before
    assert done.ok, "a file may move what he may write"


async def test_an_engineer_of_some_devices_points_none_of_them_at_another_machine(
    broker_with_accounts: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    broker, engineer_of_pump = broker_with_accounts, Rights(role=Role.ENGINEER, devices=["pump", "new"])
    async with plant(broker, plc, tmp_path) as (_, _, hostile):
        path = tmp_path / "devices" / "pump.yaml"
        engineer = partial(hostile["engineer"].request, user="engineer", id="gateway", timeout_s=30)
        text = path.read_text()
        here = yaml.safe_load(text)
        group = next(iter(here["groups"].values()))
        moved = [
            here | {"connection": here["connection"] | {"port": 1}},
            here | {"groups": {"fast": group | {"unit_id": 7}}},
            here | {"device": "new"},
        ]
        broker.publish_policy({"engineer": engineer_of_pump}, t=2)
        refusals = [await engineer(PUT, Put(file=yaml.safe_dump(one))) for one in moved]
        kept = path.read_text()
        tags = {"level": group["tags"]["level"]}
        his = await engineer(PUT, Put(file=yaml.safe_dump(here | {"groups": {"fast": group | {"tags": tags}}})))
        deleted = await engineer(DELETE, Delete(device="pump"))
        again = await engineer(PUT, Put(file=yaml.safe_dump(moved[0])))
        broker.publish_policy({"engineer": Rights(role=Role.ENGINEER)}, t=3)
        whole = await engineer(PUT, Put(file=text))

    assert codes(*refusals, again) == [ErrorCode.FORBIDDEN] * 4
    assert refusals[0].error is not None
    told = (
        "engineer has no right to change the driver, connection or unit of 'pump': where a device is says an engineer"
    )
    assert refusals[0].error.message.startswith(told)
    assert kept == text
    assert (codes(his, deleted, whole)) == [None] * 3


async def test_a_user_who_names_another_is_refused_and_it_is_told(
    broker_with_accounts: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    broker = broker_with_accounts
    orchestrator = make_bus(broker, "orchestrator-tool", account="orchestrator")
    async with plant(broker, plc, tmp_path) as (listener, _, hostile), running(orchestrator):
        broker.publish_policy(NARROW, t=2)
        forged = Write(value=9.0, on_behalf_of="admin")
        by_user = await hostile["operator"].request(WRITE, forged, user="operator", id="pump", arg="speed")
        by_engineer = await hostile["engineer"].request(
            CALL, Call(function="reset", on_behalf_of="admin"), user="engineer", id="pump"
        )
        beyond = [
            await orchestrator.request(
                WRITE, Write(value=9.0, on_behalf_of=named), user="orchestrator", id="pump", arg=tag
            )
            for named, tag in (("operator", "level"), ("viewer", "speed"))
        ]
        within = Write(value=8.0, on_behalf_of="operator")
        done = await orchestrator.request(WRITE, within, user="orchestrator", id="pump", arg="speed")
        await listener.until(lambda: len(refused(listener)) >= 4)

    assert codes(by_user, by_engineer, *beyond, done) == [ErrorCode.FORBIDDEN] * 4 + [None]
    assert [(one["user"], one["data"]["why"]) for one in refused(listener)] == [
        ("operator", "forged_behalf"),
        ("engineer", "forged_behalf"),
        ("orchestrator", "forbidden"),
        ("orchestrator", "forbidden"),
    ]
    assert unit.value("holding:10", ValueType.FLOAT32) == 8.0


async def test_who_asks_too_often_is_told_when_to_try_again_and_nothing_of_it_is_kept(
    broker_with_accounts: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    limits = Limits(acts=Rate(rate=0.001, burst=2))
    async with plant(broker_with_accounts, plc, tmp_path, limits=limits) as (listener, gateway, hostile):
        operator = hostile["operator"]
        answers = [
            await operator.request(WRITE, Write(value=float(number)), user="operator", id="pump", arg="speed")
            for number in range(60)
        ]
        other = await hostile["engineer"].request(WRITE, Write(value=99.0), user="engineer", id="pump", arg="speed")
        await listener.until(lambda: len(refused(listener)) >= 20)
        kept = len(gateway.gateway._use.book.answered)
        counted = gateway.metric("dropped_items_total", queue="bus.WRITE", reason="rate_limited")

    assert codes(*answers) == [None] * 2 + [ErrorCode.RATE_LIMITED] * 58
    assert answers[2].error is not None
    assert answers[2].error.detail["retry_after_s"] > 900
    assert other.ok, "another user has a bucket of his own"
    assert unit.writes == kept == 3
    assert counted == 58
    assert len(refused(listener)) < 25, "a flood of commands makes no flood of events"


async def test_a_pipeline_writes_no_longer_once_who_saved_it_may_not(
    broker: Broker, plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    content = {"nodes": {"set": {"type": "write", "tag": "pump/speed", "constants": {"value": 3.0}}}}
    client = make_bus(broker, "anna-console")
    async with (
        listening(broker) as listener,
        running_gateway(broker, tmp_path, {"pump": pump(plc.port)}),
        running_orchestrator(broker, tmp_path) as site,
        running(client),
    ):
        await known(listener)
        await site.save("control", content, by="bert")
        may = await run_pipeline(client, "control")
        broker.publish_policy({**OPEN, "bert": Rights(role=Role.VIEWER)}, t=2)
        lowered = await run_pipeline(client, "control")
        broker.publish_policy({name: rights for name, rights in OPEN.items() if name != "bert"}, t=3)
        gone = await run_pipeline(client, "control")

    assert codes(may, lowered, gone) == [None, ErrorCode.FORBIDDEN, ErrorCode.FORBIDDEN]
    assert lowered.error is not None
    assert gone.error is not None
    assert "'bert': bert is a viewer; device write takes an operator" in lowered.error.message
    assert "'bert': bert is no user of this site" in gone.error.message
    assert unit.writes == 1


async def test_workspaces_are_closed_to_who_has_no_right_to_them(broker_with_accounts: Broker, tmp_path: Path) -> None:
    broker = broker_with_accounts
    content = {"nodes": {"one": {"type": "expression", "expression": "1"}}}
    client = make_bus(broker, "engineer-tool", account="engineer")
    asked = [
        (LIST_PIPELINES, ListPipelines(), "all"),
        (GET_PIPELINE, GetPipeline(), "oee"),
        (RUN_PIPELINE, RunPipeline(wait=True), "oee"),
        (CANCEL_RUN, CancelRun(), "r1"),
    ]
    async with running_orchestrator(broker, tmp_path) as site, running(client):
        await site.save("oee", content, by="admin")
        broker.publish_policy(NARROW, t=2)
        elsewhere = [
            await client.request(command, given, user="engineer", scope="main", id=name)
            for command, given, name in asked
        ]
        own = [
            await client.request(command, given, user="engineer", scope="north", id=name)
            for command, given, name in asked
        ]
        listens = {"pipeline": "spy", **content, "triggers": [{"event": {"aggregate": "alarm"}}]}
        spies = SavePipeline(definition=json.dumps(listens))
        spy = await client.request(SAVE_PIPELINE, spies, user="engineer", scope="north", id="spy")
        listens["triggers"] = [{"event": {"aggregate": "alarm", "scope": "north"}}]
        keeps = SavePipeline(definition=json.dumps(listens))
        kept = await client.request(SAVE_PIPELINE, keeps, user="engineer", scope="north", id="spy")

    assert [one.error and one.error.message for one in elsewhere] == [
        "engineer has no right to the workspace 'main'"
    ] * 4
    assert codes(*own) == [None] + [ErrorCode.NOT_FOUND] * 3
    assert own[0].result.pipelines == [], "the list is of one workspace"
    assert codes(spy) == [ErrorCode.FORBIDDEN]
    assert kept.ok, kept.error


@asynccontextmanager
async def without_policy(plc: ModbusSimulator, folder: Path) -> AsyncIterator[tuple[Broker, Listener]]:
    """A broker that nobody has told a policy yet, with a gateway whose pump is known; who listens."""
    broker = Broker(folder / "broker", users=None)
    broker.start()
    try:
        async with listening(broker) as listener, running_gateway(broker, folder, {"pump": pump(plc.port)}):
            await known(listener)
            yield broker, listener
    finally:
        broker.stop()


async def test_a_command_that_comes_before_the_policy_is_done_when_it_comes(
    plc: ModbusSimulator, unit: Unit, tmp_path: Path
) -> None:
    async with without_policy(plc, tmp_path) as (broker, listener):
        write = Write(value=5.0)
        asking = asyncio.create_task(
            listener.bus.request(WRITE, write, user="anna", id="pump", arg="speed", timeout_s=30)
        )
        await listener.until(lambda: listener.heard["cmd/anna/device/plant/pump/write/speed"])
        broker.publish_policy(OPEN)
        outcome = await asking

    assert outcome.ok, outcome.error
    assert unit.writes == 1


HAPPENED = (
    event_message(1, "online", name="pump", t=1),
    event_message(2, "online", name="fan", t=2),
    event_message(3, "run.started", aggregate="run", name="r1", scope="north", t=3),
    event_message(4, "run.started", aggregate="run", name="r2", scope="south", t=4),
    event_message(5, "started", aggregate="service", name="gateway", t=5),
    event_message(6, "added", aggregate="user", name="carl", t=6),
    event_message(7, "command.refused", aggregate="service", name="orchestrator", scope="south", t=7),
)


@asynccontextmanager
async def recorder(broker: Broker, folder: Path) -> AsyncIterator[None]:
    """Answers questions about HAPPENED, and about the tag `level` of pump and fan."""
    path = folder / "recorder.db"
    bus = make_bus(broker, "recorder-bus", account="recorder")
    async with rig(path, Embedded(path).store()) as stored:
        await stored.commit(*HAPPENED)
        for seq, device in enumerate(("pump", "fan"), start=1):
            topic = FRAME.build(site=SITE, device=device, group="fast")
            await stored.commit(message(seq, [SampleStruct(t=1, v={"level": 1.0})], topic=topic))
        await stored.flush()
        desks = (
            EventDesk(
                bus=bus,
                archive=EventArchive(path),
                replay=EventReplay(path),
                verifier=EventVerifier(path),
                database=stored.database,
                instance="recorder",
                log=stored.log,
            ),
            HistoryDesk(
                bus=bus,
                queries=HistoryQueries(archive=Embedded(path).archive, now_s=monotonic, now_us=SystemClock().now_us),
                instance="recorder",
            ),
        )
        async with running(bus), asyncio.TaskGroup() as group:
            for one in desks:
                group.create_task(one.run())
            try:
                yield
            finally:
                for one in desks:
                    await one.stop()


async def test_a_recorder_answers_about_a_users_own_devices_and_workspaces_alone(
    broker_with_accounts: Broker, tmp_path: Path
) -> None:
    broker = broker_with_accounts
    broker.publish_policy(NARROW, t=2)
    client = make_bus(broker, "engineer-tool", account="engineer")

    async def ask(command: Command[Any, Any], asked: BaseModel) -> Outcome[Any]:
        return await client.request(command, asked, user="engineer", id="recorder")

    async with recorder(broker, tmp_path), running(client):
        audited = await ask(AUDIT_EVENTS, AuditEvents())
        single = [await ask(AUDIT_EVENTS, AuditEvents(limit=1))]
        while single[-1].result.next is not None:
            single.append(await ask(AUDIT_EVENTS, AuditEvents(limit=1, after=single[-1].result.next)))
        wanted = [
            ("plant", "device", "pump"),
            ("plant", "device", "fan"),
            ("north", "run", "r1"),
            ("south", "run", "r2"),
            ("plant", "service", "gateway"),
            ("plant", "user", "carl"),
        ]
        read, replayed = [], []
        for scope, aggregate, name in wanted:
            read.append(await ask(READ_EVENTS, ReadEvents(scope=scope, aggregate=aggregate, aggregate_id=name)))
            replayed.append(await ask(REPLAY_EVENTS, ReplayEvents(scope=scope, aggregate=aggregate, aggregate_id=name)))
        values = await ask(QUERY_HISTORY, QueryHistory(tags=["level"], since=0, until=10))
        then = await ask(HISTORY_AT, HistoryAt(tags=["*"], t=10))
        by_name = await ask(QUERY_HISTORY, QueryHistory(tags=["fan/level"], since=0, until=10))
        whole = await ask(VERIFY_EVENTS, VerifyEvents())

    seen = ["gateway", "r1", "pump"]
    assert [event.aggregate_id for event in audited.result.events] == seen
    assert [event.aggregate_id for one in single for event in one.result.events] == seen
    assert codes(*read) == codes(*replayed) == [None, ErrorCode.FORBIDDEN] * 3
    assert [one.device for one in values.result.series] == [one.device for one in then.result.tags] == ["pump"]
    assert codes(by_name) == [ErrorCode.NOT_FOUND], "as if it had never been recorded"
    assert codes(whole) == [ErrorCode.FORBIDDEN]
