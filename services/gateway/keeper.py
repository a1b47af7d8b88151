"""Keeps the running devices in step with the device files, and off the devices of other gateways that live."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from pydantic import JsonValue

from contracts.codec import decode
from contracts.v1.device import DEVICE, DEVICE_STATE, GATEWAY_LOST, DeviceInfo, DeviceState
from contracts.v1.service import SERVICE, ServiceState
from plugins.api.document import Fault
from plugins.api.registry import Plugin
from services.gateway.catalog import Catalog, DeviceFolder, device_paths
from services.gateway.device_file import DeviceFile
from services.gateway.difference import Faults, Steps, steps
from services.gateway.fleet import Fleet
from services.gateway.neighbours import Holder, Neighbours
from services.gateway.swap import Swap
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.event_log import EventLog
from services.runtime.logs import Log
from services.runtime.watch import Mark, Watch, marks

MEET_S = 0.5
"""How long the first start of devices waits to hear what other gateways hold; without a broker, all are started."""
QUIET_S = 0.02
MOST_DEVICES = 100_000
MOST_FAULTS = 20
"""Faults of one file that its event tells."""


class Keeper:
    """Run by a Supervisor. look_s: how often the folder is looked at.

    loaded: is called when devices run whose driver none had before: its modules are there to stay.
    reconcile() may be called by anybody at any time: what it does is done by one at a time.
    """

    name = "keeper"

    def __init__(
        self,
        *,
        instance: str,
        sid: str,
        folder: DeviceFolder,
        fleet: Fleet,
        bus: Bus,
        events: EventLog,
        log: Log,
        look_s: float,
        loaded: Callable[[], None],
    ) -> None:
        self._loaded = loaded
        self._drivers: frozenset[str] = frozenset()
        self._instance = instance
        self._sid = sid
        self._folder = folder
        self._fleet = fleet
        self._bus = bus
        self._events = events
        self._log = log
        self._watch = Watch(self._look, every_s=look_s)
        self._neighbours = Neighbours(instance=instance, sid=sid)
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._told: set[Fault] = set()
        self._held: dict[str, Holder] = {}
        self._contested: dict[str, Holder] = {}
        self._left: dict[str, tuple[str, ...]] = {}
        self._heard = 0
        self._begun = False
        bus.subscribe_raw(DEVICE_STATE, self._on_state, queue_size=MOST_DEVICES)
        bus.subscribe(DEVICE, self._on_info, queue_size=MOST_DEVICES)
        bus.subscribe(SERVICE, self._on_service, service="gateway")

    @property
    def held(self) -> str:
        """One line about the devices that other gateways run although their files are here; empty if there are none."""
        return "".join(f", {name} is held by {holder.gateway}" for name, holder in sorted(self._held.items()))

    async def run(self) -> None:
        """Starts the devices, then follows every change of the folder and of other gateways, until cancelled."""
        await self._watch.begin()
        await asyncio.gather(self._load(), self._meet())  # meanwhile: what has been read is not parsed again
        await self.reconcile()
        self._begun = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_files(), name=f"{self.name}.files")
            tasks.create_task(self._follow_news(), name=f"{self.name}.news")

    async def reconcile(self, *, user: str | None = None) -> Catalog:
        """Reads what has changed in the folder and does what follows from it. Returns what the folder holds.

        user: at whose command.
        """
        async with self._lock:
            with ExitStack() as broken_off:
                broken_off.callback(self._news.set)  # a command's deadline has passed: the next round does the rest
                catalog = await self._load()
                self._tell(catalog)
                await self._fleet.settle()
                await self._yield_contested()
                what = steps(self._fleet.running, self._fleet.refused, catalog, instance=self._instance)
                await self._take(what, user)
                broken_off.pop_all()
            for name in self._held.keys() - catalog.devices.keys():
                del self._held[name]
            self._tidy()
            self._note_drivers(catalog)
            return catalog

    async def read_anew(self) -> None:
        """The drivers have changed: every file is read as if it had been written now."""
        async with self._lock:
            self._folder.forget()
        await self.reconcile()

    async def swap(self, plugin: Plugin, adopt: Callable[[], None]) -> None:
        """Moves the running devices of a driver over to another version of it; see Swap. Raises SwapFailed."""
        async with self._lock:
            await self._load()  # what is tried are the files as they are
            await Swap(folder=self._folder, fleet=self._fleet).to(plugin, adopt)

    def _note_drivers(self, catalog: Catalog) -> None:
        """A driver's later versions are not told: they come and go."""
        drivers = self._drivers.union(device.plugin.manifest.id for device in catalog.devices.values())
        if drivers != self._drivers:
            self._drivers = drivers
            self._loaded()

    async def _load(self) -> Catalog:
        standing = frozenset(device.source for device in self._fleet.running.values())
        return await asyncio.to_thread(self._folder.load, standing=standing)

    async def _take(self, what: Steps, user: str | None) -> None:
        for name in what.remove:
            await self._fleet.remove(name)
            self._record("config.removed", name, user)
        for device in what.start:
            if await self._start(device) and (self._begun or user is not None):  # a command may come before
                self._record("config.added", device.name, user, rev=device.rev)
        for device in what.revise:
            if self._fleet.revise(device):
                self._record("config.revised", device.name, user, rev=device.rev)
        for device in what.rework:
            await self._fleet.rework(device)
            self._record("config.changed", device.name, user, rev=device.rev)
        for device in what.restart:
            await self._fleet.restart(device)
            self._record("config.changed", device.name, user, rev=device.rev)
        await self._refuse(what, user)

    async def _refuse(self, what: Steps, user: str | None) -> None:
        news: dict[str, Faults] = {}
        for name, faults in what.refuse.items():
            if self._fleet.refused.get(name) != faults:
                await self._fleet.refuse(name, faults)
                news[name] = faults
        for name in self._fleet.running:
            faults = what.keep.get(name, ())
            if self._fleet.keep(name, faults) and faults:
                news[name] = faults
        for name, faults in news.items():
            self._record("config.refused", name, user, faults=[str(fault) for fault in faults[:MOST_FAULTS]])

    def _record(self, what: str, device: str, user: str | None, **data: JsonValue) -> None:
        """Tells as an event what has become of a device's file, and logs it."""
        self._log.info(what.replace(".", "_"), device=device, user=user, **data)
        self._events.tell(what, aggregate="device", id=device, user=user, data=data)

    async def _start(self, device: DeviceFile) -> bool:
        holder = self._neighbours.holder(device.name)
        if holder is None:
            self._held.pop(device.name, None)
            await self._fleet.start(device)
        else:
            self._hold(device.name, holder)
        return holder is None

    def _hold(self, name: str, holder: Holder) -> None:
        if self._held.get(name) != holder:
            self._held[name] = holder
            mend = f"give the device to one gateway: remove its file here, or there, or set its `gateway` to {name}'s"
            self._log.error("device_held_elsewhere", device=name, gateway=holder.gateway, sid=holder.sid, mend=mend)

    async def _yield_contested(self) -> None:
        """Of two gateways that run one device, the one that came later leaves it."""
        contested, self._contested = self._contested, {}
        for name, holder in contested.items():
            if name not in self._fleet.running:
                continue
            if holder.first:
                await self._fleet.release(name)
                self._hold(name, holder)
            else:
                self._neighbours.on_state(name, None)
                self._fleet.tell_again(name)

    def _tell(self, catalog: Catalog) -> None:
        """Each fault is logged once, when it appears."""
        for fault in catalog.faults:
            if fault not in self._told:
                self._log.error("device_file_refused", fault=str(fault))
        self._told = set(catalog.faults)

    def _look(self) -> dict[Path, Mark]:
        try:
            return marks(device_paths(self._folder.path))
        except OSError:
            return {}

    async def _follow_files(self) -> None:
        while True:
            changed = await self._watch.changed()
            self._log.info("device_files_changed", files=sorted(path.name for path in changed))
            await self.reconcile()

    async def _follow_news(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self.reconcile()

    async def _meet(self) -> None:
        """Returns once everything has come that the broker held, or after MEET_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MEET_S):
                heard = -1
                while heard != self._heard or not self._neighbours.met:
                    heard = self._heard
                    await asyncio.sleep(QUIET_S)

    async def _on_state(self, delivery: Delivery[bytes]) -> None:
        name = delivery.levels["device"]
        self._heard += 1
        state = decode(DeviceState, delivery.payload, topic=delivery.topic) if delivery.payload else None
        if state is not None and state.gateway == self._instance:
            if delivery.retained:
                self._leave_behind(name, ())
            elif state.cause == GATEWAY_LOST:  # a watchdog took us for dead, and its marks come after our values
                self._bus.retain_again()
            return
        self._neighbours.on_state(name, state)
        holder = self._neighbours.holder(name)
        if holder and name in self._fleet.running:
            self._contested[name] = holder
        if name in self._held or name in self._contested:
            self._news.set()

    async def _on_info(self, delivery: Delivery[DeviceInfo]) -> None:
        self._heard += 1
        if delivery.retained and delivery.payload.gateway == self._instance:
            self._leave_behind(delivery.payload.device, tuple(delivery.payload.tags))

    async def _on_service(self, delivery: Delivery[ServiceState]) -> None:
        self._heard += 1
        instance, state = delivery.levels["instance"], delivery.payload
        if instance == self._instance and state.sid != self._sid:
            return
        self._neighbours.on_service(instance, state)
        if self._held:
            self._news.set()

    def _leave_behind(self, name: str, tags: tuple[str, ...]) -> None:
        """The broker holds this of us, perhaps from an earlier session: it is looked at in the next round."""
        self._left[name] = (*self._left.get(name, ()), *tags)
        self._news.set()

    def _tidy(self) -> None:
        """Clears what the broker holds of devices and tags that we have no more."""
        left, self._left = self._left, {}
        for name, tags in left.items():
            if name not in self._held:
                self._fleet.tidy(name, tags)
