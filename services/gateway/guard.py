"""Watches over the tags with a fail-safe value: writes it when who wrote last is dead or silent.

Who wrote last is kept in a file, so that a gateway that is killed takes up its watch where it was; the silence is then
counted from its start. What is being written stands there too, so that its outcome is told after a kill.
"""

import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from contracts.v1.message import Scalar
from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from plugins.api.clock import Clock
from services.gateway.device_file import DeviceFile
from services.gateway.fail_safe import Armed, FailSafes, Place
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.logs import Log

_AWAY_S = 1.0
"""How often it is looked whether a device that is away has come back."""


class SafeWriter(Protocol):
    """Writes a fail-safe value; see writer.Writer."""

    async def write_fail_safe(
        self, name: str, *, user: str, why: str, begin: Callable[[Scalar], Awaitable[bool]]
    ) -> bool:
        """Whether it is done with. begin: whether the value is still to be written, asked at its turn."""
        ...

    async def account_fail_safe(self, name: str, *, user: str, value: Scalar, why: str) -> None:
        """Tells of one that an earlier session had begun."""
        ...


class Begun(NamedTuple):
    """A fail-safe value that is being written."""

    value: Scalar
    why: str


class Guard:
    """Run by a Supervisor. user: as whom fail-safe values are written. writer: of a device, None while that is away.

    devices: that run here, by name.
    """

    name = "guard"

    def __init__(
        self,
        *,
        path: Path,
        user: str,
        writer: Callable[[str], SafeWriter | None],
        devices: Callable[[], Mapping[str, DeviceFile]],
        bus: Bus,
        clock: Clock,
        log: Log,
    ) -> None:
        self._path = path
        self._user = user
        self._writer = writer
        self._devices = devices
        self._clock = clock
        self._log = log
        self._fail_safes = FailSafes()
        self._services: dict[str, set[str]] = {}
        self._left, self._begun = _load(path)
        self._untold: set[Place] = set()
        self._saving = asyncio.Lock()
        self._news = asyncio.Event()
        bus.subscribe(SERVICE, self._on_service)

    async def watch(self, device: str, tag: str, *, user: str, after_s: float) -> None:
        """The user is writing to the tag now; returns when that is on the disk. Raises OSError."""
        changed = self._fail_safes.arm((device, tag), user=user, after_s=after_s, now=self._clock.monotonic())
        self._left.pop((device, tag), None)
        self._news.set()
        if changed:
            await self._save()

    async def run(self) -> None:
        """Writes what falls due, until cancelled."""
        # Of a run that has ended, or of an earlier session.
        self._fail_safes.give_back()
        self._untold = set(self._begun)
        async with asyncio.TaskGroup() as tasks:  # a device that answers slowly holds up no other
            while True:
                self._take_up(tasks)
                for place, armed in self._fail_safes.take_due(self._clock.monotonic()):
                    tasks.create_task(self._write(place, armed))
                self._news.clear()
                waiting = self._left or self._untold
                wait_s = _AWAY_S if waiting else self._fail_safes.next_due - self._clock.monotonic()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if wait_s == math.inf else max(0.0, wait_s)):
                        await self._news.wait()

    async def _write(self, place: Place, armed: Armed) -> None:
        device, tag = place
        writer = self._writer(device)
        if device not in self._devices():
            self._fail_safes.settle(place, armed)
        elif writer is None:
            self._fail_safes.wait(armed, self._clock.monotonic() + _AWAY_S)
            self._news.set()
            return
        else:
            self._log.warning("fail_safe", device=device, tag=tag, writer=armed.user, why=armed.why)
            why = f"{armed.why} of {armed.user}"
            begin = partial(self._begin, place, armed, why)
            if await writer.write_fail_safe(tag, user=self._user, why=why, begin=begin):
                self._fail_safes.settle(place, armed)
            else:
                self._fail_safes.put_off(place, armed, self._clock.monotonic())
            self._begun.pop(place, None)
        self._news.set()
        await self._keep()

    async def _begin(self, place: Place, armed: Armed, why: str, value: Scalar) -> bool:
        """See writer.Begin."""
        if not self._fail_safes.stands(place, armed):
            return False
        self._begun[place] = Begun(value, why)
        await self._keep()
        return True

    def _take_up(self, tasks: asyncio.TaskGroup) -> None:
        """Tells of what an earlier session had begun, and arms what it has left, as soon as the device is known."""
        for place in list(self._untold):
            writer = self._writer(place[0])
            if writer is not None:
                self._untold.discard(place)
                tasks.create_task(self._account(place, writer))
        devices = self._devices()
        for (device, tag), user in list(self._left.items()):
            if device not in devices or (device, tag) in self._begun:
                continue
            del self._left[device, tag]
            found = devices[device].tags.get(tag)
            if found is not None and found.fail_safe is not None:
                self._fail_safes.arm(
                    (device, tag), user=user, after_s=found.fail_safe.after, now=self._clock.monotonic()
                )
                if self._services.get(user) == set():
                    self._fail_safes.gone(user, self._clock.monotonic())

    async def _account(self, place: Place, writer: SafeWriter) -> None:
        begun = self._begun[place]
        await writer.account_fail_safe(place[1], user=self._user, value=begun.value, why=begun.why)
        if self._begun.get(place) is begun:
            del self._begun[place]
        self._news.set()
        await self._keep()

    async def _on_service(self, delivery: Delivery[ServiceState]) -> None:
        """A service is alive while one of its instances is."""
        service, instance = delivery.levels["service"], delivery.levels["instance"]
        alive = self._services.setdefault(service, set())
        if delivery.payload.state is not ServiceStatus.OFFLINE:
            alive.add(instance)
            return
        alive.discard(instance)
        if not alive:
            self._fail_safes.gone(service, self._clock.monotonic())
            self._news.set()

    async def _keep(self) -> None:
        """As _save(); a fail-safe value is written also if the disk takes nothing."""
        try:
            await self._save()
        except OSError as error:
            self._log.error("fail_safes_not_kept", error=str(error))

    async def _save(self) -> None:
        async with self._saving:
            users = {**self._left, **self._fail_safes.users}
            content = [[*place, user, *self._begun.get(place, ())] for place, user in users.items()]
            await asyncio.to_thread(_store, self._path, json.dumps(content))


def _load(path: Path) -> tuple[dict[Place, str], dict[Place, Begun]]:
    """Who wrote last to which tag, and what was being written. Raises OSError."""
    users: dict[Place, str] = {}
    begun: dict[Place, Begun] = {}
    if not path.exists():
        return users, begun
    try:
        for device, tag, user, *more in json.loads(path.read_text(encoding="utf-8")):
            users[device, tag] = user
            if more:
                begun[device, tag] = Begun(*more)
    except (ValueError, TypeError) as error:
        raise OSError(f"{path}: {error}; put the fail-safe values right by hand, then remove the file") from None
    return users, begun


def _store(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
