"""`dinrail doctor` at a real broker that holds what services, devices and pipelines have left behind."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiomqtt
import pytest
import yaml
from typer.testing import CliRunner

from contracts.acl import BROKER_AWAY
from services.cli.doctor.clocks import NetworkTime, synchronised
from services.cli.doctor.finding import Finding, State
from services.cli.doctor.own_files import Disk, Space, space_of
from services.cli.doctor.sessions import MOST_AWAY, Sessions
from services.cli.main import app
from services.cli.settings import read_broker
from services.cli.site import Site
from tests.polling import until
from tests.real_broker import SITE, Broker

ROOT = f"dinrail/v1/{SITE}"
EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples" / "v1"
NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text())["payload"]
    return found


def service(instance: str, **fields: Any) -> dict[str, Any]:
    return {**example("service-state"), "instance": instance, "since": NOW_MS, **fields}


def device(name: str, gateway: str = "gateway") -> dict[str, Any]:
    return {**example("device-info"), "device": name, "gateway": gateway}


def state(**fields: Any) -> dict[str, Any]:
    return {**example("device-state"), "gateway": "gateway", "since": NOW_MS - HOUR_MS, **fields}


def tag(**fields: Any) -> dict[str, Any]:
    return {"value": 1.0, "ts": NOW_MS, "q": 192, "seen": NOW_MS, **fields}


PLANTED: dict[str, dict[str, Any] | str] = {
    "service/gateway/gateway": service("gateway", problem="the journal loses records: cap"),
    "service/recorder/recorder": service("recorder", state="offline"),
    "service/orchestrator/orchestrator": service("orchestrator", version="0.0.9"),
    "service/identity/identity": service("identity", since=NOW_MS + HOUR_MS),
    "plugin/driver/modbus/gateway": "no JSON at all",
    "device/slow/info": device("slow"),
    "device/slow/state": state(state="online", circuit="closed", asked_hz=10.0, achieved_hz=4.0),
    "tag/slow/tank-level": tag(),
    "tag/slow/gone": tag(),
    "device/away/info": {**device("away"), "tags": {}, "tag_count": 0},
    "device/away/state": state(state="offline", circuit="open", error="connection refused", cause="comm"),
    "device/half/info": {**device("half"), "tags": {}, "tag_count": 0},
    "device/half/state": state(state="degraded", circuit="closed", error="fast: no answer", cause="comm"),
    "device/off/info": {**device("off"), "tags": {}, "tag_count": 0},
    "device/off/state": state(state="disabled", circuit="closed"),
    "device/old/info": {**device("old", "gateway-2"), "tags": {}, "tag_count": 0},
    "tag/removed/level": tag(),
    "pipeline/main/tank-watch": example("pipeline-info"),
    "alarm/main/removed/tank-high": {**example("alarm"), "source": "removed"},
    "run/main/removed/r1": {**example("run-state"), "pipeline": "removed", "run": "r1"},
    "stored/second/frame/filler-plc/fast": example("stored"),
}


async def plant(port: int, messages: dict[str, dict[str, Any] | str]) -> None:
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for topic, payload in messages.items():
            data = payload if isinstance(payload, str) else json.dumps(payload)
            await client.publish(f"{ROOT}/{topic}", data, qos=1, retain=True)


def make_folder(folder: Path, broker: Broker, **sections: Any) -> Path:
    (folder / "secrets").mkdir(parents=True, mode=0o700)
    password = folder / "secrets" / "viewer.password"
    password.write_text("any\n")
    password.chmod(0o600)
    listen = {"tls_port": None, "websocket_port": None}
    at = {"host": "127.0.0.1", "port": broker.port, "listen": listen}
    (folder / "dinrail.yaml").write_text(yaml.safe_dump({"site": SITE, "broker": at, **sections}))
    return folder


def doctor(folder: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", "--dir", str(folder), *options])
    return result.exit_code, result.stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One look at everything that is planted, as programs get it."""
    folder = tmp_path_factory.mktemp("doctor")
    broker = Broker(folder / "broker")
    broker.start()
    try:
        asyncio.run(plant(broker.port, PLANTED))
        site = make_folder(folder / "site", broker, compute={}, gateway={})
        code, said = doctor(site, "--json")
    finally:
        broker.stop()
    return {"code": code} | json.loads(said)


@pytest.mark.parametrize(
    ("check", "state", "parts"),
    [
        ("services", "FAIL", ("gateway gateway says: the journal loses records",)),
        ("services", "FAIL", ("recorder recorder is offline", "look at its log")),
        ("services", "FAIL", ("compute: no such service is on the bus: start it",)),
        ("versions", "FAIL", ("PLUGIN: a retained message cannot be read", "plugin/driver/modbus/gateway")),
        ("versions", "WARN", ("0.0.9: orchestrator orchestrator", "finish the upgrade")),
        ("clocks", "FAIL", ("the clock of identity identity is ", " min ahead of this machine's")),
        ("devices", "WARN", ("slow is polled 4 times a second instead of 10: ask less",)),
        ("devices", "FAIL", ("away is offline: connection refused (cause comm)",)),
        ("devices", "WARN", ("half is degraded: fast: no answer",)),
        ("devices", "WARN", ("off is disabled: `dinrail device enable off`",)),
        ("orphans", "WARN", ("device slow has no such tags: ", "/tag/slow/gone. Only `gateway` or `orchestrator`")),
        ("orphans", "WARN", ("device old is the gateway gateway-2's", "Only `gateway` may clear it")),
        ("orphans", "WARN", ("device removed, which there is not", "/tag/removed/level")),
        ("orphans", "WARN", ("alarms of the pipeline main/removed", "Only `orchestrator` may clear it")),
        ("orphans", "WARN", ("runs of the pipeline main/removed", "/run/main/removed/r1")),
        ("orphans", "WARN", ("marks of the recorder second", "Only `recorder` may clear it")),
        ("queue", "OK", ("the broker holds 21 retained topics",)),
    ],
)
def test_what_the_bus_tells_is_named_with_its_mend(
    found: dict[str, Any], check: str, state: str, parts: tuple[str, ...]
) -> None:
    texts = [one["text"] for one in found["findings"] if (one["check"], one["state"]) == (check, state)]

    assert [text for text in texts if all(part in text for part in parts)], texts


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Broker]:
    """A broker that counts its sessions each second.

    Left running by a test that failed, it would be found, and blamed on whatever test runs by then.
    """
    broker = Broker(tmp_path / "broker", replace={"max_keepalive": "sys_interval 1\nmax_keepalive"})
    broker.start()
    yield broker
    broker.stop()


