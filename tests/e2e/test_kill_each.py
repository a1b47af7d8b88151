"""Each process of the spine is killed once: the others say so, nothing hangs, and values flow again without a hand."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.v1.device import DEVICE_STATE, DeviceStatus
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.stored import STORED
from contracts.v1.tag import TAG
from tests.e2e.stack import SITE, START_S, Stack, Viewer, viewer
from tests.polling import until

PLC, GROUP, LEVEL = "filler-plc", "fast", "tank-level"
OPCUA_TAGS = (("pasteuriser", "temperature"), ("pasteuriser", "gain"))  # subscribed, polled
pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    made = Stack.make(tmp_path / "site", example="plant")
    await made.start("broker", "plant", "gateway", "recorder")
    try:
        yield made
    finally:
        await made.close()


def frames(view: Viewer) -> int:
    return len(view.frames.get((PLC, GROUP), []))


async def flowing(view: Viewer, what: str) -> None:
    """Ten more frames with a good value."""
    before = frames(view)
    await view.wait(lambda: frames(view) >= before + 10, f"{what}: ten more frames of {PLC}/{GROUP}")
    await view.wait(
        lambda: (tag := view.value(TAG, device=PLC, tag=LEVEL)) and tag.q == 192, f"{what}: {LEVEL} is good"
    )


def quality(view: Viewer, device: str, tag: str) -> int | None:
    value = view.value(TAG, device=device, tag=tag)
    return value.q if value else None


def all_stored(view: Viewer, last: FrameStruct) -> bool:
    """Whether the recorder has every frame of the epoch up to this one."""
    stored = view.value(STORED, recorder="recorder", kind="frame", owner=PLC, stream=GROUP)
    epoch = next((one for one in stored.epochs if one.epoch == last.epoch), None) if stored else None
    return epoch is not None and len(epoch.have) == 1 and epoch.have[0][0] == 1 and epoch.have[0][1] >= last.seq


def presence(view: Viewer, service: str) -> ServiceStatus | None:
    state = view.value(SERVICE, service=service, instance=service)
    return state.state if state else None


def health(port: int) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, {}


async def healthy(stack: Stack, status: int, when: str) -> None:
    """Gateway and recorder both answer /health with this status."""
    for port in (stack.ports.gateway, stack.ports.recorder):

        async def answers(port: int = port) -> bool:
            return (await asyncio.to_thread(health, port))[0] == status

        await until(answers, START_S, what=f"/health on port {port} gives {status} {when}: {health(port)}")


async def test_a_killed_gateway_is_seen_and_its_next_life_says_where_the_last_one_ended(stack: Stack) -> None:
    async with viewer(stack) as view:
        await flowing(view, "at first")

        await stack.kill("gateway")

        await view.wait(lambda: presence(view, "gateway") is ServiceStatus.OFFLINE, "the gateway's will", within_s=8)
        last = view.frames[PLC, GROUP][-1]
        await stack.start("gateway")
        await flowing(view, "after the gateway's return")
        assert presence(view, "gateway") is ServiceStatus.ONLINE
        first = next(frame for frame in view.frames[PLC, GROUP] if frame.epoch > last.epoch)
        assert first.seq == 1
        assert first.prev is not None
        assert first.prev.epoch == last.epoch
        assert first.prev.last_seq >= last.seq, "every frame that was sent stood in the journal before"


async def test_a_killed_recorder_misses_no_frame(stack: Stack) -> None:
    async with viewer(stack) as view:
        await flowing(view, "at first")
        await view.wait(
            lambda: view.value(STORED, recorder="recorder", kind="frame", owner=PLC, stream=GROUP), "STORED"
        )

        await stack.kill("recorder")

        await view.wait(lambda: presence(view, "recorder") is ServiceStatus.OFFLINE, "the recorder's will", within_s=8)
        await flowing(view, "while the recorder is dead")
        await stack.start("recorder")
        last = view.frames[PLC, GROUP][-1]
        await view.wait(lambda: all_stored(view, last), "every frame from the first to one after the kill is stored")


async def test_a_killed_broker_is_reported_and_all_come_back_to_it(stack: Stack) -> None:
    async with viewer(stack) as view:
        await flowing(view, "at first")
        epoch = view.frames[PLC, GROUP][-1].epoch
        await healthy(stack, 200, "with the broker there")

    await stack.kill("broker")

    await healthy(stack, 503, "without the broker")
    await stack.start("broker")
    async with viewer(stack) as view:
        await flowing(view, "after the broker's return")
        assert view.frames[PLC, GROUP][-1].epoch == epoch, "the gateway lived on"
        await view.wait(lambda: presence(view, "gateway") is ServiceStatus.ONLINE, "the gateway says that it is there")
        await view.wait(
            lambda: presence(view, "recorder") is ServiceStatus.ONLINE, "the recorder says that it is there"
        )
        last = view.frames[PLC, GROUP][-1]
        await view.wait(lambda: all_stored(view, last), "what was made meanwhile, and what the broker lost, is stored")
        await healthy(stack, 200, "after the broker's return")
        await view.wait(
            lambda: (tag := view.value(TAG, device=PLC, tag="recipe")) and tag.q == 192,
            "a tag that seldom changes is retained again",
        )


async def test_killed_machines_make_their_tags_bad_and_they_are_good_again_after_their_return(stack: Stack) -> None:
    async with viewer(stack) as view:
        await flowing(view, "at first")

        await stack.kill("plant")

        await view.wait(lambda: (tag := view.value(TAG, device=PLC, tag=LEVEL)) and tag.q == 0, f"{LEVEL} is bad")
        tag = view.value(TAG, device=PLC, tag=LEVEL)
        assert tag is not None
        assert (tag.value, tag.cause) == (None, "comm")
        await view.wait(
            lambda: (state := view.value(DEVICE_STATE, device=PLC)) and state.state is DeviceStatus.OFFLINE,
            "the device is offline",
        )
        for device, tag in OPCUA_TAGS:
            await view.wait(lambda d=device, t=tag: quality(view, d, t) == 0, f"{device}/{tag} is bad")
        await stack.start("plant")
        await flowing(view, "after the PLC's return")
        for device, tag in OPCUA_TAGS:
            await view.wait(lambda d=device, t=tag: quality(view, d, t) == 192, f"{device}/{tag} is good again")
        await view.wait(
            lambda: (state := view.value(DEVICE_STATE, device=PLC)) and state.state is DeviceStatus.ONLINE,
            "the device is online",
        )


async def test_a_stopped_service_ends_cleanly_and_says_goodbye(stack: Stack) -> None:
    async with viewer(stack) as view:
        await flowing(view, "at first")

        assert await stack.stop("gateway") == 0
        await view.wait(lambda: presence(view, "gateway") is ServiceStatus.OFFLINE, "the gateway's goodbye")
        assert view.frames[PLC, GROUP][-1].closed, "the stream is closed, so that its end is known"
        tag = view.value(TAG, device=PLC, tag=LEVEL)
        assert tag is not None
        assert tag.q == 0, "nobody reads an old value as good"
        last = view.frames[PLC, GROUP][-1]

        def closed() -> bool:
            stored = view.value(STORED, recorder="recorder", kind="frame", owner=PLC, stream=GROUP)
            return bool(
                stored
                and any(one.epoch == last.epoch and one.closed and one.have == [(1, last.seq)] for one in stored.epochs)
            )

        await view.wait(closed, "the recorder has the stream to its end")
        assert await stack.stop("recorder") == 0
        await view.wait(lambda: presence(view, "recorder") is ServiceStatus.OFFLINE, "the recorder's goodbye")


async def test_a_late_subscriber_gets_every_last_value_retained(stack: Stack) -> None:
    async with viewer(stack) as early:
        await flowing(early, "at first")
        await early.wait(lambda: early.value(TAG, device="servo", tag="position"), "the servo's position")

    async with viewer(stack) as late:
        topic = TAG.build(site=SITE, device=PLC, tag="recipe")
        await late.wait(lambda: topic in late.retained, "the recipe's last value")

        assert FRAME.build(site=SITE, device=PLC, group=GROUP) not in late.retained, "frames are not retained"
