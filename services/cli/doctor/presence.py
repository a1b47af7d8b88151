"""Whether the services of the site are there, are well, and are of one version."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from services.cli.doctor.finding import Finding, State, named
from services.cli.doctor.sight import Seen, Sight

LONG_S = 60.0
"""A service that has been starting or draining for longer does not come further."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether each service is there. expected: those that the settings of this folder are for."""

    name: ClassVar[str] = "services"

    sight: Sight
    expected: frozenset[str]

    def findings(self) -> Iterator[Finding]:
        """Each that is absent or not well, or one for all."""
        said = list(self.sight.of(SERVICE))
        present = {seen.levels["service"] for seen, state in said if state.state is not ServiceStatus.OFFLINE}
        found = [one for seen, state in said if (one := self._of(seen, state, present))]
        known = {seen.levels["service"] for seen, _ in said}
        found += [
            Finding(
                State.FAIL,
                f"{service}: no such service is on the bus: start it (`dinrail up`, or its container), and look at its "
                "log if it ends",
            )
            for service in sorted(self.expected - known)
        ]
        if not found and present:
            found.append(Finding(State.OK, f"{', '.join(sorted(present))} are on the bus and say that all is well"))
        yield from found

    def _of(self, seen: Seen, state: ServiceState, present: set[str]) -> Finding | None:
        who = f"{seen.levels['service']} {state.instance}"
        since = f"{datetime.fromtimestamp(state.since / 1e3, UTC):%Y-%m-%d %H:%M} UTC"
        if state.state is ServiceStatus.OFFLINE:
            if seen.levels["service"] in present:
                return Finding(
                    State.WARN,
                    f"{who} is offline; another is there. It was started at {since}: start it, if it is missed",
                )
            return Finding(
                State.FAIL, f"{who} is offline; it was started at {since}: look at its log, and start it anew"
            )
        if state.problem is not None:
            return Finding(State.FAIL, f"{who} says: {state.problem}")
        waits_s = seen.us / 1e6 - state.since / 1e3
        if state.state is not ServiceStatus.ONLINE and waits_s > LONG_S:
            return Finding(State.WARN, f"{who} has been {state.state} for {waits_s:.0f} s: look at its log")
        return None


@dataclass(frozen=True, slots=True)
class Versions:
    """Whether all on this bus read each other. installed: the version of this program."""

    name: ClassVar[str] = "versions"

    sight: Sight
    installed: str

    def findings(self) -> Iterator[Finding]:
        """What breaks its contract, and services of another version."""
        broken = sorted(self.sight.broken(), key=lambda one: str(one[1]))
        for seen, error in broken[:3]:
            more = f"; {len(broken) - 1} such messages in all" if len(broken) > 1 else ""
            yield Finding(
                State.FAIL,
                f"{seen.kind}: a retained message cannot be read by this dinrail ({self.installed}): {error}{more}. "
                "Bring all services to one version; what none of them writes any more is to be cleared",
            )
            break
        versions: dict[str, list[str]] = {}
        for seen, state in self.sight.of(SERVICE):
            if state.state is not ServiceStatus.OFFLINE:
                versions.setdefault(state.version, []).append(f"{seen.levels['service']} {state.instance}")
        if versions.keys() - {self.installed}:
            told = "; ".join(f"{version}: {named(sorted(who))}" for version, who in sorted(versions.items()))
            yield Finding(
                State.WARN,
                f"not all are of one version (this program: {self.installed}; {told}): finish the upgrade, or use the "
                "command line of the services' version",
            )
        elif not broken and versions:
            yield Finding(State.OK, f"all are of version {self.installed}, and every retained message can be read")
