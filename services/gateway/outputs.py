"""The ways out of one device's groups, and what is due there without a reading."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from plugins.api.clock import Clock
from plugins.api.driver import GroupSpec, Reading
from services.gateway.device_file import DeviceFile
from services.gateway.output import GroupOutput

OpenOutputs = Callable[[DeviceFile, Iterable[GroupSpec]], dict[str, GroupOutput]]
TICK_S = 1.0
HEAD_START_S = 0.002
"""How long a frame is ahead of the tags that its reading has changed: by then it has passed the broker, which shares a
machine with us. Telling 500 tags takes us and the broker 20 ms."""


class Outputs:
    """open_outputs: opens the streams of these groups of the device. subscribed: the groups that push.

    tick: is called about once a second with the time (monotonic seconds).
    """

    def __init__(self, *, open_outputs: OpenOutputs, clock: Clock, tick: Callable[[float], None]) -> None:
        self._open = open_outputs
        self._clock = clock
        self._tick = tick
        self._outputs: dict[str, GroupOutput] = {}
        self._ahead: list[GroupOutput] = []
        self._woken = asyncio.Event()
        self.subscribed: frozenset[str] = frozenset()

    @property
    def epochs(self) -> Mapping[str, int]:
        """Of each group's stream; empty before any was opened."""
        return {name: output.epoch for name, output in self._outputs.items()}

    @property
    def failing(self) -> list[str]:
        """The groups of which every tag is bad because the device is away."""
        return [name for name, output in self._outputs.items() if output.failed]

    @property
    def backlog(self) -> int:
        """Frames that the recorders have still to be sent out of the journal."""
        return sum(output.backlog for output in self._outputs.values())

    def open(self, device: DeviceFile) -> None:
        """Opens a stream for each group of the device; begin() is to follow."""
        self._outputs = self._open(device, device.spec.groups)

    def renew(self, before: DeviceFile, after: DeviceFile) -> frozenset[str]:
        """Closes the streams of the groups that are no longer the same, and opens those of the new ones.

        Returns which are new: begin() is to follow.
        """
        were = {group.name: group for group in before.spec.groups}
        new = [group for group in after.spec.groups if were.get(group.name) != group]
        kept = {group.name for group in after.spec.groups} - {group.name for group in new}
        for name in [name for name in were if name not in kept]:
            self._outputs.pop(name).close("comm")
        opened = self._open(after, new)
        self._outputs |= opened
        self._woken.set()
        return frozenset(opened)

    def begin(self, groups: Iterable[str]) -> None:
        """These say of every tag that there is no value yet."""
        for group in groups:
            self._outputs[group].begin()

    def revise(self, device: DeviceFile) -> None:
        """The same tags are told in another way."""
        for name, output in self._outputs.items():
            output.revise(device, name)

    def take(self, group: str, reading: Reading) -> bool:
        """A reading came; whether the group had failed before. Raises DeviceError if it is too long for a frame."""
        output = self._outputs[group]
        returned = output.failed
        output.take(reading)
        if output.untold:
            asyncio.get_running_loop().call_later(HEAD_START_S, self._let_tell, output)
        return returned and not output.failed

    def _let_tell(self, output: GroupOutput) -> None:
        # keep() tells: what a driver's bug raises there ends the device as everywhere else, not a timer unseen.
        self._ahead.append(output)
        self._woken.set()

    def fail(self, cause: str, *, code: int | None = None, group: str | None = None) -> None:
        """The device is away, or the group alone: see GroupOutput.fail."""
        for output in self._outputs.values() if group is None else [self._outputs[group]]:
            output.fail(cause, code=code)

    def close(self, cause: str) -> None:
        """The last frames; nothing may come after them."""
        for output in self._outputs.values():
            output.close(cause)

    def leave(self) -> None:
        """The topics of the tags are another gateway's from now on."""
        for output in self._outputs.values():
            output.leave()

    async def keep(self) -> None:
        """Tells the tags that readings have changed, and for ever what is due without a reading: empty frames, tags
        silent for too long, ticks."""
        tick_at = self._clock.monotonic()
        while True:
            due = min(tick_at, *(output.due for output in self._outputs.values()))
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - self._clock.monotonic())):
                    await self._woken.wait()
            ahead, self._ahead = self._ahead, []
            for output in ahead:
                output.tell()
            now = self._clock.monotonic()
            for name, output in self._outputs.items():
                if output.due <= now:
                    output.tick(live=name in self.subscribed)
            if now >= tick_at:
                self._tick(now)
                tick_at = now + TICK_S
