"""`dinrail pipeline`, `run` and `alarm` as a person types them, against a running orchestrator."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from contracts.v1.alarm import ALARM, Alarm
from services.cli.main import app
from services.orchestrator.expression.expression import Expression
from services.orchestrator.past import recorded as recorded_runs
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
RESTING = TANK.replace("nodes:\n", "nodes:\n  rest: {type: delay, duration: 5ms}\n").replace(
    "inputs.x}}", "inputs.x}, after: [rest]}"
)
HOT = """\
pipeline: hot
inputs: {x: {type: number, default: 90.0}}
nodes:
  alarm: {type: alarm, alarm: too-hot, when: "x > 80", clear: "x < 75", inputs: {x: inputs.x}, text: Pump too hot}
"""
SLOW = """\
pipeline: slow
nodes: {rest: {type: delay, duration: 50s}}
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
        stale = await dinrail(site, "pipeline", "rollback", "tank", "1", "--expect-version", "1")
        back = await dinrail(site, "pipeline", "rollback", "tank", "1", "--expect-version", "2")
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
    assert stale[0] == 1
    assert "conflict: 'tank' is at version 2, not 1" in stale[2]
    assert "version 3 is live, with the content of version 1" in back[1]
    assert [line.split()[0] for line in versions[1].splitlines()[1:]] == ["3", "2", "1"]
    assert gone[0] == 0


async def test_faults_are_told_alike_by_who_checks_and_by_who_saves_and_nothing_is_saved(
    broker: Broker, site: Path, tmp_path: Path
) -> None:
    file = str(site / "tank.yaml")
    (site / "tank.yaml").write_text(TANK.replace("x * 2", "x * y").replace("twice.value", "thrice.value"))
    async with running_orchestrator(broker, tmp_path):
        validated = await dinrail(site, "pipeline", "validate", file)
        saved = await dinrail(site, "pipeline", "save", file)

    assert validated[0] == 1
    assert f"{file}:5: nodes.twice.expression: column 5: there is no input or constant 'y'" in validated[1]
    assert "    mend: " in validated[1]
    assert saved == (1, "", validated[1])


async def test_alarms_are_listed_the_most_urgent_first_and_those_at_rest_left_out(broker: Broker, site: Path) -> None:
    bus = make_bus(broker, "stand-in")
    states = {"low": ("normal", 1), "hot": ("active_unacked", 1), "dry": ("cleared_unacked", 3)}
    async with listening(broker) as listener, running(bus):
        none = await dinrail(site, "alarm", "list")
        for name, (state, priority) in states.items():
            alarm = Alarm.model_validate_json(
                f'{{"alarm":"{name}","source":"tank","scope":"main","state":"{state}","priority":{priority},'
                f'"since":1763692800123,"text":"Tank {name} [/x] :fire:","value":81.5,"limit":80.0,"acked_by":"anna"}}'
            )
            bus.retain(ALARM, alarm, scope="main", source="tank", alarm=name)
        await listener.until(lambda: len([topic for topic in listener.heard if topic.startswith("alarm/")]) == 3)
        listed = await dinrail(site, "alarm", "list")
        all_of_them = await dinrail(site, "alarm", "list", "--all")

    rows = [line.split() for line in listed[1].splitlines()[1:]]
    assert [row[1] for row in rows] == ["hot", "dry"]
    assert rows[0][2:4] == ["active", "unacked"]
    assert rows[0][-4:] == ["81.5", "80", "anna", "tank"]
    assert "Tank low [/x] :fire:" in all_of_them[1]
    assert none == (0, "no alarm is raised; --all shows those at rest, too", "")


