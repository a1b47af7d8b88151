"""`dinrail pipeline`, `run` and `alarm` as a person types them, against a running orchestrator."""

import asyncio
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from contracts.v1.alarm import ALARM, Alarm
from services.cli.main import app
from tests.integration.gateway_site import listening
from tests.integration.orchestrator_site import running_orchestrator
from tests.real_broker import Broker
from tests.real_bus import make_bus, running

TANK = """\
pipeline: tank
title: Level of the tank
inputs: {x: {type: number, default: 3.0}}
nodes:
  twice: {type: expression, expression: "x * 2", inputs: {x: inputs.x}}
outputs: {twice: twice.value}
"""


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Path:
    """A site's folder as far as the command line needs it."""
    folder = tmp_path / "site"
    (folder / "secrets").mkdir(parents=True)
    for account in ("viewer", "operator", "engineer"):
        (folder / "secrets" / f"{account}.password").write_text("any\n")
    settings = {"site": "test", "broker": {"host": "127.0.0.1", "port": broker.port}}
    (folder / "dinrail.yaml").write_text(yaml.safe_dump(settings))
    (folder / "tank.yaml").write_text(TANK)
    return folder


async def dinrail(site: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, which runs in a thread with a loop of its own."""
    runner = CliRunner(env={"COLUMNS": "160"})
    result = await asyncio.to_thread(runner.invoke, app, [*words, "--dir", str(site)])
    return result.exit_code, result.stdout.strip(), result.stderr.strip()


async def test_a_pipeline_is_saved_run_changed_and_removed_from_the_command_line(
    broker: Broker, site: Path, tmp_path: Path
) -> None:
    file = str(site / "tank.yaml")
    async with running_orchestrator(broker, tmp_path):
        saved = await dinrail(site, "pipeline", "save", file)
        ran = await dinrail(site, "run", "tank", "x=4")
        wrong = await dinrail(site, "run", "tank", "x=hot")
        status = await dinrail(site, "pipeline", "status", ran[1].split(":")[0])
        (site / "tank.yaml").write_text(TANK.replace("x * 2", "x * 3"))
        conflict = await dinrail(site, "pipeline", "save", file, "--expect-version", "7")
        again = await dinrail(site, "pipeline", "save", file)
        shown = await dinrail(site, "pipeline", "show", "tank")
        listed = await dinrail(site, "pipeline", "list")
        back = await dinrail(site, "pipeline", "rollback", "tank", "1")
        versions = await dinrail(site, "pipeline", "versions", "tank")
        gone = await dinrail(site, "pipeline", "delete", "tank")

    assert saved[0] == 0, saved
    assert "tank: version 1 is live" in saved[1]
    assert ran[0] == 0, ran
    assert "twice = 8" in ran[1]
    assert wrong[0] == 1
    assert "invalid: tank: input 'x': 'hot' is not of type number" in wrong[2]
    assert "twice  done" in status[1]
    assert conflict[0] == 1
    assert "conflict: 'tank' is at version 1, not 7" in conflict[2]
    assert "version 2 is live" in again[1]
    assert yaml.safe_load(shown[1])["nodes"]["twice"]["expression"] == "x * 3"
    assert "Level of the tank" in listed[1]
    assert "version 3 is live, with the content of version 1" in back[1]
    assert [line.split()[0] for line in versions[1].splitlines()[1:]] == ["3", "2", "1"]
    assert gone[0] == 0


async def test_faults_are_told_by_the_running_orchestrator_and_nothing_is_saved(
    broker: Broker, site: Path, tmp_path: Path
) -> None:
    file = str(site / "tank.yaml")
    (site / "tank.yaml").write_text(TANK.replace("x * 2", "x * y"))
    async with running_orchestrator(broker, tmp_path):
        validated = await dinrail(site, "pipeline", "validate", file)
        saved = await dinrail(site, "pipeline", "save", file)

    assert validated[0] == 1
    assert f"{file}:5: nodes.twice.expression: column 5: there is no input or constant 'y'" in validated[1]
    assert saved[0] == 1
    assert "invalid: line 5: nodes.twice.expression" in saved[2]


async def test_alarms_are_listed_the_most_urgent_first_and_those_at_rest_left_out(broker: Broker, site: Path) -> None:
    bus = make_bus(broker, "stand-in")
    states = {"low": ("normal", 1), "hot": ("active_unacked", 1), "dry": ("cleared_unacked", 3)}
    async with listening(broker) as listener, running(bus):
        for name, (state, priority) in states.items():
            alarm = Alarm.model_validate_json(
                f'{{"alarm":"{name}","source":"tank","scope":"main","state":"{state}","priority":{priority},'
                f'"since":1763692800123,"text":"Tank {name}","value":81.5}}'
            )
            bus.retain(ALARM, alarm, scope="main", source="tank", alarm=name)
        await listener.until(lambda: len([topic for topic in listener.heard if topic.startswith("alarm/")]) == 3)
        listed = await dinrail(site, "alarm", "list")
        all_of_them = await dinrail(site, "alarm", "list", "--all")

    rows = [line.split() for line in listed[1].splitlines()[1:]]
    assert [row[1] for row in rows] == ["hot", "dry"]
    assert rows[0][2:4] == ["active", "unacked"]
    assert "Tank low" in all_of_them[1]
