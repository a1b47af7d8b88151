"""In whose name a command is executed: checked here, for writes and calls alike, and told in the ledger. Pure.

Checked is who may name somebody else. What the one who is named may do is not: no policy of rights is on the bus yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.v1.command import ACTING_SERVICES, Call, ErrorCode, Write
from services.gateway.write_rules import Refused


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


def check_behalf(sender: str, asked: Write | Call) -> None:
    """Raises Refused: somebody who is no such service names another."""
    if asked.on_behalf_of is not None and sender not in ACTING_SERVICES:
        raise Refused(ErrorCode.FORBIDDEN, f"{sender} may not act on behalf of {asked.on_behalf_of!r}")
