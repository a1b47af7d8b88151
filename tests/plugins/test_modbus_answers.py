"""Answers that are late, doubled, out of order, foreign, broken or cut off never give a tag another tag's value."""

import asyncio
from random import Random
from typing import Any

import pytest

from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import Device, DeviceError, DeviceSpec, Reading
from plugins.drivers.modbus.driver import ModbusDriver
from tests.plugins.faulty_wire import FAULTS, FaultyWire, Framing, register
from tests.plugins.leaping_loop import pass_time, run_leaping

TIMEOUT_S = 0.05
STARTS = {"a": 0, "b": 40, "c": 80}
"""Groups of four registers each, so that their answers look alike."""


def spec(wire: FaultyWire, **connection: Any) -> DeviceSpec:
    transport = "tcp" if wire.framing == "mbap" else "rtu-tcp"
    fields = {"transport": transport, "host": "127.0.0.1", "port": wire.port, "timeout": f"{TIMEOUT_S * 1000:g}ms"}
    return device_spec(
        ModbusDriver(),
        connection={**fields, "max_gap": 0, "retries": 1, **connection},
        groups={
            f"{group}-{unit}": {"unit_id": unit, "tags": tags(group, start, unit)}
            for group, start in STARTS.items()
            for unit in (1, 2)
        },
    )


def tags(group: str, start: int, unit: int) -> dict[str, Any]:
    """Two requests, of four registers each."""
    places = (*range(start, start + 4), *range(start + 20, start + 24))
    return {f"{group}-{unit}-{place}": {"address": f"holding:{place}", "type": "uint16"} for place in places}


def assert_own_values(reading: Reading) -> int:
    """How many tags have a value: each its own."""
    values = {tag: value for tag, value in reading.values.items() if value is not None}
    assert values == {tag: register(int(tag.split("-")[1]), int(tag.split("-")[2])) for tag in values}
    return len(values)


async def read_or_fail(device: Device, group: str) -> int:
    try:
        return assert_own_values(await device.read(group))
    except DeviceError:
        return 0


async def read_until_whole(device: Device, group: str) -> None:
    """A busy machine may miss a timeout."""
    for _ in range(20):
        if await read_or_fail(device, group) == 8:
            return
    raise AssertionError(f"{group} is never read whole")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("framing", ["mbap", "rtu"])
async def test_after_one_spoilt_answer_every_value_is_its_tags_own(framing: Framing, fault: str) -> None:
    faults = iter([fault])
    async with FaultyWire(framing) as wire:
        wire.fault = lambda unit: next(faults, "none")
        wire.late_s = lambda: 1.5 * TIMEOUT_S
        driver = ModbusDriver()
        device_file = spec(wire, retries=0)
        async with driver.open(device_file, clock=WallClock()) as device:
            await read_or_fail(device, "a-1")
            if fault != "dropped":
                for group in ("b-1", "b-2", "c-1", "a-1"):
                    await read_until_whole(device, group)
        async with driver.open(device_file, clock=WallClock()) as device:
            await read_until_whole(device, "a-1")


@pytest.mark.parametrize(("framing", "in_flight"), [("mbap", 1), ("mbap", 4), ("rtu", 1)])
async def test_whatever_the_wire_does_every_value_is_its_tags_own(framing: Framing, in_flight: int) -> None:
    random = Random(f"{framing}{in_flight}")
    got = 0
    async with FaultyWire(framing) as wire:
        wire.fault = lambda unit: random.choice(FAULTS) if random.random() < 0.2 else "none"
        wire.late_s = lambda: random.uniform(0.5, 5) * TIMEOUT_S
        driver, device_file = ModbusDriver(), spec(wire, in_flight=in_flight)
        for _ in range(12):
            async with driver.open(device_file, clock=WallClock()) as device:
                for _ in range(6):
                    groups = [f"{random.choice('abc')}-{unit}" for unit in (1, 2)]
                    got += sum(await asyncio.gather(*(read_or_fail(device, group) for group in groups)))
    assert got > 100, "most reads give values"


@pytest.mark.parametrize("framing", ["mbap", "rtu"])
@pytest.mark.parametrize("late", [1.2, 2.5, 3.5])
async def test_a_unit_that_is_always_too_late_gives_no_values_rather_than_shifted_ones(
    framing: Framing, late: float
) -> None:
    random = Random(1)
    async with FaultyWire(framing) as wire:
        wire.fault = lambda unit: "late"
        wire.late_s = lambda: late * TIMEOUT_S
        async with ModbusDriver().open(spec(wire, retries=0, max_gap=50), clock=WallClock()) as device:
            for _ in range(8):
                await read_or_fail(device, f"{random.choice('abc')}-1")


@pytest.mark.parametrize("framing", ["mbap", "rtu"])
def test_answers_of_a_unit_that_come_and_go_shift_no_value_of_it_nor_of_others_polled_meanwhile(
    framing: Framing,
) -> None:
    """Most are so late that others are asked before they come: before the timeout, after it, and never."""
    random = Random(f"{framing}1")
    faults = ("late", "late", "refused late", "lost", "twice", "none", "none")
    got = {1: 0, 2: 0}

    async def polls(device: Device, unit: int, rounds: int) -> None:
        for _ in range(rounds):
            got[unit] += await read_or_fail(device, f"{random.choice('abc')}-{unit}")
            await pass_time(random.uniform(0, 2) * TIMEOUT_S)

    async def poll_both() -> None:
        async with FaultyWire(framing) as wire:
            wire.fault = lambda unit: random.choice(faults) if unit == 2 else "none"
            wire.late_s = lambda: random.uniform(0.1, 4) * TIMEOUT_S
            async with ModbusDriver().open(spec(wire), clock=WallClock()) as device:
                await asyncio.gather(polls(device, 1, 150), polls(device, 2, 60))

    run_leaping(poll_both())

    assert got[1] == 150 * 8
    assert got[2] > 0


def test_a_late_answer_that_comes_in_one_piece_with_that_of_another_unit_is_heard() -> None:
    faults = iter(["lost", "behind next"])

    async def read() -> list[int]:
        async with FaultyWire("rtu") as wire:
            wire.fault = lambda unit: next(faults, "none") if unit == 2 else "none"
            async with ModbusDriver().open(spec(wire, retries=0), clock=WallClock()) as device:
                counts = [await read_or_fail(device, group) for group in ("a-1", "a-2")]
                wire.asked.clear()
                late = asyncio.create_task(read_or_fail(device, "b-2"))
                await wire.asked.wait()
                busy = (read_or_fail(device, group) for group in ("b-1", "c-1"))  # the next is sent at once
                return [*counts, *await asyncio.gather(*busy), await late]

    assert run_leaping(read()) == [8, 0, 8, 8, 8]
