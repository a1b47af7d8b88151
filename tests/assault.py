"""Hostile messages to the services of a running site, by clients that have the accounts' passwords."""

import queue
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contracts.acl import ACCOUNTS
from contracts.codec import ContractError, decode
from contracts.v1.command import REPLY, Command, Reply
from contracts.v1.policy import POLICY
from contracts.v1.task import CANCEL_TASK
from contracts.v1.topics import TOPICS
from contracts.v1.user import ALL_USERS, LIST_USERS
from tests.account_client import DEADLINE_S, AccountClient
from tests.hostile_messages import BROKEN, examples, huge, scrambled, spoilt

AT_ONCE = 8
"""Commands without an answer yet: fewer than a service executes at the same time."""
SHORT = 4096
"""Bytes of most hostile messages, unless all are wanted."""
WHOM: Mapping[str, tuple[str, Sequence[str]]] = {
    "device": ("plant", ["plc"]),
    "gateway": ("plant", ["gateway"]),
    "plugin": ("plant", ["gateway", "compute"]),
    "service": ("plant", ["gateway", "orchestrator", "recorder"]),
    "task": ("plant", ["t1"]),
    "pipeline": ("main", ["blink"]),
    "run": ("main", ["r1"]),
    "function": ("main", ["statistics"]),
    "alarm": ("main", ["low"]),
    "events": ("plant", ["recorder"]),
    "history": ("plant", ["recorder"]),
    "recorder": ("plant", ["recorder"]),
    "user": ("plant", ["anna"]),
}
"""Scope and ids of what is asked, by target."""


@dataclass
class Assault:
    """Sends as whichever account the broker lets. passwords: by account. sent: how many messages.

    patience_s: for an answer, which waits behind all that was sent before.
    """

    port: int
    site: str
    passwords: Mapping[str, str]
    random: Random
    patience_s: int = DEADLINE_S
    sent: int = 0
    _clients: dict[str, AccountClient] = field(default_factory=dict)

    def ask(self, command: Command[Any, Any], whom: str, payloads: Iterable[bytes]) -> list[Reply]:
        """The answers, in any order. Raises AssertionError on a command without one, and on an answer too many."""
        account = sender(command)
        client = self._client(account)
        wanted = {"site": self.site, "user": account, "scope": WHOM[command.target][0], "id": whom, "arg": "level"}
        topic = command.build(**{name: wanted[name] for name in command.levels})
        waiting: dict[bytes, bytes] = {}
        replies: list[Reply] = []
        for payload in payloads:
            mark = uuid.uuid4().bytes
            waiting[mark] = payload
            self._send(client, topic, payload, answer_to=(account, mark))
            while len(waiting) >= AT_ONCE:
                replies.append(self._answer(command.name, client, waiting))
        while waiting:
            replies.append(self._answer(command.name, client, waiting))
        return replies

    def tell(self, where: str, payloads: Iterable[bytes], *, account: str) -> None:
        """Messages that nobody answers."""
        client = self._client(account)
        for payload in payloads:
            self._send(client, where, payload)

    def everything(self, *, whole: bool = False) -> Iterator[str]:
        """Each topic and command of the contract, with all that is hostile; gives its name when it has been sent."""
        good = {topic.name: (where, payload) for topic, where, payload in examples()}
        for topic in TOPICS:
            where, payload = good[topic.name]
            if topic is POLICY:  # one that can be read would hold
                self.tell(where, [*BROKEN, b"[" * 100_000], account=topic.writers[0])
            elif topic is CANCEL_TASK:  # answered by whoever has the task: by nobody
                self.tell(where, self._corpus(payload, whole=whole), account="orchestrator")
            elif isinstance(topic, Command) and topic.own:  # the broker takes it for its sender alone
                self.ask(topic, sender(topic), self._unreadable(topic, where, self._corpus(payload, whole=whole)))
            elif isinstance(topic, Command):
                for whom in [ALL_USERS] if topic is LIST_USERS else WHOM[topic.target][1]:
                    self.ask(topic, whom, self._corpus(payload, whole=whole))
            else:
                self.tell(where, self._corpus(payload, whole=whole), account=topic.writers[0])
            yield topic.name

    def close(self) -> None:
        """Takes leave."""
        for client in self._clients.values():
            client.close()

    def _corpus(self, good: bytes, *, whole: bool) -> list[bytes]:
        kinds = (BROKEN, [data for data in spoilt(good) if whole or len(data) < SHORT], tuple(huge()))
        some = (8, 10, self.random.randrange(4) // 3)
        chosen = [data for kind, most in zip(kinds, some, strict=True) for data in self._some(kind, most, whole=whole)]
        return [*chosen, *(scrambled(good, self.random) for _ in range(2))]

    def _unreadable(self, command: Command[Any, Any], where: str, payloads: Sequence[bytes]) -> list[bytes]:
        """Those that the sender survives: one that can be read gives him a password that nobody knows.

        In any order: a service reads the first few of a user's, and refuses the rest for their rate.
        """
        unreadable = [data for data in payloads if not _reads(command, where, data)]
        return self.random.sample(unreadable, len(unreadable))

    def _some(self, payloads: Sequence[bytes], most: int, *, whole: bool) -> Sequence[bytes]:
        return payloads if whole else self.random.sample(payloads, min(len(payloads), most))

    def _client(self, account: str) -> AccountClient:
        client = self._clients.get(account)
        if client is None:
            client = self._clients[account] = AccountClient(self.port, account, self.passwords[account])
            client.subscribe(REPLY.build(site=self.site, user=account, client="assault"))
        return client

    def _send(self, client: AccountClient, topic: str, data: bytes, answer_to: tuple[str, bytes] | None = None) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = self.patience_s
        if answer_to is not None:
            properties.ResponseTopic = REPLY.build(site=self.site, user=answer_to[0], client="assault")
            properties.CorrelationData = answer_to[1]
        taken = client.paho.publish(topic, data, qos=1, properties=properties)
        taken.wait_for_publish(DEADLINE_S)
        assert taken.is_published(), f"{topic}: the broker did not take {data[:100]!r}"
        self.sent += 1

    def _answer(self, name: str, client: AccountClient, waiting: dict[bytes, bytes]) -> Reply:
        try:
            message = client.received.get(timeout=self.patience_s)
        except queue.Empty:
            raise AssertionError(f"{name}: no answer to {[data[:200] for data in waiting.values()]}") from None
        assert message.correlation in waiting, f"{name}: an answer too many: {message.payload[:200]!r}"
        del waiting[message.correlation]
        return decode(Reply, message.payload, topic=message.topic)


def sender(command: Command[Any, Any]) -> str:
    """The account that asks."""
    return next(account.name for account in reversed(ACCOUNTS) if command in account.sends)


def _reads(command: Command[Any, Any], where: str, data: bytes) -> bool:
    try:
        decode(command.payload, data, topic=where)
    except ContractError:
        return False
    return True


def memory_bytes(pid: int) -> int:
    """What the process has in memory."""
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in fields if line.startswith("VmRSS"))
