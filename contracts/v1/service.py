"""Presence of a service: what it says of itself, and what the broker says when it is gone."""

from enum import StrEnum

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.message import Level, Message, Millis, is_absent

WILL_EXPIRY_S = 24 * 3600


class ServiceStatus(StrEnum):
    """Where a service is in its life."""

    STARTING = "starting"
    ONLINE = "online"
    DRAINING = "draining"
    OFFLINE = "offline"


class ServiceState(Message):
    """A service instance's presence, retained; also its last will.

    sid: new at every start, and in the will too: a reader ignores a death whose sid is not the last birth's.
    problem: what is not well, for a person; absent while all is.
    load: share of one processor core over the last seconds; absent in the will.
    """

    state: ServiceStatus
    sid: str
    since: Millis
    version: str
    instance: Level
    problem: str | None = Field(default=None, exclude_if=is_absent)
    load: float | None = Field(default=None, exclude_if=is_absent)


SERVICE = Topic(
    name="SERVICE",
    pattern="service/{service}/{instance}",
    payload=ServiceState,
    retain=True,
    writers=("gateway", "recorder", "orchestrator", "compute", "identity"),
    about="Presence of a service instance; also its last will.",
)
