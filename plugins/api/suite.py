"""The behaviour that every driver plugin shows: one class of tests, run against a plugin and its own simulator.

How a plugin uses it (tests/plugins/test_<id>_suite.py):

    class TestModbus(DriverSuite):
        @pytest_asyncio.fixture
        async def bench(self) -> AsyncIterator[Bench]:
            async with ModbusSimulator(units={1: Unit()}) as simulator:
                yield ModbusBench(simulator)

That is all: pytest then runs each claim below as a test of its own, against a fresh bench. `ModbusBench` is the
plugin's implementation of `Bench`, some 40 lines: the device file's content with the simulator's port in it, and the
five things that can be done to the simulated device (stall, resume, drop, change, count the writes). To write the
DeviceSpec comfortably, use `device_spec`, which reads the same fields as a device file does.

The device of a bench should have every value type that the driver knows, at least one group that is polled, and,
if the driver can write, at least one writable tag. What a driver cannot do (no writable tag, no subscription) is
not asked of it. A driver that speaks to nobody outside its process, as mock_servo, is asked what LocalDriverSuite asks.

This module needs no pytest: a plugin's author may call the methods from anywhere.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import ClassVar, cast

from plugins.api.bench import Bench, LocalBench, WallClock, device_spec
from plugins.api.driver import Device, DeviceError, DeviceSpec, GroupSpec, Reading, Revises, Subscribes, Value
from plugins.api.soundness import assert_sound, expect_device_error, tags_of

HOUR_US = 3600 * 1_000_000


class LocalDriverSuite:
    """What every driver shows, also one whose device is in this process and cannot be lost: see LocalBench."""

    clock: ClassVar[WallClock] = WallClock()

    async def test_the_models_refuse_unknown_keys(self, bench: LocalBench) -> None:
        """A misspelt key of a device file is an error, never ignored."""
        for model in (bench.driver.connection, bench.driver.group, bench.driver.tag):
            assert model.model_config.get("extra") == "forbid", f"{model.__name__} would ignore a misspelt key"

    async def test_a_right_device_file_draws_no_complaint(self, bench: LocalBench) -> None:
        """check() says nothing of the bench's own device."""
        assert list(bench.driver.check(bench.device)) == []

    async def test_the_type_that_the_driver_knows_is_the_declared_one(self, bench: LocalBench) -> None:
        """value_type() is None or the type that the tag declares."""
        for group in bench.device.groups:
            for tag in group.tags:
                assert bench.driver.value_type(tag.source) in {None, tag.type}, tag.name

    async def test_opens_reads_and_closes_again_and_again(self, bench: LocalBench) -> None:
        """A device that was left can be opened and read anew."""
        for _ in range(3):
            async with self._open(bench) as device:
                await read_group(device, bench.device.groups[0])

    async def test_each_group_gives_every_tag_with_its_declared_type(self, bench: LocalBench) -> None:
        """Every reading is sound: each tag of the group, of its type or bad with a cause."""
        async with self._open(bench) as device:
            for _ in range(2):
                for group in bench.device.groups:
                    assert_sound(await read_group(device, group), tags_of(group))

    async def test_the_source_time_is_of_now_and_in_microseconds(self, bench: LocalBench) -> None:
        """A reading's time is within an hour of the clock that the driver was given."""
        async with self._open(bench) as device:
            reading = await read_group(device, bench.device.groups[0])

            assert abs(reading.t - self.clock.now_us()) < HOUR_US

    async def test_what_is_written_is_read_back(self, bench: LocalBench) -> None:
        """Each writable tag holds what was written, in value and type."""
        groups = {tag.name: group for group in bench.device.groups for tag in group.tags if tag.writable}
        assert set(bench.written) == set(groups), "the bench names a value for each writable tag"
        async with self._open(bench) as device:
            for tag, value in bench.written.items():
                before = (await read_group(device, groups[tag])).values[tag]
                assert before != value, f"{tag} was {value!r} before it was written"

                await device.write(tag, value)

                after = (await read_group(device, groups[tag])).values[tag]
                assert after == value, f"{tag}: wrote {value!r}, read {after!r}"
                assert type(after) is type(value), f"{tag}: wrote {value!r}, read {after!r}"

    async def test_a_revised_device_gives_what_its_new_groups_ask_for_and_then_the_old_again(
        self, bench: LocalBench
    ) -> None:
        """After revise() readings are those of the new groups, and of the old ones once these are back."""
        async with self._open(bench) as device:
            if not isinstance(device, Revises):
                return
            for spec in (_regrouped(bench.device, _polled(device, bench)), bench.device):
                await device.revise(spec)
                for group in spec.groups:
                    assert_sound(await read_group(device, group), tags_of(group))

    def _open(self, bench: LocalBench) -> AbstractAsyncContextManager[Device]:
        return bench.driver.open(bench.device, clock=self.clock)


