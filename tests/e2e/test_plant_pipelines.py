"""The pipelines of the demo plant on its simulated machines: each does what its file says."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel, JsonValue

from contracts.acl import OPERATOR
from contracts.topic import Topic
from contracts.v1.alarm import ALARM, AlarmStatus
from contracts.v1.command import WRITE, Write
from contracts.v1.frame import GOOD
from contracts.v1.pipeline import PIPELINE, RUN_PIPELINE, WORKSPACE, RunAccepted, RunPipeline
from contracts.v1.run import GET_RUN, GetRun
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.tag import TAG, TagValue
from services.cli.check import check
from services.cli.connection import access_as, connected
from services.cli.site import EXAMPLES, Site, make_site
from services.runtime.bus.bus import Bus, Delivery
from tests.polling import until
from tests.ports import listens, site_ports

P = TypeVar("P", bound=BaseModel)
PLANT = EXAMPLES / "plant"
NAMES = sorted(path.stem for path in (PLANT / "pipelines").glob("*.yaml"))
START_S = 60
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demo plant's site, whose pump wears out: that takes a while."""
    site = Site(tmp_path_factory.mktemp("plant") / "site")
    make_site(site, name="plant", example="plant", ports=site_ports())
    command = (sys.executable, "-m", "services.cli.main", "up", "--dir", str(site.folder), "--no-watch")
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        asyncio.run(wear_out_the_pump(site))
        yield site
    finally:
        running.terminate()
        running.wait(60)


async def wear_out_the_pump(site: Site) -> None:
    async with operator(site) as bus:
        policy = Seen(bus, SERVICE, service="identity")  # until it is there, nobody may do anything
        await Seen(bus, TAG, device="filler-plc", tag="fault-pump-wear").until(lambda told: told.q == GOOD)
        await policy.until(lambda told: told.state is ServiceStatus.ONLINE)
        await write(bus, "fault-pump-wear", value=True)


@asynccontextmanager
async def operator(site: Site) -> AsyncIterator[Bus]:
    """Somebody at the plant, as soon as its broker is there."""
    access = access_as(OPERATOR.name, site)
    await until(lambda: listens(access.broker.port), START_S, what="the broker listens")
    async with connected(access) as bus:
        yield bus


class Seen(Generic[P]):
    """What was told under a topic since this was made: each message, in their order."""

    def __init__(self, bus: Bus, topic: Topic[P], **levels: str) -> None:
        self._told: asyncio.Queue[P] = asyncio.Queue()
        bus.subscribe(topic, self._take, **levels)

    async def _take(self, delivery: Delivery[P]) -> None:
        self._told.put_nowait(delivery.payload)

    async def next(self) -> P:
        """The next message."""
        async with asyncio.timeout(START_S):
            return await self._told.get()

    async def until(self, condition: Callable[[P], object]) -> P:
        """The next message of which the condition holds."""
        async with asyncio.timeout(START_S):
            while not condition(told := await self._told.get()):
                pass
        return told


async def ready(bus: Bus, pipeline: str, *tags: str) -> None:
    """Returns once there is this pipeline, and these tags are good: then each run can do what it is to do."""
    await Seen(bus, PIPELINE, pipeline=pipeline).next()
    for tag in tags:
        device, name = tag.split("/")
        await Seen(bus, TAG, device=device, tag=name).until(lambda told: told.q == GOOD)


async def run(bus: Bus, name: str, **inputs: JsonValue) -> RunAccepted:
    """A run of the pipeline to its end."""
    asked = RunPipeline(inputs=inputs, wait=True)
    outcome = await bus.request(RUN_PIPELINE, asked, timeout_s=30, user=OPERATOR.name, scope=WORKSPACE, id=name)
    assert outcome.result is not None, outcome.error
    assert outcome.result.outputs is not None
    return outcome.result


async def outputs_of(bus: Bus, name: str, **inputs: JsonValue) -> dict[str, Any]:
    """What a run of the pipeline gives."""
    return (await run(bus, name, **inputs)).outputs or {}


async def write(bus: Bus, tag: str, *, value: bool) -> None:
    """Writes to the filler's PLC."""
    levels = {"user": OPERATOR.name, "id": "filler-plc", "arg": tag}
    outcome = await bus.request(WRITE, Write(value=value), timeout_s=30, **levels)
    assert outcome.result is not None, outcome.error