async def test_sessions_that_tools_have_left_behind_are_counted(counting: Broker, tmp_path: Path) -> None:
    broker = counting
    site = Site(make_folder(tmp_path / "site", broker))
    check = Sessions(site, read_broker(site)[1])

    def look() -> list[Finding]:
        return list(check.findings())

    assert await asyncio.to_thread(look) == [], "no password of health here"

    site.password("health").write_text("any\n")

    async def counted(count: int) -> None:
        """Returns once the broker tells so many.

        It counts as it wakes for the first time in a new second. Clients that come all the time wake it just then, and
        of the sessions it takes off who has not logged in yet: only one that stays sees it wake by itself.
        """
        async with asyncio.timeout(30), aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe(BROKER_AWAY)
            async for message in client.messages:
                if message.payload == str(count).encode():
                    return

    async def told(count: int) -> State | None:
        """What is said of so many."""
        await counted(count)
        found = await asyncio.to_thread(look)
        return found[0].state if found and f"keeps {count} sessions" in found[0].text else None

    async def leave() -> None:
        """As a tool does that does not ask for a clean session."""
        old = aiomqtt.ProtocolVersion.V311
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=old, identifier=uuid4().hex, clean_session=False):
            pass

    for _ in range(MOST_AWAY):
        await leave()
    await until(lambda: told(MOST_AWAY), 60, what="as many as may be away")
    few = await told(MOST_AWAY)
    await leave()
    await until(lambda: told(MOST_AWAY + 1), 60, what="one more")
    assert (few, await told(MOST_AWAY + 1)) == (State.OK, State.WARN)


def test_nothing_that_is_alive_counts_as_left_behind(found: dict[str, Any]) -> None:
    orphans = [one for one in found["findings"] if one["check"] == "orphans"]

    assert len(orphans) == 6
    assert not [one for one in orphans if "tank-level" in one["text"]]
    assert found["summary"]["FAIL"] == len([one for one in found["findings"] if one["state"] == "FAIL"])
    assert (found["ok"], found["code"]) == (False, 1)


def test_more_retained_topics_than_the_broker_queues_are_told_with_the_devices_that_are_cut(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "site" / "broker", replace={"max_queued_messages 200000": "max_queued_messages 300"})
    broker.start()
    info = example("device-info")
    tags = {f"t{number}": info["tags"]["tank-level"] for number in range(900)}
    plc: dict[str, dict[str, Any] | str] = {
        "service/gateway/gateway": service("gateway"),
        "device/plc/info": {**device("plc"), "tags": tags, "tag_count": 900, "tag_hash": "0"},
        "device/plc/state": state(state="online", circuit="closed"),
    }
    try:
        asyncio.run(plant(broker.port, plc | {f"tag/plc/t{number}": tag() for number in range(900)}))
        site = make_folder(tmp_path / "site", broker)
        code, said = doctor(site)
    finally:
        broker.stop()

    failures = [line for line in said.splitlines() if line.startswith("FAIL")]
    assert code == 1
    assert "that it queues for one client: set max_queued_messages of" in "".join(failures)
    (cut,) = [line for line in failures if "retained tags did not come: plc (" in line]
    assert "of 900)" in cut


def test_a_warning_fails_with_strict_alone(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        asyncio.run(plant(broker.port, {"tag/removed/level": tag()}))
        site = make_folder(tmp_path / "site", broker)
        codes = [doctor(site)[0], doctor(site, "--strict")[0]]
    finally:
        broker.stop()

    assert codes == [0, 1]


def test_a_disk_without_room_is_told_once_by_what_is_free_of_it(tmp_path: Path) -> None:
    (tmp_path / "data" / "recorder").mkdir(parents=True)
    folders = [tmp_path / "data", tmp_path / "data" / "recorder", tmp_path / "not-there"]
    free = space_of(tmp_path).free / space_of(tmp_path).total

    nearly = list(Disk(folders, warn_share=free * 2).findings())
    full = list(Disk(folders, fail_share=free * 2).findings())
    small = list(Disk(folders, space=lambda _: Space(200 << 30, 100 << 20)).findings())

    assert [[one.state for one in found] for found in (nearly, full, small)] == [
        [State.WARN],
        [State.FAIL],
        [State.FAIL],
    ]
    assert f"{tmp_path / 'data'}: " in full[0].text
    assert "make room, or move the folder" in full[0].text


def test_a_clock_that_nothing_keeps_right_is_a_warning() -> None:
    assert [[one.state for one in NetworkTime(lambda said=said: said).findings()] for said in (True, False, None)] == [
        [State.OK],
        [State.WARN],
        [],
    ]
    assert synchronised() in {True, False, None}
