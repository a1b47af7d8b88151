"""A device that does what each test says, and a poller at work on it."""

import asyncio
from contextlib import asynccontextmanager, nullcontext
from random import Random

import pytest

from contracts.v1.device import ValueType
from plugins.api.driver import DeviceError, DeviceSpec, GroupSpec, Reading, TagSpec
from services.gateway.poller import Poller
from services.runtime.clock import SystemClock
from services.runtime.retry import Backoff


class ScriptedDevice:
    """Answers reads from `answers` (a Reading or a DeviceError per group), one at a time, and pushes what is put."""

    def __init__(self, pushing=()):
        self.answers = {}
        self.reads = []
        self.pushed = asyncio.Queue()
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self._pushing = pushing
        self._busy = False

    def subscribes(self, group):
        return group in self._pushing

    async def subscribe(self, group):
        while True:
            item = await self.pushed.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item

    async def read(self, group):
        assert not self._busy, "two calls at the same time"
        self._busy = True
        try:
            self.reads.append(group)
            self.asked.set()
            await self.gate.wait()
            answer = self.answers.get(group, Reading(1, {group: 1.0}))
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self._busy = False

    async def write(self, tag, value):
        raise AssertionError("nobody writes")


class Listener:
    def __init__(self):
        self.readings = []
        self.failures = []
        self.polls = []
        self.heard = asyncio.Event()

    def on_reading(self, group, reading):
        if reading.values.get(group) == "too long":
            raise DeviceError("too long")
        self.readings.append((group, reading))
        self.heard.set()

    def on_failure(self, group, error):
        self.failures.append((group, str(error)))
        self.heard.set()

    def on_poll(self, reading, *, seconds, overruns):
        self.polls.append((reading is not None, overruns))


async def no_wait():
    pass


def spec(**intervals):
    groups = tuple(
        GroupSpec(
            name=name,
            interval_s=interval_s,
            tags=(TagSpec(name=name, type=ValueType.FLOAT32, source=None),),
            options=None,
        )
        for name, interval_s in intervals.items()
    )
    return DeviceSpec(name="pump", groups=groups, connection=None)


@asynccontextmanager
async def polling(device, clock=None, backoff=None, quiet=nullcontext, **intervals):
    listener = Listener()
    poller = Poller(
        device=device,
        spec=spec(**intervals),
        listener=listener,
        room=no_wait,
        quiet=quiet,
        clock=clock or SystemClock(),
        backoff=backoff or (lambda: Backoff(random=Random(1))),
    )
    task = asyncio.create_task(poller.run())
    try:
        yield poller, listener, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def heard(listener, enough):
    async with asyncio.timeout(30):
        while not enough():
            listener.heard.clear()
            await listener.heard.wait()


async def ended_with(task):
    async with asyncio.timeout(30):
        with pytest.raises(BaseExceptionGroup) as caught:
            await task
    return [str(error) for error in caught.value.exceptions]


class DeviceOfUnits(ScriptedDevice):
    """Groups named unit-group; each unit is a lane, asked one thing at a time, and silent while its gate is closed."""

    def __init__(self):
        super().__init__()
        self.gates = {}
        self._asking = set()

    def lane(self, group):
        return group.partition("_")[0]

    async def read(self, group):
        unit = self.lane(group)
        assert unit not in self._asking, f"two calls to unit {unit} at the same time"
        self._asking.add(unit)
        try:
            self.reads.append(group)
            if unit in self.gates:
                await self.gates[unit].wait()
            answer = self.answers.get(group, Reading(1, {group: 1.0}))
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self._asking.discard(unit)


def steep_backoff(first_s):
    """The first wait is short, the second longer than any test."""
    return lambda: Backoff(first_s=first_s, most_s=3600.0, factor=1e6, jitter=0.0, random=Random(1))