async def output_of(bus: Bus, run: str, node: str) -> dict[str, Any]:
    outcome = await bus.request(GET_RUN, GetRun(), user=OPERATOR.name, scope=WORKSPACE, id=run)
    assert outcome.result is not None, outcome.error
    return outcome.result.nodes[node].output or {}


def test_the_folder_has_no_fault() -> None:
    findings = check(PLANT)

    assert not findings.faults
    assert [one.pipeline for one in findings.pipelines] == NAMES
    assert len(NAMES) >= 4


async def test_the_tank_gets_the_set_point_that_the_line_needs(site: Site) -> None:
    async with operator(site) as bus:
        await ready(bus, "tank-level", "filler-plc/bottles-per-minute", "filler-plc/level-set-point")
        usual = await run(bus, "tank-level")
        speed = (await output_of(bus, usual.run, "speed"))["value"]
        full = await run(bus, "tank-level", lowest=80, highest=80)
        written = await output_of(bus, full.run, "set")

    assert usual.outputs is not None
    assert usual.outputs["wanted"] == round(min(35 + 0.1 * speed, 65), 1)
    assert written["read_back"] == 80.0


async def test_a_batch_of_caps_is_pressed_one_by_one(site: Site) -> None:
    async with operator(site) as bus:
        await ready(bus, "cap-batch", "servo/homed", "energy-meter/air-pressure")
        done = await run(bus, "cap-batch", caps=2, stroke=20)
        batch = await output_of(bus, done.run, "batch")

    assert done.outputs is not None
    assert done.outputs["pressed"] == 2
    assert batch["rounds"] >= 2


async def test_the_operator_is_told_that_the_product_is_too_cold(site: Site) -> None:
    """As it is while the pasteuriser heats up, after its start."""
    async with operator(site) as bus:
        alarm = Seen(bus, ALARM, alarm="product-too-cold")
        await alarm.until(lambda told: told.state is not AlarmStatus.NORMAL)


async def test_the_effectiveness_of_the_line_is_a_tag(site: Site) -> None:
    def a_second_long(count: TagValue) -> bool:
        return isinstance(count.value, list) and count.value[1] - count.value[0] >= 1_000_000

    async with operator(site) as bus:
        told, count = Seen(bus, TAG, device="line", tag="oee"), Seen(bus, TAG, device="line", tag="count")
        await count.until(a_second_long)
        given = await outputs_of(bus, "line-oee", seconds=1)
        await told.until(lambda oee: oee.value == given["oee"])

    assert 0 <= given["availability"] <= 100


async def test_a_damaged_bearing_and_a_clogged_impeller_are_told_apart_until_they_are_mended(site: Site) -> None:
    async with operator(site) as bus:
        await ready(bus, "pump-vibration", "filler-plc/pump-speed")
        samples = Seen(bus, TAG, device="pasteuriser", tag="pump-acceleration")
        alarms = {name: Seen(bus, ALARM, alarm=name) for name in ("pump-bearing", "pump-impeller")}

        async def until_it_gives(output: str, *, value: bool) -> dict[str, Any]:
            while True:
                await samples.next()
                given = await outputs_of(bus, "pump-vibration")
                if given[output] is value:
                    return given

        worn = await until_it_gives("worn", value=True)
        await alarms["pump-bearing"].until(lambda told: told.state is AlarmStatus.ACTIVE_UNACKED)
        await write(bus, "fault-pump-wear", value=False)
        await write(bus, "fault-pump-clogged", value=True)
        clogged = await until_it_gives("clogged", value=True)
        await alarms["pump-bearing"].until(lambda told: told.state is AlarmStatus.CLEARED_UNACKED)
        await alarms["pump-impeller"].until(lambda told: told.state is AlarmStatus.ACTIVE_UNACKED)
        await write(bus, "fault-pump-clogged", value=False)
        await until_it_gives("clogged", value=False)
        await alarms["pump-impeller"].until(lambda told: told.state is AlarmStatus.CLEARED_UNACKED)

    assert worn["clogged"] is False
    assert clogged["worn"] is False
    assert clogged["order"] == pytest.approx(1, abs=0.2)
