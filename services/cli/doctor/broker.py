"""Whether the broker lets us in, and holds no more than it can hand over."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from contracts.v1.device import DEVICE
from contracts.v1.tag import TAG
from services.cli.connection import Access
from services.cli.doctor.finding import Finding, State, named
from services.cli.doctor.sight import Sight
from services.cli.viewer import MOST_TOPICS

ROOM = 4
"""The queue is to hold so many times the retained topics: one snapshot, and what comes meanwhile."""
_SETTING = re.compile(r"^\s*max_queued_messages\s+(\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Login:
    """What came of logging in. error: why it failed."""

    name: ClassVar[str] = "broker"

    access: Access | None
    error: str | None = None

    def findings(self) -> Iterator[Finding]:
        """One."""
        if self.error is not None or self.access is None:
            yield Finding(State.FAIL, self.error or "no access")
            return
        broker = self.access.broker
        how = "without TLS" if broker.tls is None else "over TLS"
        yield Finding(State.OK, f"{self.access.account} logs in at {broker.host}:{broker.port} {how}")


@dataclass(frozen=True, slots=True)
class Queue:
    """Whether whoever comes late gets all that is retained. config: mosquitto's, if it is here."""

    name: ClassVar[str] = "queue"

    sight: Sight
    config: Path

    def findings(self) -> Iterator[Finding]:
        """How much there is beside what the broker queues; and what did not come."""
        held, most = len(self.sight.messages), queue_of(self.config)
        where = "the broker's max_queued_messages" if most is None else f"max_queued_messages of {self.config}"
        limit = MOST_TOPICS if most is None else most
        said = f"the broker holds {held} retained topics"
        mend = f"set {where} to {max(ROOM * held, MOST_TOPICS)} and start the broker anew; never to 0"
        if most == 0:
            yield Finding(State.FAIL, f"{where} is 0, which some mosquitto take for none: {mend}")
        elif held > limit:
            yield Finding(State.FAIL, f"{said}, more than the {limit} that it queues for one client: {mend}")
        elif held * ROOM > limit:
            yield Finding(State.WARN, f"{said}, and queues {limit} for one client, less than {ROOM} times that: {mend}")
        else:
            yield Finding(State.OK, said)
        yield from self._cut(mend)

    def _cut(self, mend: str) -> Iterator[Finding]:
        """A broker with a short queue hands over the first topics of a class, and drops the others in silence."""
        told: dict[str, int] = {}
        for seen, _ in self.sight.of(TAG):
            device = seen.levels["device"]
            told[device] = told.get(device, 0) + 1
        if not told:
            return  # a gateway without tag topics
        short = [
            f"{seen.levels['device']} ({told.get(seen.levels['device'], 0)} of {info.tag_count})"
            for seen, info in self.sight.of(DEVICE)
            if told.get(seen.levels["device"], 0) < info.tag_count
        ]
        if short:
            yield Finding(
                State.FAIL,
                f"retained tags did not come: {named(sorted(short))}; the broker's queue has cut them off ({mend}), or "
                "their gateway has no connection",
            )


def queue_of(config: Path) -> int | None:
    """How many messages mosquitto queues for a client by this file; None if it does not say, or is not for us."""
    try:
        found = _SETTING.findall(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return int(found[-1]) if found else None
