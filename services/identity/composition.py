"""The identity service put together from its settings; used by the process and by tests that run it in theirs."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.identity.desk import Desk
from services.identity.herald import Herald
from services.identity.register import Register
from services.identity.settings import SECTION, IdentitySettings
from services.runtime.bus.bus import Bus
from services.runtime.journal_desk import JournalDesk
from services.runtime.lifecycle import Part, Supervisor
from services.runtime.outfit import JournalOutfit
from services.runtime.process import Means
from services.runtime.resend import ResendDesk
from services.runtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The service. parts: what run_service() runs, sources first."""

    parts: Sequence[Part]
    bus: Bus
    register: Register


def compose(settings: Settings[IdentitySettings], *, means: Means) -> Identity:
    """The service, about to run. Raises JournalBroken, OSError."""
    own = settings.service
    use = JournalOutfit(settings, service=SECTION, means=means)
    taken = set(settings.instances)
    register = Register(
        site=settings.site,
        file=own.users,
        broker=own.broker,
        data=own.data,
        look_s=own.look_every,
        taken=taken,
        bus=use.bus,
        events=use.events,
        clock=means.clock,
        log=means.log,
    )
    Desk(register=register, taken=taken, bus=use.bus, clock=means.clock)
    ResendDesk(instance=own.instance, bus=use.bus, journal=use.journal, backfill=use.backfill)
    JournalDesk(instance=own.instance, bus=use.bus, journal=use.journal)
    herald = Herald(
        register=register, bus=use.bus, journal=use.journal, health=use.health, clock=means.clock, log=means.log
    )
    supervisor = Supervisor(log=means.log, metrics=means.metrics)
    supervisor.keep(register.name, register.run)
    parts = (herald, supervisor, use.events, use.backfill, use.bus, use.journal, use.health)
    return Identity(parts=parts, bus=use.bus, register=register)
