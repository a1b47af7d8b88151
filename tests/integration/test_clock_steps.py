"""A gateway whose machine's clock is set, seen by whoever listens at a real broker."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from contracts.v1.event import EVENT
from contracts.v1.tag import TAG
from tests.faults.site import Process
from tests.faults.stepped import step
from tests.polling import until
from tests.real_broker import SITE, Broker

HOUR_S = 3600.0
GATEWAY = "gateway"
DEVICE = """\
device: axis
driver: mock_servo
groups:
  state:
    interval: 200ms
    tags:
      position: {signal: position, type: float64, max_silence: 1s}
"""


class Heard:
    """What a client hears of the gateway's events and of one tag."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.tags: list[dict[str, Any]] = []

    async def listen(self, client: aiomqtt.Client, enough: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            async for message in client.messages:
                content = json.loads(message.payload)
                if EVENT.parse(str(message.topic)):
                    self.steps += [one for one in content["events"] if one["type"] == "clock.stepped"]
                else:
                    self.tags.append(content)
                if enough():
                    return


@pytest.fixture
def gateway(broker: Broker, tmp_path: Path) -> Iterator[tuple[Process, Path]]:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "axis.yaml").write_text(DEVICE)
    offset = tmp_path / "offset"
    step(offset, 0)
    process = Process(GATEWAY, tmp_path, broker, {"devices": "devices"})
    process.module = ["tests.faults.stepped", GATEWAY, str(offset)]
    with ExitStack() as stack:
        stack.callback(process.kill)
        yield process, offset


async def test_a_step_of_the_clock_is_an_event_and_a_time_of_1970_makes_no_value_good(
    broker: Broker, gateway: tuple[Process, Path]
) -> None:
    process, offset = gateway
    process.start()
    heard = Heard()
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(EVENT.filter(site=SITE), qos=1)
        await client.subscribe(TAG.filter(site=SITE), qos=1)
        await heard.listen(client, lambda: heard.tags and heard.tags[-1]["q"] == 192)

        step(offset, HOUR_S)
        await heard.listen(client, lambda: heard.steps)
        (told,) = heard.steps
        assert told["data"]["by_s"] == pytest.approx(HOUR_S, abs=0.5)
        assert told["data"]["to"] - told["data"]["from"] == pytest.approx(HOUR_S * 1e6, abs=5e5)
        assert (told["aggregate"], told["aggregate_id"], told["data"]["steps"]) == ("service", GATEWAY, 1)
        await until(lambda: process.metric("clock_step_seconds") == pytest.approx(HOUR_S, abs=0.5), 30)

        step(offset, -1_700_000_000)
        await heard.listen(client, lambda: heard.tags[-1].get("cause") == "clock")
        assert (heard.tags[-1]["q"], heard.tags[-1]["value"]) == (0, None)

        step(offset, 0)
        await heard.listen(client, lambda: heard.tags[-1]["q"] == 192)
        process.kill()
        step(offset, -3_000_000_000)
        process.start()
        await until(lambda: process.get("health")[0] == 200, 30, what="a box whose clock is before 1970 starts")
        assert not json.loads(process.get("health")[1])["parts"]["clock"]["ok"]
        await heard.listen(client, lambda: heard.tags[-1].get("cause") == "clock")
    early = [one for one in heard.tags if one["ts"] < 1_704_067_200_000]
    assert early
    assert [one["q"] for one in early] == [0] * len(early)
