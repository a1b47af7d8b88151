"""What the services of this machine say of themselves over HTTP: /health and /metrics."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import ClassVar

from services.cli.doctor.finding import Finding, State
from services.cli.settings import SiteSettings

ANSWER_S = 3.0
_EVERY = ("0.0.0.0", "::", "")
"""What a service that listens everywhere is told; it is reached by the loopback."""

_MENDS = {
    "store": "the history takes nothing: is the database running, are url, bucket and token right, has its disk room? "
    "Nothing is lost while the recorder's disk holds it",
    "spool": "the recorder's disk is full, or the history has been away for long",
    "journal": "the required recorders have not stored what the service told for long, or its disk is full",
    "clock": "set the clock, and keep it right by NTP",
    "bus": "the broker is away, or refuses the service's account",
}

_COUNTED = {
    "dinrail_journal_lost_records_total": "records of its journal were lost: docs/no-loss.md tells the reasons",
    "dinrail_event_versions_missing": "versions of events are missing: `dinrail events show` names them",
    "dinrail_crashes_total": "unforeseen errors ended a task since its start: its log says `crash`",
}


@dataclass(frozen=True, slots=True)
class Vitals:
    """One service. at: host and port where it answers over HTTP, if it runs on this machine."""

    name: ClassVar[str] = "health"

    service: str
    host: str
    port: int

    def findings(self) -> Iterator[Finding]:
        """Each part that is not well; none where nobody listens: the bus tells whether the service is there."""
        try:
            health = self._get("health")
        except TimeoutError:
            yield Finding(
                State.FAIL,
                f"{self.service}: whoever has {self.host}:{self.port} takes connections and says nothing for "
                f"{ANSWER_S:.0f} s: it stands still, or has no processor; look at its log, and start it anew",
            )
            return
        if health is None:
            return
        parts = _parts(health)
        if parts is None:
            yield Finding(State.WARN, f"{self.service}: another program answers at {self.host}:{self.port}/health")
            return
        bad = {part: detail for part, (ok, detail) in parts.items() if not ok}
        for part, detail in sorted(bad.items()):
            mend = _MENDS.get(part, "its log says more")
            yield Finding(State.FAIL, f"{self.service}: {part} is not well: {detail}; {mend}")
        counted = dict(self._counted())
        for metric, count in counted.items():
            yield Finding(State.WARN, f"{self.service}: {count:.0f} {_COUNTED[metric]}")
        if not bad and not counted:
            yield Finding(State.OK, f"{self.service}: {', '.join(sorted(parts))} are well")

    def _counted(self) -> Iterator[tuple[str, float]]:
        sums = dict.fromkeys(_COUNTED, 0.0)
        try:
            shown = self._get("metrics") or ""
        except TimeoutError:
            return iter(())
        for line in shown.splitlines():
            metric = line.partition(" ")[0].partition("{")[0]
            if metric in sums:
                sums[metric] += float(line.rpartition(" ")[2])
        return ((metric, count) for metric, count in sums.items() if count)

    def _get(self, path: str) -> str | None:
        """What is answered; None if nobody listens. Raises TimeoutError if who listens says nothing."""
        host = "127.0.0.1" if self.host in _EVERY else self.host
        try:
            with urllib.request.urlopen(f"http://{host}:{self.port}/{path}", timeout=ANSWER_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        except TimeoutError:
            raise
        except (OSError, ValueError):
            return None
        except HTTPException:
            return ""  # no HTTP


def _parts(health: str) -> Mapping[str, tuple[bool, str]] | None:
    """Whether each part is well, and what it says; None if no service of ours has answered this."""
    try:
        parts = json.loads(health)["parts"]
        return {part: (bool(said["ok"]), str(said["detail"])) for part, said in parts.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def vitals(settings: SiteSettings) -> list[Vitals]:
    """Of the services with a port of their own."""
    services = {
        "gateway": settings.gateway,
        "orchestrator": settings.orchestrator,
        "compute": settings.compute,
        "recorder": settings.recorder,
        "identity": settings.identity,
    }
    return [Vitals(name, one.http_host, one.http_port) for name, one in services.items() if one.http_port]