class DriverSuite(LocalDriverSuite):
    """What a driver that speaks to a device shows: see the module's docstring. Subclasses give the fixture `bench`."""

    async def test_an_absent_device_is_a_device_error_within_the_deadline(self, bench: Bench) -> None:
        """Nobody listens: DeviceError, on opening or reading."""
        async with asyncio.timeout(bench.deadline_s):
            await expect_device_error(self._open_and_read(bench, bench.absent))

    async def test_a_silent_device_is_a_device_error_within_the_deadline(self, bench: Bench) -> None:
        """The device takes the request and never answers: DeviceError."""
        async with self._open(bench) as device:
            await bench.stall()

            async with asyncio.timeout(bench.deadline_s):
                await expect_device_error(device.read(_polled(device, bench).name))

    async def test_after_a_cancelled_read_the_device_is_in_step_or_closed(self, bench: Bench) -> None:
        """A late answer to a cancelled read is never taken for the answer to the next; cancellation passes."""
        async with self._open(bench) as device:
            group = _polled(device, bench)
            before = await device.read(group.name)
            await bench.stall()
            reading = asyncio.create_task(device.read(group.name), name="read that will be cancelled")
            async with asyncio.timeout(bench.deadline_s):
                await bench.asked()
            reading.cancel()
            assert isinstance(await _outcome(reading), asyncio.CancelledError), "the cancellation was swallowed"
            await bench.resume()

            async with asyncio.timeout(2 * bench.deadline_s):
                try:
                    after = await device.read(group.name)
                except DeviceError:
                    after = await self._open_and_read(bench, bench.device)
            assert_sound(after, tags_of(group))
            assert set(after.quality) == set(before.quality), "values went bad after a cancelled read"

    async def test_a_dropped_connection_is_a_device_error_and_a_new_one_works(self, bench: Bench) -> None:
        """The connection breaks: DeviceError; opening anew gives sound readings."""
        async with self._open(bench) as device:
            group = _polled(device, bench)
            await device.read(group.name)
            await bench.drop()

            async with asyncio.timeout(bench.deadline_s):
                await expect_device_error(device.read(group.name))

        assert_sound(await self._open_and_read(bench, bench.device), tags_of(group))

    async def test_a_write_without_an_answer_is_a_device_error_and_is_sent_once(self, bench: Bench) -> None:
        """A write whose answer is lost is never repeated by the driver."""
        for tag, value in list(bench.written.items())[:1]:
            async with self._open(bench) as device:
                taken = bench.writes_taken()
                await bench.stall()

                async with asyncio.timeout(bench.deadline_s):
                    await expect_device_error(device.write(tag, value))

                assert bench.writes_taken() - taken == 1

    async def test_a_subscription_starts_with_every_tag_and_brings_each_change(self, bench: Bench) -> None:
        """The first reading is whole; each change follows within 10 s."""
        async with self._open(bench) as device:
            for group in bench.device.groups:
                if not (isinstance(device, Subscribes) and device.subscribes(group.name)):
                    continue
                async with asyncio.timeout(10), _closing(device.subscribe(group.name)) as readings:
                    assert_sound(await anext(readings), tags_of(group))
                    for tag in (tag for tag in tags_of(group) if tag in bench.written):
                        await bench.change(tag, bench.written[tag])
                        await _until_seen(readings, group, tag, bench.written[tag])

    async def test_a_subscription_ends_with_a_device_error_when_the_connection_drops(self, bench: Bench) -> None:
        """A subscription never just falls silent: DeviceError."""
        async with self._open(bench) as device:
            for group in bench.device.groups:
                if not (isinstance(device, Subscribes) and device.subscribes(group.name)):
                    continue
                async with asyncio.timeout(2 * bench.deadline_s), _closing(device.subscribe(group.name)) as readings:
                    await anext(readings)
                    await bench.drop()
                    await expect_device_error(_exhaust(readings))
                return

    async def test_a_subscription_goes_on_when_another_group_is_revised(self, bench: Bench) -> None:
        """revise() of another group costs a subscription no change."""
        async with self._open(bench) as device:
            for group in bench.device.groups:
                if not (
                    isinstance(device, Revises) and isinstance(device, Subscribes) and device.subscribes(group.name)
                ):
                    continue
                async with asyncio.timeout(10), _closing(device.subscribe(group.name)) as readings:
                    await anext(readings)
                    await device.revise(_regrouped(bench.device, _polled(device, bench)))
                    for tag in (tag for tag in tags_of(group) if tag in bench.written):
                        await bench.change(tag, bench.written[tag])
                        await _until_seen(readings, group, tag, bench.written[tag])

    async def _open_and_read(self, bench: Bench, spec: DeviceSpec) -> Reading:
        async with bench.driver.open(spec, clock=self.clock) as device:
            return await read_group(device, _polled(device, bench))


