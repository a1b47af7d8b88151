"""What the recorder says of itself: its presence, and whether it hears the broker."""

from typing import Protocol

from contracts.v1.service import ServiceStatus
from services.runtime.bus.bus import Bus
from services.runtime.health import Health
from services.runtime.stopping import Stopping

LOOK_S = 1.0


class Connected(Protocol):
    """Something with a connection to the broker."""

    @property
    def connected(self) -> bool:
        """Whether it is up."""
        ...


class Herald:
    """The first part to be stopped, so that the draining is told while the bus still works.

    The spool is required for health, the store is not: while it is away nothing is lost, and once the spool is full
    the spool says so itself.
    """

    name = "herald"

    def __init__(self, *, bus: Bus, intake: Connected, health: Health) -> None:
        self._bus = bus
        self._intake = intake
        self._health = health
        self._stopping = Stopping()
        for part in ("bus", "intake", "spool"):
            health.require(part)

    async def run(self) -> None:
        """Tells that the recorder is online, and how its connections are, until stop()."""
        await self._bus.announce(ServiceStatus.ONLINE)
        while not self._stopping.is_set():
            self._report("bus", self._bus)
            self._report("intake", self._intake)
            await self._stopping.within(LOOK_S)
        await self._bus.announce(ServiceStatus.DRAINING)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    def _report(self, name: str, one: Connected) -> None:
        self._health.report(name, one.connected, "" if one.connected else "not connected to the broker")
