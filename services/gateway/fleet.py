"""The devices that this gateway runs: each an actor of its own with its state, its streams and its commands."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from contracts.v1.command import Command, ErrorCode
from contracts.v1.device import DEVICE, DEVICE_STATE, DeviceStatus
from contracts.v1.tag import TAG
from plugins.api.driver import GroupSpec
from services.gateway.actor import Actor
from services.gateway.collaborators import Collaborators
from services.gateway.condition import DeviceCondition
from services.gateway.desk import Desk
from services.gateway.device_file import DeviceFile
from services.gateway.difference import Faults
from services.gateway.guard import Guard
from services.gateway.output import FRAME_KIND, GroupOutput
from services.gateway.publisher import Publisher
from services.gateway.settings import GatewaySettings
from services.gateway.writer import Writer
from services.runtime.backfill import Backfill
from services.runtime.bus.bus import CommandFailed, Delivery, Service
from services.runtime.lifecycle import Supervisor
from services.runtime.resend import ResendDesk
from services.runtime.retry import Backoff
from services.runtime.settings import Settings

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

ARMED_FILE = "armed.json"


class Fleet:
    """Starts, changes and removes devices, and tells of those that cannot run. supervisor: keeps the actors running."""

    def __init__(
        self,
        *,
        settings: Settings[GatewaySettings],
        use: Collaborators,
        publisher: Publisher,
        backfill: Backfill,
        resends: ResendDesk,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._use = use
        self._publisher = publisher
        self._backfill = backfill
        self._resends = resends
        self._supervisor = supervisor
        self._actors: dict[str, Actor] = {}
        self._unsettled: set[str] = set()
        self._refused: dict[str, Faults] = {}
        self._conditions: dict[str, DeviceCondition] = {}
        self._desks: dict[str, Desk] = {}
        self._guard = Guard(
            path=settings.service.data / ARMED_FILE,
            user=settings.service.instance,
            writer=self._safe_writer,
            devices=lambda: self.running,
            bus=use.bus,
            clock=use.clock,
            log=use.log,
        )
        supervisor.keep(self._guard.name, self._guard.run)
        self._served: dict[str, list[Service[Any, Any]]] = {}
        self._commands: list[tuple[Command[Any, Any], Callable[[Delivery[Any]], Awaitable[Any]]]] = []

    @property
    def running(self) -> Mapping[str, DeviceFile]:
        """The devices that are run, the disabled ones among them, by name."""
        return {name: actor.device for name, actor in self._actors.items()}

    @property
    def refused(self) -> Mapping[str, Faults]:
        """Why others cannot run, by name."""
        return self._refused

    @property
    def summary(self) -> str:
        """One line: how many devices are in which state."""
        counts = Counter(str(one.status) for one in self._conditions.values() if one.status)
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"

    def condition(self, name: str) -> DeviceCondition:
        """How a device is. Raises KeyError if there is none of this name."""
        return self._conditions[name]

    def serve_each(self, command: Command[P, R], handler: Callable[[Delivery[P]], Awaitable[R]]) -> None:
        """Has the handler execute this command for every device that is started or refused from now on."""
        self._commands.append((command, handler))

    async def start(self, device: DeviceFile) -> None:
        """Runs the device from now on."""
        use = self._use
        self._refused.pop(device.name, None)
        self._unsettled.add(device.name)
        actor = Actor(
            device=device,
            instance=self._settings.service.instance,
            condition=self._condition(device.name),
            open_outputs=self._outputs,
            publisher=self._publisher,
            bus=use.bus,
            clock=use.clock,
            metrics=use.metrics,
            log=use.log,
            backoff=self._backoff,
        )
        self._actors[device.name] = actor
        await self._serve(device.name)
        self._supervisor.keep(actor.name, actor.run)
        self._unsettled.discard(device.name)

    def revise(self, device: DeviceFile) -> bool:
        """The device is told of in another way and goes on working: its file asks the same of the driver.

        Whether that is news: it is none if only its comments or its path have changed.
        """
        actor = self._actors[device.name]
        news = device.rev != actor.device.rev
        if news:
            actor.revise(device)
        else:
            actor.device = device
        return news

    async def rework(self, device: DeviceFile) -> None:
        """The device does what this file asks for on the connection that it has; it begins anew where it cannot.

        The topics of tags that it has no more are cleared.
        """
        self._unsettled.add(device.name)
        if not await self._actors[device.name].rework(device, gone=partial(self._clear_tags, device.name)):
            await self.restart(device)
        self._unsettled.discard(device.name)

    async def settle(self) -> None:
        """Devices of which a change was given up midway go by the file before it, or after it, as a whole."""
        for name in sorted(self._unsettled):
            await self.rework(self._actors[name].device)

    async def restart(self, *devices: DeviceFile) -> None:
        """All of the devices end, and then begin anew with these files: none finds what it shares with another taken.

        The topics of tags that they have no more are cleared.
        """
        for device in devices:
            if device.name in self._actors:  # else this was cut off before between its end and its beginning
                before = await self._stop(device.name)
                self._clear_tags(device.name, before.tags.keys() - device.tags.keys())
        for device in devices:
            if device.name not in self._actors:
                await self.start(device)

    async def remove(self, name: str) -> None:
        """There is no such device any more: its streams end, its topics are cleared."""
        await self._unserve(name)
        if name in self._actors:
            device = await self._stop(name)
            self._clear_tags(name, device.tags)
            self._use.bus.retain(DEVICE, None, device=name)
        self._refused.pop(name, None)
        self._conditions.pop(name).clear()
        self._use.metrics.forget_device(name)

    async def release(self, name: str) -> None:
        """The device is another gateway's: it is left with its topics, which are no longer ours to write."""
        await self._unserve(name)
        self._actors[name].leave()
        await self._stop(name)
        del self._conditions[name]
        self._use.metrics.forget_device(name)

    async def refuse(self, name: str, faults: Faults) -> None:
        """A device whose file has faults is told to be offline; nothing of it runs."""
        self._refused[name] = faults
        await self._serve(name)
        self._condition(name).change(DeviceStatus.OFFLINE, cause="config", error=str(faults[0]))

    def keep(self, name: str, faults: Faults) -> bool:
        """The device goes on as it is, although its file now has these faults, or since it has none any more.

        Whether that is news.
        """
        return self._conditions[name].note_fault(
            f"runs as before, since its file has faults: {faults[0]}" if faults else None
        )

    def tell_again(self, name: str) -> None:
        """Publishes the device's state again."""
        self._conditions[name].repeat()

    def tidy(self, name: str, tags: Iterable[str]) -> None:
        """Clears what an earlier session has left of these tags, and of the device itself if there is none."""
        actor = self._actors.get(name)
        self._clear_tags(name, set(tags) - (actor.device.tags.keys() if actor else set()))
        if actor is None:
            self._use.bus.retain(DEVICE, None, device=name)
        if name not in self._conditions:
            self._use.bus.retain(DEVICE_STATE, None, device=name)

    async def _stop(self, name: str) -> DeviceFile:
        actor = self._actors[name]
        self._unsettled.add(name)
        await self._supervisor.drop(actor.name)
        del self._actors[name]  # not before: whoever is cancelled while it ends finds it again
        self._unsettled.discard(name)
        return actor.device

    def _clear_tags(self, name: str, tags: Iterable[str]) -> None:
        if self._settings.service.tag_topics:
            for tag in tags:
                self._use.bus.retain(TAG, None, device=name, tag=tag)

    def _condition(self, name: str) -> DeviceCondition:
        use = self._use
        if name not in self._conditions:
            self._conditions[name] = DeviceCondition(
                device=name,
                instance=self._settings.service.instance,
                sid=use.sid,
                bus=use.bus,
                events=use.events,
                clock=use.clock,
                metrics=use.metrics,
            )
        return self._conditions[name]

    def _backoff(self) -> Backoff:
        own = self._settings.service
        return Backoff(
            first_s=own.retry_first, silent_s=own.retry_silent, most_s=own.retry_longest, random=self._use.random
        )

    def _outputs(self, device: DeviceFile, groups: Iterable[GroupSpec]) -> dict[str, GroupOutput]:
        use = self._use
        self._resends.serve(device.name)
        return {
            group.name: GroupOutput(
                device=device,
                group=group,
                site=self._settings.site,
                tag_topics=self._settings.service.tag_topics,
                stream=use.journal.open_stream(FRAME_KIND, device.name, group.name),
                journal=use.journal,
                publisher=self._publisher,
                backfill=self._backfill,
                bus=use.bus,
                clock=use.clock,
                metrics=use.metrics,
            )
            for group in groups
        }

    async def _serve(self, name: str) -> None:
        """Answers the device's commands, by whatever actor it then has; a restart loses none.

        Returns when the broker knows of it, so that nobody sees a device that does not answer.
        """
        if name in self._served:
            return
        desk = Desk(device=name, actor=partial(self._actor, name), guard=self._guard, use=self._use)
        self._desks[name] = desk
        self._served[name] = [self._use.bus.serve(command, handler, id=name) for command, handler in self._commands]
        self._supervisor.keep(_accounting(name), desk.account)
        await self._use.bus.settled()

    async def _unserve(self, name: str) -> None:
        if name in self._desks:
            await self._supervisor.drop(_accounting(name))
            await self._desks.pop(name).close()
        for service in self._served.pop(name, ()):
            await service.close()

    def _safe_writer(self, name: str) -> Writer | None:
        """What writes fail-safe values to the device while it answers."""
        actor = self._actors.get(name)
        return self._desks[name].writer if actor and actor.answering else None

    def _actor(self, name: str) -> Actor:
        """Raises CommandFailed."""
        if name in self._actors:
            return self._actors[name]
        why = f"cannot run: {self._refused[name][0]}" if name in self._refused else "is just being changed"
        raise CommandFailed(ErrorCode.DEVICE_UNAVAILABLE, f"{name} {why}")


def _accounting(name: str) -> str:
    """The name of the child that answers what an earlier session has left."""
    return f"desk.{name}"
