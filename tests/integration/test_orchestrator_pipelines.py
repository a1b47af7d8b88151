"""Definitions over a real mosquitto: saved, shown, changed, checked, and taken in from a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.command import ErrorCode
from contracts.v1.device import DEVICE
from contracts.v1.pipeline import (
    DELETE_PIPELINE,
    GET_PIPELINE,
    LIST_PIPELINES,
    LIST_VERSIONS,
    ROLLBACK_PIPELINE,
    SAVE_PIPELINE,
    VALIDATE_PIPELINE,
    WORKSPACE,
    DeletePipeline,
    GetPipeline,
    ListPipelines,
    ListVersions,
    RollbackPipeline,
    SavePipeline,
    ValidatePipeline,
)
from contracts.v1.plugin import PLUGIN, PluginInfo
from services.cli.check import check, folder_catalogue
from services.orchestrator.settings import OrchestratorLimits
from services.runtime.bus.bus import Bus, Outcome
from services.runtime.settings import Rate
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import Running, run_pipeline, running_orchestrator
from tests.real_broker import Broker
from tests.real_bus import make_bus, running
from tests.unit.orchestrator.test_validation import TESTCASES, site_of

TANK = """\
pipeline: tank
title: Level of the tank
triggers:
  - every: 10m
nodes:
  level: {type: expression, expression: "x * 2", constants: {x: VALUE}}
outputs: {level: level.value}
"""
READS = "pipeline: reads\nnodes:\n  level: {type: read, tag: filler-plc/tank-level}\n"
READS_ALL = f"{READS}  mean: {{type: compute, function: statistics, constants: {{values: [1]}}}}\n"
READS_ALL += "  servo: {type: read, tag: servo/moving}\n"


class Console:
    """What a user asks."""

    def __init__(self, bus: Bus, timeout_s: float = 20.0, user: str = "anna") -> None:
        self.bus = bus
        self.timeout_s = timeout_s
        self.user = user

    async def ask(self, command: Any, payload: Any, name: str) -> Outcome[Any]:
        return await self.bus.request(
            command, payload, timeout_s=self.timeout_s, user=self.user, scope=WORKSPACE, id=name
        )

    async def save(self, text: str, name: str = "tank", **asked: Any) -> Outcome[Any]:
        return await self.ask(SAVE_PIPELINE, SavePipeline(definition=text, **asked), name)

    async def get(self, name: str = "tank", version: int | None = None) -> Outcome[Any]:
        return await self.ask(GET_PIPELINE, GetPipeline(version=version), name)

    async def is_right(self, text: str, name: str) -> bool:
        return bool((await self.validate(text, name)).ok)

    async def validate(self, text: str, name: str = "tank") -> Any:
        outcome = await self.ask(VALIDATE_PIPELINE, ValidatePipeline(definition=text), name)
        assert outcome.result is not None, outcome.error
        return outcome.result


@asynccontextmanager
async def console(broker: Broker, folder: Path, **own: Any) -> AsyncIterator[tuple[Console, Listener, Running]]:
    client = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running_orchestrator(broker, folder, **own) as site, running(client):
        yield Console(client), listener, site


async def test_a_pipeline_is_saved_shown_run_changed_rolled_back_and_deleted(broker: Broker, tmp_path: Path) -> None:
    async with console(broker, tmp_path) as (anna, listener, _):
        first = await anna.save(TANK.replace("VALUE", "1"), expect_version=0)
        second = await anna.save(TANK.replace("VALUE", "2"), expect_version=1)
        stale = await anna.save(TANK.replace("VALUE", "3"), expect_version=1)
        ran = await run_pipeline(anna.bus, "tank")
        live, old = await anna.get(), await anna.get(version=1)
        listed = await anna.ask(LIST_PIPELINES, ListPipelines(), "all")
        back = await anna.ask(ROLLBACK_PIPELINE, RollbackPipeline(version=1), "tank")
        ran_again = await run_pipeline(anna.bus, "tank")
        versions = await anna.ask(LIST_VERSIONS, ListVersions(), "tank")
        gone = await anna.ask(DELETE_PIPELINE, DeletePipeline(), "tank")
        missing = await anna.get()
        await listener.until(lambda: "pipeline/main/tank" in listener.cleared)
        events = "event/main/pipeline/tank"
        await listener.until(lambda: sum(len(message["events"]) for message in listener.heard[events]) == 4)

    assert (first.result.version, second.result.version, back.result.version, gone.result.version) == (1, 2, 3, 4)
    assert stale.error is not None
    assert stale.error.code is ErrorCode.CONFLICT
    assert stale.error.detail == {"version": 2}
    assert (ran.result.outputs, ran_again.result.outputs) == ({"level": 4}, {"level": 2})
    assert (live.result.version, live.result.saved_by, live.result.triggers) == (2, "anna", ["every 600s"])
    assert old.result.definition.nodes["level"].constants == {"x": 1}
    assert [(one.pipeline, one.version) for one in listed.result.pipelines] == [("tank", 2)]
    assert [(one.version, one.live) for one in versions.result.versions] == [(3, True), (2, False), (1, False)]
    assert versions.result.versions[0].rev == versions.result.versions[2].rev
    assert missing.error.code is ErrorCode.NOT_FOUND
    shown = listener.heard["pipeline/main/tank"]
    assert shown[-1]["version"] == 3
    assert shown[-1]["title"] == "Level of the tank"
    told = [event for message in listener.heard[events] for event in message["events"]]
    assert [(event["type"], event["data"]["version"]) for event in told] == [
        ("pipeline.saved", 1), ("pipeline.saved", 2), ("pipeline.rolled_back", 3), ("pipeline.deleted", 4),
    ]  # fmt: skip
    assert {event["user"] for event in told} == {"anna"}


async def test_get_and_list_tell_of_each_change_at_once(broker: Broker, tmp_path: Path) -> None:
    async def told() -> tuple[list[int], list[int | None]]:
        """The versions in the list; the live one's, and that of its shadow."""
        listed = await anna.ask(LIST_PIPELINES, ListPipelines(), "all")
        got = (await anna.get()).result
        live = [got.version, got.shadow] if got else []
        return [one.version for one in listed.result.pipelines], live

    async with console(broker, tmp_path) as (anna, _, _):
        seen = [await told()]
        for shadow in (False, False, True):
            await anna.save(TANK.replace("VALUE", str(len(seen))), shadow=shadow)
            seen.append(await told())
        await anna.ask(ROLLBACK_PIPELINE, RollbackPipeline(version=1), "tank")
        seen.append(await told())
        await anna.ask(DELETE_PIPELINE, DeletePipeline(), "tank")
        seen.append(await told())

    assert seen == [([], []), ([1], [1, None]), ([2], [2, None]), ([2], [2, 3]), ([4], [4, None]), ([], [])]


