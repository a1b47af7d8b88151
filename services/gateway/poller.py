"""An open device at work: its groups polled in their slots, its subscriptions followed, questions answered between.

One task asks the device, or one per lane where the driver says which groups fail apart (see plugins.api.driver.Lanes);
subscriptions run beside them. While they do, the device may be told to be another one on the connection that it has
(see Revises): groups that stay the same notice nothing of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, aclosing
from functools import partial
from typing import TypeVar, cast

from contracts.v1.device import Circuit
from plugins.api.clock import Clock
from plugins.api.driver import Device, DeviceError, DeviceSpec, GroupSpec, Lanes, Queues, Reading, Revises, Subscribes
from services.gateway.lane import Lane, Listener
from services.runtime.retry import Backoff

R = TypeVar("R")


class Poller:
    """Works on one connection of one device.

    room: awaited before each poll of a group without interval, which would outrun whatever comes after it.
    quiet: entered for each other poll and each question, so that they do not wait for what is less urgent.
    backoff: makes the waits of a group that fails alone. subscribed: the groups that push. device: to be asked
    between() polls only. queue: the device, if its requests may have to wait for those of others.
    """

    def __init__(
        self,
        *,
        device: Device,
        spec: DeviceSpec,
        listener: Listener,
        room: Callable[[], Awaitable[None]],
        quiet: Callable[[], AbstractContextManager[None]],
        clock: Clock,
        backoff: Callable[[], Backoff],
    ) -> None:
        self.device = device
        self.queue = device if isinstance(device, Queues) else None
        self.subscribed: frozenset[str] = frozenset()
        self._listener = listener
        self._new_lane = partial(
            Lane,
            device=device,
            listener=listener,
            room=room,
            quiet=quiet,
            clock=clock,
            backoff=backoff,
            lost=self._lost,
        )
        self._groups: dict[str, GroupSpec] = {}
        self._lane_names: dict[str, str] = {}
        self._lanes: dict[str, Lane] = {}
        self._revisions = self._new_lane()
        self._tasks = asyncio.TaskGroup()
        self._polling: dict[str, asyncio.Task[None]] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._take(spec.groups)

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
        async with self._tasks:
            self._tasks.create_task(self._revisions.run(), name="revisions")
            self._set_to_work()
            # Not in the group's own end: a member that fails then leaves a cancellation counted on this task, and in
            # Debian 12's Python (3.11.2) every later asyncio.timeout of it ends in CancelledError, a crash.
            await asyncio.get_running_loop().create_future()

    async def ask(self, groups: Sequence[str]) -> list[Reading]:
        """Reads these groups between two polls. Raises DeviceError."""
        return [await self.between(group, partial(self.device.read, group)) for group in groups]

    async def between(self, group: str, work: Callable[[], Awaitable[R]], then: Callable[[], None] | None = None) -> R:
        """Does this work on the device between two polls of the group's lane: no other call of it runs meanwhile.

        then: see Lane.ask.
        Raises DeviceError: that of the work, or the connection was lost, or the group went, before its turn.
        """
        lane = self.lane(group)
        return await self._lanes[lane].ask(partial(self._in_turn, group, lane, work), then)

    def lane(self, group: str) -> str:
        """The name of the group's lane. Raises DeviceError if there is none (any more, or just now)."""
        if group not in self._lane_names:
            raise DeviceError(f"the group {group} has just been changed", cause="config")
        return self._lane_names[group]

    async def revise(self, spec: DeviceSpec, taken: Callable[[], None]) -> None:
        """Works by this spec from now on; groups that are the same in it go on, and keep their slots.

        taken: is called once the device goes by it, after the last reading of what has changed and before the first.
        Raises DeviceError: the device cannot do so and must be opened anew.
        """
        await self._revisions.ask(partial(self._revise, spec, taken))

    async def _revise(self, spec: DeviceSpec, taken: Callable[[], None]) -> None:
        if not isinstance(self.device, Revises):
            raise DeviceError("its driver needs a new connection for every change", cause="config")
        wanted = {group.name: group for group in spec.groups}
        await self._leave([name for name, group in self._groups.items() if wanted.get(name) != group])
        await self.device.revise(spec)
        self._take(group for group in spec.groups if group.name not in self._groups)
        taken()
        self._set_to_work()

    async def _in_turn(self, group: str, lane: str, work: Callable[[], Awaitable[R]]) -> R:
        if self.lane(group) != lane:
            raise DeviceError(f"the group {group} is another part's now", cause="config")
        return await work()

    async def _leave(self, names: Collection[str]) -> None:
        """Returns when the device is asked for nothing of these groups any more."""
        lanes = {self._lane_names.pop(name) for name in names}
        following = [self._following.pop(name) for name in names if name in self._following]
        self.subscribed = self.subscribed.difference(names)
        for name in names:
            del self._groups[name]
        for task in following:
            task.cancel()
        await asyncio.gather(*(self._lanes[lane].leave(names) for lane in lanes))
        if following:
            await asyncio.wait(following)

    def _take(self, groups: Iterable[GroupSpec]) -> None:
        pushing = self.device if isinstance(self.device, Subscribes) else None
        for group in groups:
            name = self.device.lane(group.name) if isinstance(self.device, Lanes) else ""
            if name not in self._lanes:
                self._lanes[name] = self._new_lane()
            self._groups[group.name] = group
            self._lane_names[group.name] = name
            if pushing and pushing.subscribes(group.name):
                self.subscribed |= {group.name}
            else:
                self._lanes[name].take(group)

    def _set_to_work(self) -> None:
        """A task for each lane and each subscription that has none yet; lanes without a group end."""
        for name in set(self._lanes).difference(self._lane_names.values()):
            del self._lanes[name]
            self._polling.pop(name).cancel()
        for name in self._groups:
            if name in self.subscribed and name not in self._following:
                task = self._tasks.create_task(self._follow(name), name=f"subscription of {name}")
                self._following[name] = task
        for name, lane in self._lanes.items():
            if name not in self._polling:
                self._polling[name] = self._tasks.create_task(lane.run(), name=f"lane {name}")

    def _lost(self) -> bool:
        return not self.subscribed and all(lane.failing for lane in self._lanes.values())

    async def _follow(self, group: str) -> None:
        pushing = cast("Subscribes", self.device)
        async with aclosing(cast("AsyncGenerator[Reading, None]", pushing.subscribe(group))) as readings:
            async for reading in readings:
                self._listener.on_reading(group, reading)
        raise DeviceError(f"the subscription of {group} has ended")
