"""The gateway put together: an actor per device, kept apart from one another, over one bus and one journal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from contracts.v1.command import COMMAND, ErrorCode, Failure, Read, Reply
from contracts.v1.device import DeviceStatus
from contracts.v1.stored import STORED, Stored
from plugins.api.clock import Clock
from plugins.api.registry import Registry
from services.gateway.actor import Actor
from services.gateway.catalog import Broken, Catalog
from services.gateway.condition import DeviceCondition
from services.gateway.device_file import DeviceFile
from services.gateway.herald import Herald
from services.gateway.output import FRAME_KIND, GroupOutput
from services.gateway.publisher import Publisher
from services.gateway.settings import GatewaySettings
from services.runtime.bus import Bus, Delivery
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.lifecycle import Part, Supervisor
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff
from services.runtime.settings import Settings

PLANT = "plant"
"""The scope of devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaborators:
    """What the gateway works with. sid: this session of the service. random: spreads retries."""

    sid: str
    drivers: Registry
    bus: Bus
    journal: Journal
    health: Health
    clock: Clock
    metrics: Metrics
    log: Log
    random: Random


class Gateway:
    """Runs the devices of a catalog that are this instance's; the others are another gateway's."""

    def __init__(self, *, settings: Settings[GatewaySettings], catalog: Catalog, use: Collaborators) -> None:
        self._settings = settings
        self._use = use
        self._log = use.log
        self._conditions: dict[str, DeviceCondition] = {}
        self._publisher = Publisher(bus=use.bus, metrics=use.metrics, log=use.log)
        self._supervisor = Supervisor(log=use.log, metrics=use.metrics)
        self._herald = Herald(
            instance=self.instance,
            plugins=use.drivers.loaded,
            devices=self._summary,
            bus=use.bus,
            journal=use.journal,
            health=use.health,
            clock=use.clock,
            log=use.log,
        )
        for fault in catalog.faults:
            self._log.error("device_file_refused", fault=str(fault))
        for name, broken in catalog.broken.items():
            self._refuse(name, broken)
        for device in catalog.devices.values():
            if device.gateway == self.instance:
                self._add(device)
        use.bus.subscribe(STORED, self._on_stored, kind=FRAME_KIND)

    @property
    def instance(self) -> str:
        """The name of this gateway."""
        return self._settings.service.instance

    @property
    def parts(self) -> Sequence[Part]:
        """What run_service() runs: sources first."""
        use = self._use
        return (self._herald, self._supervisor, self._publisher, use.bus, use.journal, use.health)

    def _add(self, device: DeviceFile) -> None:
        use = self._use
        actor = Actor(
            device=device,
            instance=self.instance,
            condition=self._condition(device.name),
            open_outputs=lambda: self._outputs(device),
            publisher=self._publisher,
            bus=use.bus,
            clock=use.clock,
            metrics=use.metrics,
            log=use.log,
            backoff=self._backoff,
        )
        self._supervisor.keep(actor.name, actor.run)

        async def read(delivery: Delivery[Read]) -> Reply:
            return await actor.read(delivery.payload.group)

        use.bus.serve(COMMAND, read, target="device", scope=PLANT, id=device.name, verb="read", arg="all")

    def _refuse(self, name: str, broken: Broken) -> None:
        """A device whose file has faults is told to be offline; nothing of it runs."""
        if broken.claim.gateway != self.instance:
            return
        self._condition(name).change(DeviceStatus.OFFLINE, cause="config", error=str(broken.faults[0]))

        async def read(_: Delivery[Read]) -> Reply:
            message = f"{name} cannot run: {broken.faults[0]}"
            return Reply(ok=False, error=Failure(code=ErrorCode.DEVICE_UNAVAILABLE, message=message))

        self._use.bus.serve(COMMAND, read, target="device", scope=PLANT, id=name, verb="read", arg="all")

    def _condition(self, name: str) -> DeviceCondition:
        use = self._use
        self._conditions[name] = DeviceCondition(
            device=name, instance=self.instance, sid=use.sid, bus=use.bus, clock=use.clock, metrics=use.metrics
        )
        return self._conditions[name]

    def _backoff(self) -> Backoff:
        own = self._settings.service
        return Backoff(first_s=own.retry_first, most_s=own.retry_longest, random=self._use.random)

    def _outputs(self, device: DeviceFile) -> dict[str, GroupOutput]:
        use = self._use
        return {
            group.name: GroupOutput(
                device=device,
                group=group,
                site=self._settings.site,
                tag_topics=self._settings.service.tag_topics,
                stream=use.journal.open_stream(FRAME_KIND, device.name, group.name),
                journal=use.journal,
                publisher=self._publisher,
                bus=use.bus,
                clock=use.clock,
                metrics=use.metrics,
            )
            for group in device.spec.groups
        }

    async def _on_stored(self, delivery: Delivery[Stored]) -> None:
        levels = delivery.levels
        replaced = self._use.journal.stored(
            levels["recorder"], levels["kind"], levels["owner"], levels["stream"], delivery.payload
        )
        if replaced:
            self._log.warning("recorder_store_replaced", recorder=levels["recorder"])

    def _summary(self) -> str:
        counts = Counter(str(one.status) for one in self._conditions.values() if one.status)
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"
