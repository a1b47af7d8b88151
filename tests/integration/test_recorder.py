"""The recorder as a process, against a real mosquitto: stopped, killed, cut off, and nothing missing or there twice."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import Any

import aiomqtt
import pytest
import yaml

from contracts.v1.service import SERVICE
from contracts.v1.stored import STORED, Stored
from services.recorder.embedded.history import History
from tests.conftest import Eventually
from tests.ports import free_port
from tests.real_broker import SITE, Broker
from tests.recorder_rig import DEVICE, GROUP, TOPIC, SampleStruct, message

START = 1_700_000_000_000_000
EVER = 2**53
READY_S = 40.0
STORED_TOPIC = STORED.build(site=SITE, recorder="recorder", kind="frame", owner=DEVICE, stream=GROUP)


class RecorderProcess:
    """`python -m services.recorder` with its settings in `folder`, for the given broker."""

    def __init__(self, folder: Path, broker: Broker, *, password: str | None = None, **section: Any) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = folder / "dinrail.yaml"
        own = {"data": "data", "http_port": self.port, "store": {"kind": "embedded", "flush": "200ms"}, **section}
        if password is not None:
            (folder / "password").write_text(password)
            own["password_file"] = "password"
        wanted = {"site": SITE, "broker": {"host": "127.0.0.1", "port": broker.port}, "recorder": own}
        self._settings.write_text(yaml.safe_dump(wanted))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        """Its database."""
        return self.folder / "data" / "recorder.db"

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "recorder.log").read_text(errors="replace")

    def start(self) -> None:
        """Returns at once."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DINRAIL_")}
        command = [sys.executable, "-m", "services.recorder", "--config", str(self._settings)]
        with (self.folder / "recorder.log").open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, env=environ)

    def end(self, how: signal.Signals) -> int:
        """Sends the signal and gives the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(how)
        code = self._process.wait(30)
        self._process = None
        return code

    def health(self) -> dict[str, Any]:
        """The answer to GET /health; empty if there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))
        except OSError:
            return {}

    def ready(self) -> bool:
        """Whether it hears the broker."""
        return bool(self.health().get("ready"))

    def held(self) -> int:
        """Values in the history, each time it was written counted, with those that wait in the spool."""
        with closing(sqlite3.connect(self.path)) as database:
            (packed,) = database.execute("SELECT coalesce(sum(n), 0) FROM chunk").fetchone()
            waiting = database.execute("SELECT payload FROM spool").fetchall()
        return int(packed) + sum(
            len(sample["v"]) for (payload,) in waiting for sample in json.loads(payload)["samples"]
        )

    def letters(self) -> dict[str, int]:
        """Dead letters by reason."""
        with closing(sqlite3.connect(self.path)) as database:
            return dict(database.execute("SELECT reason, count(*) FROM dead_letter GROUP BY reason").fetchall())


@pytest.fixture
def recorder(broker: Broker, tmp_path: Path) -> Iterator[RecorderProcess]:
    process = RecorderProcess(tmp_path / "recorder", broker)
    yield process
    process.end(signal.SIGKILL)


@asynccontextmanager
async def client(broker: Broker, **login: str) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5, **login) as open_client:
        yield open_client


def payload(seq: int, values: int = 1) -> bytes:
    sample = SampleStruct(t=START + seq, v={f"v{at}": float(seq * 1000 + at) for at in range(values)})
    return message(seq, [sample]).payload


async def stored_when(broker: Broker, last: int) -> Stored:
    """The recorder's word on what it has, once it has frame `last`."""
    async with client(broker) as listener, asyncio.timeout(READY_S):
        await listener.subscribe(STORED_TOPIC)
        async for said in listener.messages:
            message = Stored.model_validate_json(said.payload)
            if any(first <= last <= end for epoch in message.epochs for first, end in epoch.have):
                return message
    raise AssertionError("unreachable")


async def test_a_frame_goes_from_the_broker_into_the_history_and_its_owner_is_told(broker, recorder, eventually):
    recorder.start()
    await eventually(recorder.ready, READY_S)
    async with client(broker) as gateway:
        await gateway.publish(TOPIC, payload(1), qos=1)
        await gateway.publish(TOPIC, payload(2), qos=1)

    said = await stored_when(broker, 2)

    assert said.epochs[0].have == [(1, 2)]
    assert History(recorder.path).read(DEVICE, "v0", 0, EVER) == [(START + 1, 1000.0, 192), (START + 2, 2000.0, 192)]
    assert recorder.end(signal.SIGTERM) == 0


