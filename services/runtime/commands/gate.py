"""Who may have a command executed: by the site's policy, by how often he asks, and by when he last did.

Services are let through by the contract of the command alone. The policy is what the broker's access file cannot say,
and says once more what it can: a broker that was opened by mistake opens no device.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from contracts.policy import NOTHING, WHOLE, missing
from contracts.v1.command import ACTING_SERVICES, Command, ErrorCode
from contracts.v1.policy import Policy, Rights
from plugins.api.clock import Clock
from services.runtime.commands.buckets import Buckets
from services.runtime.commands.failure import Denied
from services.runtime.commands.sessions import Sessions
from services.runtime.mqtt.delivery import Delivery
from services.runtime.settings import Limits, Rate

Refusal = Callable[[Command[Any, Any], Delivery[Any], str, str | None], None]
"""Is told of a command that was refused: why, in a word, and as its sender is told, if he is."""
POLICY_WAIT_S = 5.0
"""How long a command waits for the policy, at the most, when a service has just begun."""
_PATIENCE = 0.8
"""Of the time that a command has left, for waiting: its sender still hears why it was not done."""
MOST_VERDICTS = 10_000
"""Commands whose verdict is kept until the next policy: a user may ask for as many things as he can think of."""
_NO_POLICY = (
    "not done: the site's policy, which says who may do what, has not reached this service yet; try again in a moment, "
    "and if that does not help look whether the identity service runs"
)


class Gate:
    """Looks at each command before it is read and entered in a book. Of one bus. refused: are told; they do not wait.

    Who wants no answers has no session, and is never idle.
    """

    def __init__(self, *, limits: Limits, clock: Clock) -> None:
        self.refused: list[Refusal] = []
        self._idle_after_s = limits.idle_after
        self._clock = clock
        self._policy: Policy | None = None
        self._known = asyncio.Event()
        self._verdicts: dict[str, str | None] = {}
        self._buckets = Buckets(limits)
        self._sessions = Sessions(idle_after_s=limits.idle_after)

    async def follow(self, policy: Delivery[Policy]) -> None:
        """This is the policy from now on."""
        self._policy = policy.payload
        self._verdicts.clear()
        self._sessions.keep(policy.payload.users)
        self._known.set()

    def rights(self, command: Command[Any, Any], user: str) -> Rights:
        """Within what the sender of a command that was let through is to be answered."""
        if user in command.senders:
            return WHOLE
        return NOTHING if self._policy is None else self._policy.users.get(user, NOTHING)

    def since(self, user: str) -> int | None:
        """Since when the name is his who has it now; see Policy."""
        return None if self._policy is None else (self._policy.since or {}).get(user)

    def is_same(self, user: str, since: int | None) -> bool:
        """Whether a name that was somebody's `since` then has not been given to another one since."""
        return self._policy is None or user not in self._policy.users or self.since(user) == since

    async def check(self, command: Command[Any, Any], asked: Delivery[Any]) -> None:
        """The sender may ask for this, and has asked lately; waits for the first policy. Raises Denied."""
        user = asked.levels["user"]
        if user in command.senders:
            return
        policy = self._policy or await self._first_policy(asked.deadline_s)
        told = self._verdict(policy, command, asked)
        if told is not None:
            raise Denied(told)
        session = asked.response_topic
        if session is not None and self._sessions.is_idle(user, session, self._clock.monotonic()):
            raise Denied(f"{user} has sent no command for {self._idle_after_s:g} s; connect again", why="idle")

    async def check_behalf(self, command: Command[Any, Any], asked: Delivery[Any], named: str) -> None:
        """The sender may act on behalf of the one who is named, and that one may do it himself. Raises Denied."""
        sender = asked.levels["user"]
        if sender not in ACTING_SERVICES:
            raise Denied(f"{sender} may not act on behalf of {named!r}", why="forged_behalf")
        if named in command.senders:
            return  # a service, for itself
        policy = self._policy or await self._first_policy(asked.deadline_s)
        told = _missing(policy, command, asked.levels, named)
        if told is not None:
            raise Denied(f"{sender} acts on behalf of {named!r}: {told}")

    def spend(self, command: Command[Any, Any], user: str, *, rate: Rate | None) -> None:
        """The user sends this verb once more; see Buckets. Raises Denied: too often."""
        if user not in command.senders:
            self._buckets.spend(command, user, self._clock.monotonic(), rate=rate)

    async def _first_policy(self, deadline_s: float) -> Policy:
        """Raises Denied: it has not come in time."""
        left_s = min((deadline_s - self._clock.monotonic()) * _PATIENCE, POLICY_WAIT_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._known.wait()
        if self._policy is None:
            raise Denied(_NO_POLICY, code=ErrorCode.UNAVAILABLE, why="no_policy")
        return self._policy

    def _verdict(self, policy: Policy, command: Command[Any, Any], asked: Delivery[Any]) -> str | None:
        try:
            return self._verdicts[asked.topic]
        except KeyError:
            told = _missing(policy, command, asked.levels, asked.levels["user"])
        if len(self._verdicts) >= MOST_VERDICTS:
            self._verdicts.clear()
        self._verdicts[asked.topic] = told
        return told


def _missing(policy: Policy, command: Command[Any, Any], levels: dict[str, str], user: str) -> str | None:
    """What is told of who may not; None if he may."""
    rights = policy.users.get(user)
    if rights is None:
        return f"{user} is no user of this site"
    told = missing(rights, command, levels)
    return None if told is None else f"{user} {told}"
