"""The gateway put together: an actor per device, kept apart from one another, over one bus and one journal."""

from collections.abc import Callable, Sequence

from services.gateway.catalog import DeviceFolder
from services.gateway.collaborators import Collaborators
from services.gateway.editor import Editor
from services.gateway.fleet import Fleet
from services.gateway.herald import Herald
from services.gateway.keeper import Keeper
from services.gateway.publisher import Publisher
from services.gateway.settings import GatewaySettings
from services.gateway.workshop import Workshop
from services.runtime.journal_desk import JournalDesk
from services.runtime.lifecycle import Part, Supervisor
from services.runtime.resend import ResendDesk
from services.runtime.settings import Settings


class Gateway:
    """Runs the devices of its folder that are this instance's; the others are another gateway's. fleet: the running.

    loaded: see Keeper.
    """

    def __init__(self, *, settings: Settings[GatewaySettings], use: Collaborators, loaded: Callable[[], None]) -> None:
        self._settings = settings
        self._use = use
        own = settings.service
        self._publisher = Publisher(bus=use.bus, backfill=use.backfill, metrics=use.metrics, log=use.log)
        self._supervisor = Supervisor(log=use.log, metrics=use.metrics)
        self.fleet = Fleet(
            settings=settings,
            use=use,
            publisher=self._publisher,
            backfill=use.backfill,
            resends=ResendDesk(instance=self.instance, bus=use.bus, journal=use.journal, backfill=use.backfill),
            supervisor=self._supervisor,
        )
        JournalDesk(instance=self.instance, bus=use.bus, journal=use.journal)
        folder = DeviceFolder(settings.service.devices, use.drivers)
        self._keeper = Keeper(
            instance=self.instance,
            sid=use.sid,
            folder=folder,
            fleet=self.fleet,
            bus=use.bus,
            events=use.events,
            log=use.log,
            look_s=settings.service.reload_every,
            loaded=loaded,
        )
        self._editor = Editor(instance=self.instance, folder=folder, keeper=self._keeper, fleet=self.fleet, bus=use.bus)
        self._workshop = Workshop(
            instance=self.instance,
            drivers=use.drivers,
            keeper=self._keeper,
            bus=use.bus,
            events=use.events,
            clock=use.clock,
            log=use.log,
            follow=own.reload_plugins,
            look_s=own.reload_every,
        )
        self._supervisor.keep(self._keeper.name, self._keeper.run)
        self._supervisor.keep(self._workshop.name, self._workshop.run)
        self._herald = self._new_herald()

    def _new_herald(self) -> Herald:
        use = self._use
        return Herald(
            instance=self.instance,
            plugins=self._workshop.infos,
            devices=lambda: self.fleet.summary + self._keeper.held,
            bus=use.bus,
            journal=use.journal,
            health=use.health,
            clock=use.clock,
            log=use.log,
        )

    @property
    def instance(self) -> str:
        """The name of this gateway."""
        return self._settings.service.instance

    @property
    def parts(self) -> Sequence[Part]:
        """What run_service() runs: sources first."""
        use = self._use
        return (
            self._herald,
            self._supervisor,
            self._publisher,
            use.events,
            use.backfill,
            use.bus,
            use.book,
            use.journal,
            use.health,
        )