@pytest.mark.slow
async def test_killed_again_and_again_under_load_no_frame_is_missing_and_none_is_there_twice(
    broker: Broker, recorder: RecorderProcess, eventually: Eventually
):
    values, rng, killed, published = 20, Random(), asyncio.Event(), 0
    recorder.start()
    await eventually(recorder.ready, READY_S)

    async def publish() -> None:
        nonlocal published
        async with client(broker) as gateway:
            while not killed.is_set():
                await gateway.publish(TOPIC, payload(published + 1, values), qos=1)
                published += 1

    publishing = asyncio.create_task(publish())
    for _ in range(5):
        before = recorder.held()
        await eventually(lambda before=before: recorder.held() > before, READY_S)
        # At any moment between two commits, so that each step of a message's way is cut off some time.
        more = published + rng.randint(1, 150)
        await eventually(lambda more=more: published >= more, READY_S)
        assert recorder.end(signal.SIGKILL) == -signal.SIGKILL
        recorder.start()
        await eventually(recorder.ready, READY_S)
    killed.set()
    await publishing
    said = await stored_when(broker, published)

    assert said.epochs[0].have == [(1, published)]
    assert recorder.held() == published * values
    for at in (0, values - 1):
        assert History(recorder.path).read(DEVICE, f"v{at}", 0, EVER) == [
            (START + seq, float(seq * 1000 + at), 192) for seq in range(1, published + 1)
        ]


async def test_what_came_while_the_recorder_was_down_arrives_after_its_start(broker, recorder, eventually):
    recorder.start()
    await eventually(recorder.ready, READY_S)
    assert recorder.end(signal.SIGTERM) == 0
    async with client(broker) as gateway:
        for seq in range(1, 101):
            await gateway.publish(TOPIC, payload(seq), qos=1)

    recorder.start()
    said = await stored_when(broker, 100)

    assert said.epochs[0].have == [(1, 100)]
    assert recorder.end(signal.SIGTERM) == 0


async def test_a_broker_that_dies_is_reported_and_its_return_needs_no_hand(broker, recorder, eventually):
    recorder.start()
    await eventually(recorder.ready, READY_S)

    broker.kill()
    await eventually(lambda: {"bus", "intake"} <= set(recorder.health().get("failing", [])), READY_S)
    broker.start()
    await eventually(recorder.ready, 30)
    async with client(broker) as gateway:
        await gateway.publish(TOPIC, payload(1), qos=1)

    assert (await stored_when(broker, 1)).epochs[0].have == [(1, 1)]


async def test_a_stop_packs_what_waits_and_says_goodbye(broker, tmp_path, eventually):
    recorder = RecorderProcess(tmp_path / "slow", broker, store={"kind": "embedded", "flush": "1h"})
    recorder.start()
    await eventually(recorder.ready, READY_S)
    async with client(broker) as gateway:
        await gateway.publish(TOPIC, payload(1), qos=1)
    await stored_when(broker, 1)

    assert recorder.end(signal.SIGTERM) == 0

    with closing(sqlite3.connect(recorder.path)) as database:
        assert database.execute("SELECT count(*) FROM spool").fetchone() == (0,)
        assert database.execute("SELECT sum(n) FROM chunk").fetchone() == (1,)
    async with client(broker) as listener:
        await listener.subscribe(SERVICE.build(site=SITE, service="recorder", instance="recorder"))
        said = await anext(listener.messages)
        assert json.loads(said.payload)["state"] == "offline"


async def test_the_recorders_account_is_allowed_all_that_it_needs(broker_with_accounts, tmp_path, eventually):
    broker = broker_with_accounts
    recorder = RecorderProcess(tmp_path / "recorder", broker, password=broker.accounts["recorder"])
    recorder.start()
    try:
        await eventually(recorder.ready, READY_S)
        async with client(broker, username="gateway", password=broker.accounts["gateway"]) as gateway:
            await gateway.subscribe(STORED_TOPIC)
            await gateway.publish(TOPIC, payload(1), qos=1)
            async with asyncio.timeout(READY_S):
                said = await anext(gateway.messages)

        assert Stored.model_validate_json(said.payload).epochs[0].have == [(1, 1)]
        assert "refused" not in recorder.log
    finally:
        recorder.end(signal.SIGTERM)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        (
            {"store": {"kind": "influxdb", "url": "http://127.0.0.1:1", "bucket": "b", "token_file": "none"}},
            "token_file",
        ),
        ({"store": {"kind": "influxdb", "bucket": "b"}}, "url"),
        ({"store": {"kind": "influx"}}, "embedded"),
        ({"spool_byte": 1 << 20}, "spool_bytes"),
    ],
)
async def test_settings_that_cannot_work_end_the_start_with_the_field_and_the_mend(
    broker, tmp_path, section, complaint
):
    recorder = RecorderProcess(tmp_path / "recorder", broker, **section)
    recorder.start()
    process = recorder._process
    assert process is not None

    assert await asyncio.to_thread(process.wait, 30) == 1
    assert complaint in recorder.log
    assert "Traceback" not in recorder.log


async def test_a_file_that_is_no_database_ends_the_start_and_is_left_alone(broker, tmp_path):
    recorder = RecorderProcess(tmp_path / "recorder", broker)
    recorder.path.parent.mkdir()
    recorder.path.write_bytes(b"no database" * 1000)
    recorder.start()
    process = recorder._process
    assert process is not None

    assert await asyncio.to_thread(process.wait, 30) == 1
    assert "not a database" in recorder.log
    assert "Traceback" not in recorder.log
    assert recorder.path.read_bytes() == b"no database" * 1000
