"""An open device at work: its groups polled in their slots, its subscriptions followed, questions answered between.

One task asks the device, or one per lane where the driver says which groups fail apart (see plugins.api.driver.Lanes);
subscriptions run beside them.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar, cast

from contracts.v1.device import Circuit
from plugins.api.clock import Clock
from plugins.api.driver import Device, DeviceError, DeviceSpec, GroupSpec, Lanes, Reading, Subscribes
from services.gateway.lane import Lane, Listener
from services.runtime.retry import Backoff

R = TypeVar("R")


class Poller:
    """Works on one connection of one device.

    room: awaited before each poll of a group without interval, which would outrun whatever comes after it.
    backoff: makes the waits of a group that fails alone. subscribed: the groups that push. device: to be asked
    between() polls only.
    """

    def __init__(
        self,
        *,
        device: Device,
        spec: DeviceSpec,
        listener: Listener,
        room: Callable[[], Awaitable[None]],
        clock: Clock,
        backoff: Callable[[], Backoff],
    ) -> None:
        self.device = device
        self._listener = listener
        pushing = device if isinstance(device, Subscribes) else None
        self._pushing = [group for group in spec.groups if pushing and pushing.subscribes(group.name)]
        self.subscribed = frozenset(group.name for group in self._pushing)
        self._lane_names = {group.name: _lane_name(device, group) for group in spec.groups}
        self._lanes = {
            name: Lane(
                device=device,
                groups=[
                    group
                    for group in spec.groups
                    if self._lane_names[group.name] == name and group.name not in self.subscribed
                ],
                listener=listener,
                room=room,
                clock=clock,
                backoff=backoff,
                lost=self._lost,
            )
            for name in dict.fromkeys(self._lane_names.values())
        }

    @property
    def asked_hz(self) -> float:
        """Polls per second that the intervals ask for."""
        return sum(lane.asked_hz for lane in self._lanes.values())

    @property
    def circuit(self) -> Circuit:
        """Open if that of any lane is: something of the device is only probed."""
        opened = any(lane.circuit is not Circuit.CLOSED for lane in self._lanes.values())
        return Circuit.OPEN if opened else Circuit.CLOSED

    async def run(self) -> None:
        """Works until the connection is lost: raises a group of exceptions with a DeviceError in it."""
        async with asyncio.TaskGroup() as tasks:
            for group in self._pushing:
                tasks.create_task(self._follow(group.name), name=f"subscription of {group.name}")
            for name, lane in self._lanes.items():
                tasks.create_task(lane.run(), name=f"lane {name}")

    async def ask(self, groups: Sequence[str]) -> list[Reading]:
        """Reads these groups between two polls. Raises DeviceError."""
        return [await self.between(group, partial(self.device.read, group)) for group in groups]

    async def between(self, group: str, work: Callable[[], Awaitable[R]]) -> R:
        """Does this work on the device between two polls of the group's lane: no other call of it runs meanwhile.

        Raises DeviceError, that of the work or if the connection is lost before its turn.
        """
        return await self._lanes[self._lane_names[group]].ask(work)

    def lane(self, group: str) -> str:
        """The name of the group's lane."""
        return self._lane_names[group]

    def _lost(self) -> bool:
        return not self.subscribed and all(lane.failing for lane in self._lanes.values())

    async def _follow(self, group: str) -> None:
        pushing = cast("Subscribes", self.device)
        async with aclosing(cast("AsyncGenerator[Reading, None]", pushing.subscribe(group))) as readings:
            async for reading in readings:
                self._listener.on_reading(group, reading)
        raise DeviceError(f"the subscription of {group} has ended")


def _lane_name(device: Device, group: GroupSpec) -> str:
    return device.lane(group.name) if isinstance(device, Lanes) else ""