async def test_a_run_gone_through_again_comes_out_the_same_and_with_another_arithmetic_otherwise(
    broker: Broker, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Expression.__call__

    def wrong(expression: Expression, values: Any) -> Any:
        return right(expression, values) + 1

    async with running_orchestrator(broker, tmp_path):
        await dinrail(site, "pipeline", "save", str(site / "tank.yaml"))
        _, ran, _ = await dinrail(site, "run", "tank")
        run = ran.split(":")[0]
        same = await dinrail(site, "replay", run)
        monkeypatch.setattr(recorded_runs, "PATIENCE_S", 0.2)
        unknown = await dinrail(site, "replay", "r0")
        monkeypatch.setattr(Expression, "__call__", wrong)
        other = await dinrail(site, "replay", run)
        told = await dinrail(site, "replay", run, "--json")

    assert same[0] == 0, same
    assert same[1].startswith(f"{run}: ")
    assert same[1].endswith(" events, comes out the same")
    assert unknown[0] == 1
    assert "no recorder named 'recorder' answers" in unknown[2]
    assert other[0] == told[0] == 1
    assert "2 differences" in other[1]
    lines = [line.split(maxsplit=1) for line in other[1].splitlines()]
    recorded = next(json.loads(line[1]) for line in lines if line[0] == "recorded")
    replayed = next(json.loads(line[1]) for line in lines if line[0] == "replayed")
    assert (recorded["outputs"], replayed["outputs"]) == ({"value": 6.0}, {"value": 7.0})
    assert {one["what"] for one in json.loads(told[1])["differences"]} == {"twice", "run"}


async def test_a_shadow_is_saved_compared_and_made_live_from_the_command_line(
    broker: Broker, site: Path, tmp_path: Path
) -> None:
    file = str(site / "tank.yaml")
    (site / "tank.yaml").write_text(RESTING)
    async with running_orchestrator(broker, tmp_path):
        await dinrail(site, "pipeline", "save", file)
        none = await dinrail(site, "pipeline", "diff", "tank")
        (site / "tank.yaml").write_text(RESTING.replace("x * 2", "x * 2 if x < 5 else 0"))
        saved = await dinrail(site, "pipeline", "save", file, "--shadow")
        not_yet = await dinrail(site, "pipeline", "diff", "tank")
        versions = await dinrail(site, "pipeline", "versions", "tank")
        await dinrail(site, "run", "tank", "x=4")
        alike = await until_compared(site, 1)
        _, ran, _ = await dinrail(site, "run", "tank", "x=6")
        told = await until_compared(site, 2)
        shown = await dinrail(site, "pipeline", "diff", "tank")
        live = await dinrail(site, "pipeline", "rollback", "tank", "2")
        over = await dinrail(site, "pipeline", "diff", "tank")
        now = await dinrail(site, "run", "tank", "x=6")
        await dinrail(site, "pipeline", "save", file, "--shadow")
        await dinrail(site, "pipeline", "rollback", "tank", "3")
        ended = await dinrail(site, "pipeline", "diff", "tank")

    assert none[0] == over[0] == ended[0] == 1
    assert all("has no version in shadow" in answer[2] for answer in (none, over, ended))
    assert "version 2 is the shadow" in saved[1]
    assert not_yet == (0, "tank: version 2 in the shadow of version 1: no run of both has ended yet", "")
    assert [line.split()[:2] for line in versions[1].splitlines()[1:]] == [["2", "shadow"], ["1", "live"]]
    assert alike[0] == 0
    assert alike[1]["differences"] == []
    assert told[0] == shown[0] == 1
    assert [one["what"] for one in told[1]["differences"]] == ["end"]
    head, place, *sides = shown[1].splitlines()
    assert head == "tank: version 2 in the shadow of version 1, 2 runs compared: 1 difference"
    assert place.strip() == f"{ran.split(':')[0]}: end"
    assert [json.loads(side.split(maxsplit=1)[1])["outputs"] for side in sides] == [{"twice": 12}, {"twice": 0}]
    assert "version 3 is live, with the content of version 2" in live[1]
    assert "twice = 0" in now[1]


async def until_compared(site: Path, runs: int) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of `pipeline diff` once so many runs are compared: the shadow's end may be yet to come."""
    async with asyncio.timeout(30):
        while True:
            code, text, _ = await dinrail(site, "pipeline", "diff", "tank", "--json")
            if (found := json.loads(text))["runs"] == runs:
                return code, found


async def test_a_run_is_cancelled_and_what_ended_it_is_told(broker: Broker, site: Path, tmp_path: Path) -> None:
    (site / "slow.yaml").write_text(SLOW)
    async with running_orchestrator(broker, tmp_path):
        await dinrail(site, "pipeline", "save", str(site / "slow.yaml"))
        _, ran, _ = await dinrail(site, "run", "slow", "--no-wait", "--json")
        run = json.loads(ran)["run"]
        cancelled = await dinrail(site, "pipeline", "cancel", run, "--reason", "wrong pump")
        again = await dinrail(site, "pipeline", "cancel", run)
        status = await dinrail(site, "pipeline", "status", run)

    assert cancelled == (0, f"{run}: cancelled", "")
    assert again[0] == 1
    assert "not_found" in again[2]
    assert "cancelled by operator: wrong pump" in status[1]


async def test_runs_are_listed_the_newest_first_with_what_started_them_and_may_be_replayed_by_their_name(
    broker: Broker, site: Path, tmp_path: Path
) -> None:
    (site / "slow.yaml").write_text(SLOW)
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path):
        for name in ("tank", "slow"):
            await dinrail(site, "pipeline", "save", str(site / f"{name}.yaml"))
        none = await dinrail(site, "pipeline", "runs")
        ids = [
            json.loads((await dinrail(site, "run", *words.split(), "--json"))[1])["run"]
            for words in ("tank", "tank x=4", "slow --no-wait", "slow --no-wait")
        ]
        states = dict(zip(ids, ("done", "done", "running", "queued"), strict=True))
        await listener.until(
            lambda: all(
                listener.last(f"run/main/{name}/{run}").get("state") == state
                for name, (run, state) in zip(("tank", "tank", "slow", "slow"), states.items(), strict=True)
            )
        )
        listed = await dinrail(site, "pipeline", "runs")
        of_one = await dinrail(site, "pipeline", "runs", "tank", "--json")
        queued = await dinrail(site, "pipeline", "runs", "--state", "queued", "--json")
        replayed = await dinrail(site, "replay", json.loads(of_one[1])[0]["run"])
        for run in ids[:1:-1]:
            await dinrail(site, "pipeline", "cancel", run)

    assert none == (0, "no runs", "")
    rows = [line.split() for line in listed[1].splitlines()[1:]]
    assert [row[0] for row in rows] == ids[::-1]
    assert [row[1:4] for row in rows[1:]] == [["slow", "1", "running"], ["tank", "1", "done"], ["tank", "1", "done"]]
    assert "queued, 1. in the queue" in listed[1].splitlines()[1]
    assert rows[-1][-2:] == ["command", "operator"]
    assert [one["run"] for one in json.loads(of_one[1])] == ids[1::-1]
    assert [one["run"] for one in json.loads(queued[1])] == ids[3:]
    assert replayed[0] == 0, replayed


