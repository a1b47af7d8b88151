"""Watches over the tags with a fail-safe value: writes it when who wrote last is dead or silent.

Who wrote last is kept in a file, so that a gateway that is killed takes up its watch where it was; the silence is then
counted from its start.
"""

import asyncio
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

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

    async def write_fail_safe(self, name: str, *, user: str, why: str, due: Callable[[], bool]) -> bool:
        """Whether it is done with. due: whether it is still to be written, asked at its turn."""
        ...


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
        self._left = _load(path)
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
        while True:
            self._take_up()
            now = self._clock.monotonic()
            async with asyncio.TaskGroup() as tasks:  # a device that answers slowly holds up no other
                for place, armed in self._fail_safes.due(now):
                    tasks.create_task(self._write(place, armed))
            self._news.clear()
            wait_s = _AWAY_S if self._left else self._fail_safes.next_due - self._clock.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == math.inf else max(0.0, wait_s)):
                    await self._news.wait()

    async def _write(self, place: Place, armed: Armed) -> None:
        device, tag = place
        writer = self._writer(device)
        if device not in self._devices():
            self._fail_safes.settle(place, armed)
        elif writer is None:
            armed.due_at = self._clock.monotonic() + _AWAY_S
            return
        else:
            self._log.warning("fail_safe", device=device, tag=tag, writer=armed.user, why=armed.why)
            due = partial(self._fail_safes.stands, place, armed)
            if await writer.write_fail_safe(tag, user=self._user, why=f"{armed.why} of {armed.user}", due=due):
                self._fail_safes.settle(place, armed)
            else:
                self._fail_safes.put_off(place, armed, self._clock.monotonic())
        try:
            await self._save()
        except OSError as error:
            self._log.error("fail_safes_not_kept", error=str(error))

    def _take_up(self) -> None:
        """Arms what an earlier session has left, as soon as its device is known."""
        devices = self._devices()
        for (device, tag), user in list(self._left.items()):
            if device not in devices:
                continue
            del self._left[device, tag]
            found = devices[device].tags.get(tag)
            if found is not None and found.fail_safe is not None:
                self._fail_safes.arm(
                    (device, tag), user=user, after_s=found.fail_safe.after, now=self._clock.monotonic()
                )
                if self._services.get(user) == set():
                    self._fail_safes.gone(user, self._clock.monotonic())

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

    async def _save(self) -> None:
        async with self._saving:
            content = [[*place, user] for place, user in {**self._left, **self._fail_safes.users}.items()]
            await asyncio.to_thread(_store, self._path, json.dumps(content))


def _load(path: Path) -> dict[Place, str]:
    """Who wrote last to which tag. Raises OSError."""
    if not path.exists():
        return {}
    try:
        return {(device, tag): user for device, tag, user in json.loads(path.read_text(encoding="utf-8"))}
    except ValueError as error:
        raise OSError(f"{path}: {error}; put the fail-safe values right by hand, then remove the file") from None


def _store(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