async def read_group(device: Device, group: GroupSpec) -> Reading:
    """What a poll of the group gives, or for a group that is subscribed to its first Reading."""
    if isinstance(device, Subscribes) and device.subscribes(group.name):
        async with asyncio.timeout(10), _closing(device.subscribe(group.name)) as readings:
            return await anext(readings)
    return await device.read(group.name)


def _polled(device: Device, bench: LocalBench) -> GroupSpec:
    polled = [
        group for group in bench.device.groups if not (isinstance(device, Subscribes) and device.subscribes(group.name))
    ]
    assert polled, "the bench's device has a group that is polled"
    return polled[0]


def _regrouped(device: DeviceSpec, group: GroupSpec) -> DeviceSpec:
    """The device with the first tag of this group in a group of its own."""
    first, rest = group.tags[:1], group.tags[1:]
    others = tuple(one for one in device.groups if one.name != group.name)
    parts = (replace(group, name=f"{group.name}-alone", tags=first), *([replace(group, tags=rest)] if rest else []))
    return replace(device, groups=(*parts, *others))


def _closing(readings: AsyncIterator[Reading]) -> AbstractAsyncContextManager[AsyncIterator[Reading]]:
    assert hasattr(readings, "aclose"), "subscribe() is an asynchronous generator, so that its end can be awaited"
    return aclosing(cast("AsyncGenerator[Reading, None]", readings))


async def _until_seen(readings: AsyncIterator[Reading], group: GroupSpec, tag: str, value: Value) -> None:
    async for reading in readings:
        assert_sound(reading, tags_of(group), whole=False)
        if tag in reading.values and reading.values[tag] == value:
            return
    raise AssertionError(f"the subscription ended before {tag} became {value!r}")


async def _exhaust(readings: AsyncIterator[Reading]) -> None:
    async for _ in readings:
        continue


async def _outcome(task: "asyncio.Task[Reading]") -> Reading | BaseException:
    return (await asyncio.gather(task, return_exceptions=True))[0]


__all__ = [
    "Bench",
    "DriverSuite",
    "LocalBench",
    "LocalDriverSuite",
    "WallClock",
    "assert_sound",
    "device_spec",
    "expect_device_error",
    "read_group",
    "tags_of",
]