async def test_a_pipeline_with_faults_is_not_saved_and_the_answer_names_them(broker: Broker, tmp_path: Path) -> None:
    async with console(broker, tmp_path) as (anna, _, _):
        broken = await anna.save("pipeline: tank\nnodes:\n  a: {type: expression, expression: x +}\n")
        other = await anna.save(TANK.replace("VALUE", "1"), name="pump")
        none = await anna.get()

    assert broken.error is not None
    assert broken.error.code is ErrorCode.INVALID
    assert "tank:3: nodes.a.expression: column 4: ends too early" in broken.error.message
    assert "'tank', but 'pump' was asked for" in other.error.message
    assert none.error.code is ErrorCode.NOT_FOUND


@pytest.fixture
def single_files() -> list[Path]:
    return [case for case in TESTCASES if len(list((case / "pipelines").iterdir())) == 1]


async def test_the_command_answers_what_the_check_of_a_folder_says(
    broker: Broker, tmp_path: Path, single_files: list[Path], eventually: Any
) -> None:
    expected, answers = {}, {}
    for case in single_files:
        folder = tmp_path / case.name
        folder.mkdir()
        faults = check(site_of(case, folder)).faults
        expected[case.name] = [(one.field, one.line, one.message, one.mend) for one in faults]
    often = OrchestratorLimits(changes=Rate(rate=10_000, burst=10_000))
    async with console(broker, tmp_path, limits=often) as (anna, _, _):
        there = folder_catalogue(tmp_path / "cycle")
        functions = dict(there.functions)
        plugin = PluginInfo(
            id="all", kind="function", version="1.0.0", title="", instance="c", since=0, functions=functions
        )
        anna.bus.retain(PLUGIN, plugin, kind="function", id="all", instance="c")
        for info in there.devices.values():
            anna.bus.retain(DEVICE, info, device=info.device)
        await anna.bus.flush()
        await eventually(lambda: anna.is_right(READS_ALL, "reads"))
        for case in single_files:
            text = (case / "pipelines/tank.yaml").read_text()
            found = (await anna.validate(text)).faults
            answers[case.name] = [(one.path, one.line, one.message, one.mend) for one in found]

    assert len(answers) >= 20
    assert answers == expected


async def test_files_are_taken_in_as_soon_as_what_they_name_is_there(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/tank.yaml").write_text(TANK.replace("VALUE", "1"))
    (tmp_path / "pipelines/reads.yaml").write_text(READS)
    site_of(TESTCASES[0], tmp_path / "site")
    async with console(broker, tmp_path) as (anna, listener, _):
        await listener.until(lambda: listener.last("pipeline/main/tank").get("version") == 1)
        assert not listener.heard["pipeline/main/reads"]
        for info in folder_catalogue(tmp_path / "site").devices.values():
            anna.bus.retain(DEVICE, info, device=info.device)
        await listener.until(lambda: listener.last("pipeline/main/reads").get("version") == 1)

    assert listener.last("pipeline/main/reads")["saved_by"] == "engineer"
