"""In whose name a command is executed, as it is told in the ledger. Whether it may be is the gate's to check. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.v1.command import ACTING_SERVICES, Call, Write


@dataclass(frozen=True, slots=True)
class Asker:
    """user: in whose name. note: the service that acts for that user, if one does."""

    user: str
    note: Mapping[str, str]


def asker(sender: str, asked: Write | Call) -> Asker:
    """Who asks, as it stands in the ledger. sender: the level of the topic that the broker vouches for."""
    if asked.on_behalf_of is None or sender not in ACTING_SERVICES:
        return Asker(sender, {})
    return Asker(asked.on_behalf_of, {"by": sender})
