"""What travels on the bus as its users see it, and what may go wrong there.

BusError
├── BusUnavailable     there is no connection, or it broke before the broker had answered
│   └── LoginRefused   the broker does not let us in
├── PublishRefused     the broker refused a message
│   └── NobodyListens  nobody has subscribed to it, and it was meant for somebody
├── SubscribeRefused   the broker refused a subscription
├── TakenOver          another client has connected under our id
└── InstanceTaken      another instance of our name lives
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from contracts.v1.command import DEFAULT_DEADLINE_S

Password = Callable[[], str]
"""Gives an account's password as it is now. Raises BusUnavailable while it cannot be had."""

P_co = TypeVar("P_co", covariant=True)

NOT_AUTHORIZED = 0x87
"""The reason code of what the sender has no right to (MQTT 5.0, 3.4.2.1)."""
MARK_BYTES = 16
KEPT_CHARACTERS = 16
"""Of a service's password, which stay when it is renewed."""


class BusError(Exception):
    """Something that the bus cannot do now."""


class BusUnavailable(BusError):
    """There is no connection to the broker, or it broke before the broker had answered: whether it took the message
    is unknown."""


class LoginRefused(BusUnavailable):
    """The broker does not let us in, which may change: its accounts may be about to be written."""

    mend = "is its password file of this broker's site? There, `dinrail init` brings the broker's accounts up to date"

    def __init__(self, username: str | None, reason: str) -> None:
        who = "an anonymous login" if username is None else repr(username)
        super().__init__(f"the broker refused {who}: {reason}; {self.mend}")
        self.username = username
        self.reason = reason


class PublishRefused(BusError):
    """The broker refused a message. reason: its MQTT 5 reason code (3.4.2.1), 0x80 or above."""

    def __init__(self, topic: str, reason: int, text: str) -> None:
        super().__init__(f"{topic}: the broker refused the message: {text} (0x{reason:02x})")
        self.topic = topic
        self.reason = reason


class NobodyListens(PublishRefused):
    """Nobody has subscribed to a message that was meant for somebody (MQTT 5.0, 3.4.2.1, 0x10)."""


class SubscribeRefused(BusError):
    """The broker refused a subscription."""

    def __init__(self, topic_filter: str, reason: str) -> None:
        super().__init__(f"{topic_filter}: the broker refused the subscription: {reason}")


class TakenOver(BusError):
    """Another client has connected under our client id (MQTT 5.0, 3.14.2.1, 0x8E): two instances have one name."""

    REASON = 0x8E

    def __init__(self, client_id: str) -> None:
        super().__init__(f"another client has connected as {client_id}: are there two instances of one name?")


class InstanceTaken(BusError):
    """Another instance of our name lives: we must not begin. sid: its session."""

    def __init__(self, service: str, instance: str, sid: str) -> None:
        super().__init__(
            f"another {service} named {instance!r} lives (session {sid}) and has another data folder: stop it, or give "
            "one of the two another `instance`"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[P_co]):
    """A message as its handler gets it.

    levels: the topic's named levels, `site` among them. retained: it was published before we subscribed.
    planted: a retained command that was there before we subscribed: nobody knows how old it is.
    expiry_s: what is left of the message's expiry. arrived_s: when it arrived, by the clock's monotonic().
    """

    topic: str
    levels: dict[str, str]
    payload: P_co
    retained: bool = False
    planted: bool = False
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    arrived_s: float = 0.0

    @property
    def deadline_s(self) -> float:
        """Until when a command may be begun, by the clock's monotonic()."""
        return self.arrived_s + (DEFAULT_DEADLINE_S if self.expiry_s is None else self.expiry_s)


Deliver = Callable[[list[int], Delivery[bytes]], None]
"""Takes the identifiers of the subscriptions that a message is for, and the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """As whom to connect.

    client_id: what the connection is called in logs, alike at each start of its owner. password: asked at each
    connection, since it may be renewed; None: there is none.
    """

    client_id: str
    username: str | None
    password: Password | None

    @property
    def identifier(self) -> str:
        """The client identifier at the broker (MQTT 5.0, 3.1.3.1).

        Mosquitto gives a session to whoever names it, of whichever account: a viewer that knew a service's identifier
        could throw it out, and end the session that keeps its messages.
        """
        return self.unguessable(self.client_id)

    def unguessable(self, name: str) -> str:
        """The name with a mark that only those can make who know the account's password, and all of them alike.

        Made of the part that a renewal keeps: a session with what waits in it stays its owner's.
        """
        if self.password is None:
            return name
        key = hmac.digest(self.password()[:KEPT_CHARACTERS].encode(), name.encode(), "sha256")
        return f"{name}-{key[:MARK_BYTES].hex()}"


class Send(Protocol):
    """Publishes, as Link.send does."""

    def __call__(
        self,
        topic: str,
        data: bytes,
        *,
        kind: str,
        retain: bool,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        to_somebody: bool = False,
    ) -> Awaitable[None]:
        """See Link.send."""
        ...