async def test_an_alarm_is_acknowledged_shelved_and_unshelved_from_the_command_line(
    broker: Broker, site: Path, tmp_path: Path
) -> None:
    (site / "hot.yaml").write_text(HOT)
    async with listening(broker) as listener, running_orchestrator(broker, tmp_path):
        await dinrail(site, "pipeline", "save", str(site / "hot.yaml"))
        await dinrail(site, "run", "hot")
        await listener.until(lambda: listener.last("alarm/main/hot/too-hot").get("state") == "active_unacked")
        listed = await dinrail(site, "alarm", "list", "--json")
        acked = await dinrail(site, "alarm", "ack", "too-hot", "--comment", "on my way")
        twice = await dinrail(site, "alarm", "ack", "too-hot")
        wrong = await dinrail(site, "alarm", "shelve", "too-hot", "soon")
        shelved = await dinrail(site, "alarm", "shelve", "too-hot", "30m")
        unshelved = await dinrail(site, "alarm", "unshelve", "too-hot")
        unknown = await dinrail(site, "alarm", "ack", "too-cold")

    assert [(one["alarm"], one["value"]) for one in json.loads(listed[1])] == [("too-hot", 90.0)]
    assert acked == (0, "too-hot: active acked", "")
    assert twice[0] == unknown[0] == 1
    assert "conflict: too-hot" in twice[2]
    assert "not_found" in unknown[2]
    assert wrong[0] == 2
    assert shelved[1].startswith("too-hot: active acked, shelved until ")
    assert unshelved[1] == "too-hot: active acked"


async def test_versions_and_faults_are_told_to_programs_too(broker: Broker, site: Path, tmp_path: Path) -> None:
    file = str(site / "tank.yaml")
    async with running_orchestrator(broker, tmp_path):
        await dinrail(site, "pipeline", "save", file)
        versions = await dinrail(site, "pipeline", "versions", "tank", "--json")
        right = await dinrail(site, "pipeline", "validate", file, "--json")
        (site / "tank.yaml").write_text(TANK.replace("x * 2", "x * y"))
        wrong = await dinrail(site, "pipeline", "validate", file, "--json")

    assert [one["version"] for one in json.loads(versions[1])["versions"]] == [1]
    assert (right[0], json.loads(right[1])) == (0, {"ok": True, "faults": []})
    assert wrong[0] == 1
    assert [one["path"] for one in json.loads(wrong[1])["faults"]] == ["nodes.twice.expression"]


@pytest.mark.parametrize(
    "words",
    ["pipeline list", "pipeline save tank.yaml", "pipeline diff tank", "run tank", "replay r1", "alarm ack hot"],
)
async def test_a_command_that_finds_no_broker_ends_with_2_and_says_so(broker: Broker, site: Path, words: str) -> None:
    broker.kill()
    told = await dinrail(site, *words.replace("tank.yaml", str(site / "tank.yaml")).split())

    assert told[0] == 2
    assert f"the broker at 127.0.0.1:{broker.port} does not answer" in told[2]
