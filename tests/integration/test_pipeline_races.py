"""Two who change pipelines at once, users who ask without end, and an orchestrator that is killed while it saves."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.command import ErrorCode
from contracts.v1.pipeline import (
    DELETE_PIPELINE,
    LIST_PIPELINES,
    LIST_VERSIONS,
    ROLLBACK_PIPELINE,
    DeletePipeline,
    ListPipelines,
    ListVersions,
    RollbackPipeline,
)
from services.orchestrator.database import FILE, Database
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.settings import OrchestratorLimits
from services.runtime.bus.bus import BusError, Outcome
from services.runtime.settings import Rate
from tests.conftest import Eventually
from tests.integration.gateway_site import Listener, listening
from tests.integration.orchestrator_site import orchestrator_process
from tests.integration.test_orchestrator_pipelines import Console, console
from tests.real_broker import Broker
from tests.real_bus import make_bus, running


def writes_fill(name: str) -> str:
    return f"pipeline: {name}\nnodes:\n  told: {{type: derive, tag: line/fill, constants: {{value: 1}}}}\n"


def idle(name: str, number: int = 0) -> str:
    return f"pipeline: {name}\nnodes:\n  told: {{type: expression, expression: '{number}'}}\n"


def refusals(outcomes: list[Outcome[Any]]) -> list[str]:
    return [one.error.message for one in outcomes if one.error is not None]


async def test_of_two_pipelines_that_are_saved_at_once_and_write_the_same_tag_one_is_refused(
    broker: Broker, tmp_path: Path
) -> None:
    async with console(broker, tmp_path) as (anna, _, site):
        names = ("one", "two", "three", "four")
        outcomes = await asyncio.gather(*(anna.save(writes_fill(name), name) for name in names))

        (live,) = site.orchestrator.repository.all()
        assert len(refusals(outcomes)) == 3
        assert all(f"line/fill is written by the pipeline {live.pipeline!r}" in told for told in refusals(outcomes))


async def test_a_rollback_that_would_make_a_second_writer_beside_a_save_is_refused_or_the_save_is(
    broker: Broker, tmp_path: Path
) -> None:
    async with console(broker, tmp_path) as (anna, _, site):
        await anna.save(writes_fill("one"), "one")
        await anna.save(idle("one"), "one")
        outcomes = await asyncio.gather(
            anna.ask(ROLLBACK_PIPELINE, RollbackPipeline(version=1), "one"), anna.save(writes_fill("two"), "two")
        )

        assert len(refusals(outcomes)) == 1
        assert sum("line/fill" in (one.text or "") for one in site.orchestrator.repository.all()) == 1


async def test_a_rollback_is_refused_if_another_version_than_the_one_seen_is_live(
    broker: Broker, tmp_path: Path
) -> None:
    async with console(broker, tmp_path) as (anna, _, _):
        for number in range(3):
            await anna.save(idle("tank", number))
        stale = await anna.ask(ROLLBACK_PIPELINE, RollbackPipeline(version=1, expect_version=2), "tank")
        back = await anna.ask(ROLLBACK_PIPELINE, RollbackPipeline(version=1, expect_version=3), "tank")

    assert stale.error is not None
    assert (stale.error.code, stale.error.detail) == (ErrorCode.CONFLICT, {"version": 3})
    assert back.result.version == 4


async def test_a_file_is_checked_with_what_is_live_and_not_with_a_file_that_was_superseded(
    broker: Broker, tmp_path: Path
) -> None:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "one.yaml").write_text(idle("one"))
    async with console(broker, tmp_path) as (anna, listener, _):
        await listener.until(lambda: listener.last("pipeline/main/one"))
        assert (await anna.save(writes_fill("one"), "one")).result is not None

    (folder / "two.yaml").write_text(writes_fill("two"))
    (folder / "zero.yaml").write_text(idle("zero"))
    async with console(broker, tmp_path) as (_, listener, site):
        await listener.until(lambda: listener.last("pipeline/main/zero"))

        assert [one.pipeline for one in site.orchestrator.repository.all()] == ["one", "zero"]


async def test_a_file_is_checked_with_what_stays_live_beside_a_file_with_faults(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "one.yaml").write_text(writes_fill("one"))
    async with console(broker, tmp_path) as (_, listener, _):
        await listener.until(lambda: listener.last("pipeline/main/one"))

    (folder / "one.yaml").write_text("pipeline: one\nnodes:\n  told: {type: read, tag: nobody/has-it}\n")
    (folder / "two.yaml").write_text(writes_fill("two"))
    (folder / "zero.yaml").write_text(idle("zero"))
    async with console(broker, tmp_path) as (_, listener, site):
        await listener.until(lambda: listener.last("pipeline/main/zero"))

        assert [one.pipeline for one in site.orchestrator.repository.all()] == ["one", "zero"]


async def test_a_long_definition_that_is_checked_holds_up_nobody(broker: Broker, tmp_path: Path) -> None:
    nodes = "".join(f"  n{number}: {{type: delay, duration: 1s, unknown{number}: 1}}\n" for number in range(1500))
    async with console(broker, tmp_path) as (anna, _, _):
        await anna.save(idle("tank"))
        ended: list[str] = []

        async def noted(what: str, asked: Any) -> None:
            await asked
            ended.append(what)

        async with asyncio.TaskGroup() as group:
            group.create_task(noted("validate", anna.validate(f"pipeline: tank\nnodes:\n{nodes}")))
            group.create_task(noted("get", anna.get()))

    assert ended == ["get", "validate"]


@pytest.mark.parametrize(
    ("limits", "ask"),
    [
        ({"reads": Rate(rate=0.001, burst=1)}, lambda anna: anna.get()),
        ({"reads": Rate(rate=0.001, burst=1)}, lambda anna: anna.ask(LIST_PIPELINES, ListPipelines(), "all")),
        ({"changes": Rate(rate=0.001, burst=2)}, lambda anna: anna.save(idle("tank"))),
        ({"changes": Rate(rate=0.001, burst=1)}, lambda anna: anna.get(version=1)),
        ({"changes": Rate(rate=0.001, burst=1)}, lambda anna: anna.ask(LIST_VERSIONS, ListVersions(), "tank")),
        (
            {"changes": Rate(rate=0.001, burst=1)},
            lambda anna: anna.ask(DELETE_PIPELINE, DeletePipeline(expect_version=9), "tank"),
        ),
    ],
)
async def test_each_user_has_an_allowance_of_its_own_for_reading_and_for_changing(
    broker: Broker, tmp_path: Path, limits: dict[str, Any], ask: Callable[[Console], Any]
) -> None:
    async with console(broker, tmp_path, limits=OrchestratorLimits(**limits)) as (anna, _, _):
        await anna.save(idle("tank"))
        first, second = await ask(anna), await ask(anna)
        other = await ask(Console(anna.bus, user="bert"))

    assert first.error is None or first.error.code is ErrorCode.CONFLICT
    assert second.error is not None
    assert second.error.code is ErrorCode.RATE_LIMITED
    assert second.error.detail["retry_after_s"] > 0
    assert other.error is None or other.error.code is ErrorCode.CONFLICT


KILLS = 2


async def saves_until_killed(anna: Console, name: str, numbers: "count[int]", promised: dict[int, int]) -> str:
    """Saves version after version of one pipeline; gives why one was not saved.

    promised: what was answered: the number in each version.
    """
    while True:
        number = next(numbers)
        try:
            outcome = await anna.save(idle(name, number), name)
        except BusError as error:
            return str(error)
        if outcome.result is None:
            return str(outcome.error)
        promised[outcome.result.version] = number


def all_have_saved(
    saving: list["asyncio.Task[str]"], promised: dict[str, dict[int, int]], wanted: dict[str, int]
) -> bool:
    """Whether so many versions of each pipeline were answered. Fails if a saver ends before that."""
    assert [one.result() for one in saving if one.done()] == [], "nothing was killed yet"
    return all(len(promised[name]) >= least for name, least in wanted.items())


async def test_a_kill_of_the_orchestrator_while_commands_save_loses_nothing_that_was_answered(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    promised: dict[str, dict[int, int]] = {"tank": {}, "pump": {}}
    numbers = count()
    bus = make_bus(broker, "anna-console")
    async with listening(broker) as listener, running(bus):
        for kill in range(KILLS):
            with orchestrator_process(broker, tmp_path, limits={"changes": {"rate": 1e4, "burst": 10_000}}) as process:
                await until_online(listener, process)
                wanted = {name: len(found) + 5 + 7 * kill for name, found in promised.items()}
                async with asyncio.TaskGroup() as savers:
                    saving = [
                        savers.create_task(saves_until_killed(Console(bus), name, numbers, found))
                        for name, found in promised.items()
                    ]
                    await eventually(partial(all_have_saved, saving, promised, wanted))
                    process.kill()
                    await asyncio.wait(saving, timeout=1)  # for answers that are on their way
                    for one in saving:
                        one.cancel()

    async with Database(tmp_path / "orchestrator" / FILE) as database:
        repository = Repository(database=database)
        await repository.open()
        for name, answered in promised.items():
            numbers = [one.version for one in await repository.versions("main", name)]
            kept = {number: (await repository.get("main", name, number)).text for number in numbers}
            assert set(kept) == set(range(1, len(kept) + 1))
            assert {version: idle(name, number) for version, number in answered.items()}.items() <= kept.items()
            assert repository.live("main", name).version == len(kept)


async def until_online(listener: Listener, process: Any) -> None:
    topic = "service/orchestrator/orchestrator"
    before = listener.last(topic).get("sid")
    await listener.until(
        lambda: listener.last(topic).get("state") == "online" and listener.last(topic)["sid"] != before
    )
    assert process.poll() is None
