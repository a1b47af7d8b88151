"""The devices that this gateway runs: each an actor of its own with its state, its streams and its commands."""

from collections import Counter

from contracts.v1.command import READ, ErrorCode, Read, ReadResult
from contracts.v1.device import DeviceStatus
from services.gateway.actor import Actor
from services.gateway.catalog import Broken
from services.gateway.collaborators import Collaborators
from services.gateway.condition import DeviceCondition
from services.gateway.device_file import DeviceFile
from services.gateway.output import FRAME_KIND, GroupOutput
from services.gateway.publisher import Publisher
from services.gateway.settings import GatewaySettings
from services.runtime.bus import CommandFailed, Delivery
from services.runtime.lifecycle import Supervisor
from services.runtime.retry import Backoff
from services.runtime.settings import Settings


class Fleet:
    """Starts devices and tells of those that cannot run. supervisor: keeps the actors running."""

    def __init__(
        self, *, settings: Settings[GatewaySettings], use: Collaborators, publisher: Publisher, supervisor: Supervisor
    ) -> None:
        self._settings = settings
        self._use = use
        self._publisher = publisher
        self._supervisor = supervisor
        self._conditions: dict[str, DeviceCondition] = {}

    @property
    def summary(self) -> str:
        """One line: how many devices are in which state."""
        counts = Counter(str(one.status) for one in self._conditions.values() if one.status)
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"

    def start(self, device: DeviceFile) -> None:
        """Runs the device from now on."""
        use = self._use
        actor = Actor(
            device=device,
            instance=self._settings.service.instance,
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

        async def read(delivery: Delivery[Read]) -> ReadResult:
            return await actor.read(delivery.payload.group)

        use.bus.serve(READ, read, id=device.name)

    def refuse(self, name: str, broken: Broken) -> None:
        """A device whose file has faults is told to be offline; nothing of it runs."""
        self._condition(name).change(DeviceStatus.OFFLINE, cause="config", error=str(broken.faults[0]))

        async def read(_: Delivery[Read]) -> ReadResult:
            raise CommandFailed(ErrorCode.DEVICE_UNAVAILABLE, f"{name} cannot run: {broken.faults[0]}")

        self._use.bus.serve(READ, read, id=name)

    def _condition(self, name: str) -> DeviceCondition:
        use = self._use
        self._conditions[name] = DeviceCondition(
            device=name,
            instance=self._settings.service.instance,
            sid=use.sid,
            bus=use.bus,
            clock=use.clock,
            metrics=use.metrics,
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
