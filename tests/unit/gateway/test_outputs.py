"""The ways out of a device's groups: a frame has a head start before the tags that its reading has changed."""

import asyncio
import math
from types import SimpleNamespace

import pytest

from plugins.api.driver import Reading
from services.gateway.outputs import Outputs
from services.runtime.clock import SystemClock


class Output:
    """Stands for a group's way out: notes what is asked of it; telling makes something due."""

    failed = False

    def __init__(self):
        self.done = []
        self.due = math.inf
        self.untold = False
        self.ticked = asyncio.Event()

    def take(self, reading):
        self.done.append(("take", reading.t))
        self.untold = True

    def tell(self):
        self.done.append(("tell", len(self.done)))
        self.untold = False
        self.due = 0.0

    def tick(self, *, live):
        self.due = math.inf
        self.ticked.set()


async def test_tags_are_told_soon_after_their_reading_and_what_that_makes_due_is_done(monkeypatch):
    monkeypatch.setattr("services.gateway.outputs.TICK_S", 3600.0)
    output = Output()
    outputs = Outputs(open_outputs=lambda device, groups: {"fast": output}, clock=SystemClock(), tick=lambda now: None)
    outputs.open(SimpleNamespace(spec=SimpleNamespace(groups=())))
    keeping = asyncio.create_task(outputs.keep())
    try:
        await asyncio.sleep(0)
        outputs.take("fast", Reading(7, {}))
        for _ in range(3):
            await asyncio.sleep(0)
        assert output.done == [("take", 7)]

        async with asyncio.timeout(30):
            await output.ticked.wait()
        assert output.done == [("take", 7), ("tell", 1)]
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_what_a_drivers_bug_raises_while_tags_are_told_ends_the_keeping():
    class Mixed(Output):
        def tell(self):
            raise TypeError("a string for a float")

    output = Mixed()
    outputs = Outputs(open_outputs=lambda device, groups: {"fast": output}, clock=SystemClock(), tick=lambda now: None)
    outputs.open(SimpleNamespace(spec=SimpleNamespace(groups=())))
    keeping = asyncio.create_task(outputs.keep())
    await asyncio.sleep(0)
    outputs.take("fast", Reading(7, {}))

    with pytest.raises(TypeError, match="a string for a float"):
        async with asyncio.timeout(30):
            await keeping
