"""`dinrail tags` and `dinrail watch` against a real broker that holds what a gateway publishes."""

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import pytest
from rich.console import Console

from contracts.codec import encode
from contracts.v1.device import DEVICE, DEVICE_STATE, DeviceStatus
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct, QualityStruct, SampleStruct, encode_frame
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.tag import TAG
from services.cli import tags as tags_module
from services.cli.connection import Access, ConnectionFailed
from services.cli.tags import show_tags
from services.cli.watch import watch
from tests.real_broker import SITE, Broker
from tests.unit.cli.conftest import info, presence, state, value

MANY = [f"tag-{number:04}" for number in range(3000)]


@pytest.fixture
def access(broker_with_accounts: Broker) -> Access:
    assert broker_with_accounts.accounts
    return Access(SITE, broker_with_accounts.settings(), broker_with_accounts.accounts["viewer"])


@pytest.fixture
async def gateway(broker_with_accounts: Broker) -> AsyncIterator[aiomqtt.Client]:
    """A client that publishes with the gateway's account."""
    assert broker_with_accounts.accounts
    async with aiomqtt.Client(
        "127.0.0.1",
        broker_with_accounts.port,
        username="gateway",
        password=broker_with_accounts.accounts["gateway"],
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:
        yield client


async def announce(gateway: aiomqtt.Client, *names: str) -> None:
    """A device with these tags, online, and its gateway."""
    for topic, payload in (
        (DEVICE.build(site=SITE, device="plc"), info(*names)),
        (DEVICE_STATE.build(site=SITE, device="plc"), state(DeviceStatus.ONLINE)),
        (SERVICE.build(site=SITE, service="gateway", instance="gateway"), presence(ServiceStatus.ONLINE)),
    ):
        await gateway.publish(topic, encode(payload, topic=topic), qos=1, retain=True)


async def publish(gateway: aiomqtt.Client, *names: str) -> None:
    for name in names:
        topic = TAG.build(site=SITE, device="plc", tag=name)
        await gateway.publish(topic, encode(value(1.5), topic=topic), qos=1, retain=True)


async def show(access: Access, pattern: str = "*", *, as_json: bool = False) -> tuple[int, str]:
    output = io.StringIO()
    console = Console(file=output, width=160)
    code = await show_tags(access=access, pattern=pattern, as_json=as_json, console=console)
    return code, output.getvalue()


async def test_every_retained_value_is_shown_also_when_there_are_thousands(
    access: Access, gateway: aiomqtt.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "WHOLE_S", 60.0)  # a busy machine takes its time over so many
    await announce(gateway, *MANY)
    await publish(gateway, *MANY)

    code, output = await show(access, as_json=True)

    listed: dict[str, Any] = json.loads(output)
    assert code == 0
    assert listed["missing"] == []
    assert [row["tag"] for row in listed["tags"]] == MANY
    assert {(row["value"], row["quality"], row["unit"]) for row in listed["tags"]} == {(1.5, "good", "bar")}


async def test_a_table_has_states_on_top_and_the_tags_asked_for(access: Access, gateway: aiomqtt.Client) -> None:
    await announce(gateway, "level", "speed")
    await publish(gateway, "level", "speed")

    code, output = await show(access, "plc/le*")

    assert code == 0
    lines = output.splitlines()
    assert "gateway gateway" in lines[0]
    assert "device plc" in lines[1]
    assert "online" in lines[1]
    assert [line.split()[:5] for line in lines if " level " in line] == [["plc", "level", "1.5", "bar", "good"]]
    assert "speed" not in output


async def test_what_is_missing_is_said_and_is_the_exit_code(
    access: Access, gateway: aiomqtt.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "WHOLE_S", 1.0)
    await announce(gateway, "level", "speed")
    await publish(gateway, "level")

    code, output = await show(access)

    assert code == 1
    assert "missing: plc: 1 of 2 tags have no value (speed)" in output


async def test_a_broker_without_devices_is_told_apart_from_one_that_is_away(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "WHOLE_S", 1.0)

    code, output = await show(access)

    assert code == 1
    assert "no device has announced itself" in output


async def test_a_wrong_password_is_named_as_such(access: Access) -> None:
    with pytest.raises(ConnectionFailed, match="password"):
        await show(Access(access.site, access.broker, "wrong"))


async def test_a_broker_that_is_away_is_named_with_its_address(access: Access, broker_with_accounts: Broker) -> None:
    broker_with_accounts.stop()

    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{broker_with_accounts.port} does not answer"):
        await show(access)


class Lines:
    """What `watch` emits, for a test to wait on."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.remarks: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> str:
        async with asyncio.timeout(30):
            return await self.queue.get()

    @asynccontextmanager
    async def of(
        self, access: Access, pattern: str = "*", *, frames: bool = False, as_json: bool = True
    ) -> AsyncIterator[None]:
        told = {"emit": self.queue.put_nowait, "remark": self.remarks.put_nowait}
        watching = asyncio.create_task(watch(access=access, pattern=pattern, frames=frames, as_json=as_json, **told))
        try:
            yield
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            async with asyncio.timeout(30):
                await watching


def frame(seq: int) -> bytes:
    sample = SampleStruct(
        t=1_000_000, v={"level": None, "speed": 2.5}, q={"level": QualityStruct(q=0, cause="comm")}, dt={"speed": 7}
    )
    return encode_frame(FrameStruct(epoch=5, seq=seq, rev="1", samples=[sample]), topic="frame")


async def test_watch_gives_each_change_of_what_was_asked_for(access: Access, gateway: aiomqtt.Client) -> None:
    lines = Lines()
    await publish(gateway, "level", "speed")
    async with lines.of(access, "level"):
        assert json.loads(await lines.next()) == {
            "device": "plc",
            "tag": "level",
            "value": 1.5,
            "ts": 1000,
            "q": 192,
            "seen": 1000,
        }
        await publish(gateway, "speed", "level")
        assert json.loads(await lines.next())["tag"] == "level"


async def test_watch_of_frames_gives_the_chosen_part_of_each_sample(access: Access, gateway: aiomqtt.Client) -> None:
    lines = Lines()
    topic = FRAME.build(site=SITE, device="plc", group="fast")
    async with lines.of(access, "speed", frames=True):
        await republish_until_seen(gateway, topic, lines)
        await gateway.publish(topic, frame(2), qos=1)
        seen = json.loads(await lines.next())
        while seen["seq"] == 1:
            seen = json.loads(await lines.next())

    assert seen == {
        "device": "plc",
        "group": "fast",
        "epoch": 5,
        "seq": 2,
        "t": 1_000_000,
        "v": {"speed": 2.5},
        "dt": {"speed": 7},
    }


async def republish_until_seen(gateway: aiomqtt.Client, topic: str, lines: Lines) -> None:
    """Frames are not retained: one is sent again until the watcher has subscribed."""
    async with asyncio.timeout(30):
        while lines.queue.empty():
            await gateway.publish(topic, frame(1), qos=1)


async def test_a_bad_value_says_why_in_the_text_for_people(access: Access, gateway: aiomqtt.Client) -> None:
    lines = Lines()
    topic = FRAME.build(site=SITE, device="plc", group="fast")
    async with lines.of(access, "level", frames=True, as_json=False):
        await republish_until_seen(gateway, topic, lines)

        assert (await lines.next()).endswith("fast#1  plc/level  -  bad (comm)")


async def test_watch_ends_when_nobody_reads_its_lines_any_more(access: Access, gateway: aiomqtt.Client) -> None:
    await publish(gateway, "level")

    def emit(_line: str) -> None:
        raise BrokenPipeError

    async with asyncio.timeout(30):
        await watch(access=access, pattern="*", frames=False, as_json=True, emit=emit, remark=emit)


async def test_who_watches_what_does_not_come_is_told_so(access: Access, gateway: aiomqtt.Client) -> None:
    lines = Lines()
    await publish(gateway, "level")
    async with lines.of(access, "levle"), asyncio.timeout(30):
        remark = await lines.remarks.get()

    assert remark == "nothing that matches levle has come so far; `dinrail tags` shows what there is"
    assert lines.queue.empty()
