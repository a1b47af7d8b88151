"""Who may write and read what: the broker's access rules, derived from the topic contracts.

Writers stand in each Topic, who may ask for what in each Command. Readers stand here, one line per account, with what
each needs and nothing more. Mosquitto denies whatever no line allows (mosquitto.conf(5), acl_file), so a forgotten line
fails closed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from contracts.topic import Topic, check_level
from contracts.v1.alarm import ALARM
from contracts.v1.backfill import BACKFILL
from contracts.v1.command import (
    REPLY,
    Command,
)
from contracts.v1.device import DEVICE, DEVICE_STATE
from contracts.v1.event import EVENT
from contracts.v1.frame import FRAME
from contracts.v1.pipeline import (
    PIPELINE,
)
from contracts.v1.plugin import PLUGIN
from contracts.v1.policy import POLICY, Role
from contracts.v1.run import RUN
from contracts.v1.service import SERVICE
from contracts.v1.stored import STORED
from contracts.v1.tag import TAG
from contracts.v1.task import TASK
from contracts.v1.topics import COMMANDS, TOPICS

BROKER_UPTIME = "$SYS/broker/uptime"
BROKER_AWAY = "$SYS/broker/clients/disconnected"
"""How many sessions it keeps of clients that are not connected."""

Access = Literal["read", "write", "readwrite"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a mosquitto access file: what an account may do with the topics that a filter matches."""

    access: Access
    filter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A name that logs in to the broker.

    reads: topics that it reads whole. targets: kinds of things for which it executes the commands.
    sends: commands that it may send, under its own name only; an account that sends commands reads its own replies.
    system: broker topics ($SYS) that it reads.
    """

    name: str
    reads: tuple[Topic[Any], ...] = ()
    targets: tuple[str, ...] = ()
    sends: tuple[Command[Any, Any], ...] = ()
    system: tuple[str, ...] = ()

    def rules(self, site: str) -> tuple[Rule, ...]:
        """What this account may do on a site's topics. Raises TopicError if the site's name cannot stand in a topic."""
        check_level("site", site)
        return (*self._writes(site), *self._reads(site), *self._commands(site))

    def _writes(self, site: str) -> Iterable[Rule]:
        for topic in TOPICS:
            if self.name not in topic.writers:
                continue
            # A service says only of itself that it lives: nobody else's presence can be forged with its password.
            own = {"service": self.name} if topic is SERVICE else {}
            yield Rule("write", topic.filter(site=site, **own))

    def _reads(self, site: str) -> Iterable[Rule]:
        yield from (Rule("read", topic.filter(site=site)) for topic in self.reads)
        yield from (Rule("read", topic) for topic in self.system)

    def _commands(self, site: str) -> Iterable[Rule]:
        for command in COMMANDS:
            if command.target in self.targets:
                # readwrite: the executing service wipes a command that somebody has sent retained.
                yield Rule("readwrite", command.filter(site=site))
        for command in self.sends:
            own = {"id": self.name} if command.own else {}
            yield Rule("write", command.filter(site=site, user=self.name, **own))
        if self.sends:
            yield Rule("read", REPLY.filter(site=site, user=self.name))


def open_to(role: Role) -> tuple[Command[Any, Any], ...]:
    """The commands that users of this role may send, wherever their rights hold."""
    return tuple(command for command in COMMANDS if command.role is not None and role.includes(command.role))


def sent_by(service: str) -> tuple[Command[Any, Any], ...]:
    """The commands that the account of this service may send."""
    return tuple(command for command in COMMANDS if service in command.senders)


GATEWAY = Account(
    name="gateway",
    # Its own retained topics too: it clears what a removed device has left and sees another gateway's claim.
    reads=(STORED, TAG, DEVICE, DEVICE_STATE, SERVICE, PLUGIN, POLICY),
    targets=("device", "gateway", "service", "plugin"),
)
RECORDER = Account(
    name="recorder",
    reads=(FRAME, EVENT, BACKFILL, DEVICE, DEVICE_STATE, SERVICE, STORED, POLICY),
    targets=("service", "events", "history", "recorder"),
    sends=sent_by("recorder"),
)
ORCHESTRATOR = Account(
    name="orchestrator",
    # BACKFILL: a trigger that wants every frame gets those of an outage too. PIPELINE, RUN, ALARM: it clears its own.
    reads=(FRAME, BACKFILL, TAG, DEVICE, DEVICE_STATE, SERVICE, PLUGIN, EVENT, STORED, PIPELINE, RUN, ALARM, POLICY),
    targets=("pipeline", "run", "function", "alarm", "service"),
    sends=sent_by("orchestrator"),
)
COMPUTE = Account(name="compute", reads=(TASK, SERVICE, PLUGIN, STORED, POLICY), targets=("task", "plugin", "service"))

_SHOWN = tuple(topic for topic in TOPICS if topic not in (REPLY, TASK, POLICY) and topic not in COMMANDS)
VIEWER = Account(name="viewer", reads=_SHOWN, sends=open_to(Role.VIEWER))
OPERATOR = Account(name="operator", reads=_SHOWN, sends=open_to(Role.OPERATOR))
ENGINEER = Account(name="engineer", reads=_SHOWN, sends=open_to(Role.ENGINEER))
ADMIN = Account(name="admin", reads=(*_SHOWN, POLICY), sends=open_to(Role.ADMIN))
IDENTITY = Account(name="identity", reads=(SERVICE, STORED, POLICY), targets=("user", "service"))
HEALTH = Account(name="health", system=(BROKER_UPTIME, BROKER_AWAY))

OWN_ACCOUNTS: tuple[Account, ...] = (GATEWAY, RECORDER, ORCHESTRATOR, COMPUTE, IDENTITY, HEALTH)
"""Of services and of what looks after them; no user has one of these names."""
ACCOUNTS: tuple[Account, ...] = (*OWN_ACCOUNTS, VIEWER, OPERATOR, ENGINEER, ADMIN)


class HasRules(Protocol):
    """An account, or a user."""

    @property
    def name(self) -> str:
        """As which it logs in."""

    def rules(self, site: str) -> tuple[Rule, ...]:
        """See Account.rules()."""


def access_file(site: str, accounts: Iterable[HasRules] = ACCOUNTS) -> str:
    """The text of mosquitto's acl_file for these accounts. Raises TopicError on a site's name outside the grammar."""
    blocks = ["# Generated from contracts/acl.py. Whatever is not allowed here is refused.\n"]
    for account in accounts:
        lines = [f"topic {rule.access} {rule.filter}" for rule in account.rules(site)]
        blocks.append("\n".join([f"user {account.name}", *lines]) + "\n")
    return "\n".join(blocks)
