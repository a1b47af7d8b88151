"""Who may have a command executed: by the site's policy, by how often he asks, and by when he last did.

Services are let through by the contract of the command alone. The policy is what the broker's access file cannot say,
and says once more what it can: a broker that was opened by mistake opens no device.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from contracts.policy import NOTHING, WHOLE, missing
from contracts.v1.command import ACTING_SERVICES, Command, ErrorCode
from contracts.v1.policy import Policy, Rights, Role
from plugins.api.clock import Clock
from services.runtime.allowance import Allowance
from services.runtime.commands.failure import Denied
from services.runtime.mqtt.delivery import Delivery
from services.runtime.settings import Limits, Rate

Refusal = Callable[[Command[Any, Any], Delivery[Any], str, str | None], None]
"""Is told of a command that was refused: why, in a word, and as its sender is told, if he is."""
POLICY_WAIT_S = 5.0
"""How long a command waits for the policy, at the most, when a service has just begun."""
MOST_VERDICTS = 10_000
"""Commands whose verdict is kept until the next policy: a user may ask for as many things as he can think of."""
MOST_SESSIONS = 10_000
_NO_POLICY = "the site's policy has not come yet, which says who may do what; the identity service publishes it"


class Gate:
    """Looks at each command before it is read and entered in a book. Of one bus. refused: are told; they do not wait.

    A session is a topic to which a user has his answers sent: its last level is his client. Who wants no answers has
    none.
    """

    def __init__(self, *, limits: Limits, clock: Clock) -> None:
        self.refused: list[Refusal] = []
        self._limits = limits
        self._clock = clock
        self._policy: Policy | None = None
        self._known = asyncio.Event()
        self._verdicts: dict[str, str | None] = {}
        self._allowances: dict[str, Allowance] = {}
        self._sessions: OrderedDict[str, float] = OrderedDict()  # when it was last used

    async def follow(self, policy: Delivery[Policy]) -> None:
        """This is the policy from now on."""
        self._policy = policy.payload
        self._verdicts.clear()
        self._known.set()

    def rights(self, command: Command[Any, Any], user: str) -> Rights:
        """Within what the sender of a command that was let through is to be answered."""
        if user in command.senders:
            return WHOLE
        return NOTHING if self._policy is None else self._policy.users.get(user, NOTHING)

    async def check(self, command: Command[Any, Any], asked: Delivery[Any]) -> None:
        """The sender may ask for this, and has asked lately; waits for the first policy. Raises Denied."""
        user = asked.levels["user"]
        if user in command.senders:
            return
        if self._policy is None:
            await self._wait(asked.deadline_s)
        told = self._verdict(command, asked.topic, asked.levels, user)
        if told is not None:
            raise Denied(told)
        if asked.response_topic is not None and self._is_idle(asked.response_topic):
            raise Denied(f"{user} has sent no command for {self._limits.idle_after:g} s; connect again", why="idle")

    async def check_behalf(self, command: Command[Any, Any], asked: Delivery[Any], named: str) -> None:
        """The sender may act on behalf of the one who is named, and that one may do it himself. Raises Denied."""
        sender = asked.levels["user"]
        if sender not in ACTING_SERVICES:
            raise Denied(f"{sender} may not act on behalf of {named!r}", why="forged_behalf")
        if named in command.senders:
            return  # a service, for itself
        if self._policy is None:
            await self._wait(asked.deadline_s)
        told = self._missing(command, asked.levels, named)
        if told is not None:
            raise Denied(f"{sender} acts on behalf of {named!r}: {told}")

    def spend(self, command: Command[Any, Any], user: str, *, rate: Rate | None) -> None:
        """The user sends this verb once more. Raises Denied: too often.

        rate: unlike that of other verbs that take the same role.
        """
        if user in command.senders:
            return
        allowance = self._allowances.get(command.name)
        if allowance is None:
            given = rate or self._rate(command)
            allowance = self._allowances[command.name] = Allowance(rate=given.rate, burst=given.burst)
        wait_s = allowance.spend(user, self._clock.monotonic())
        if wait_s:
            message = f"{user} sends {command.target} {command.verb} more than {allowance.rate:g} times a second"
            raise Denied(message, code=ErrorCode.RATE_LIMITED, why="rate_limited", detail={"retry_after_s": wait_s})

    def _rate(self, command: Command[Any, Any]) -> Rate:
        if command.role is Role.VIEWER:
            return self._limits.reads
        return self._limits.acts if command.role is Role.OPERATOR else self._limits.changes

    async def _wait(self, deadline_s: float) -> None:
        left_s = min(deadline_s - self._clock.monotonic(), POLICY_WAIT_S)
        try:
            async with asyncio.timeout(left_s):
                await self._known.wait()
        except TimeoutError:
            return

    def _verdict(self, command: Command[Any, Any], topic: str, levels: dict[str, str], user: str) -> str | None:
        try:
            return self._verdicts[topic]
        except KeyError:
            told = self._missing(command, levels, user)
        if self._policy is not None:
            if len(self._verdicts) >= MOST_VERDICTS:
                self._verdicts.clear()
            self._verdicts[topic] = told
        return told

    def _missing(self, command: Command[Any, Any], levels: dict[str, str], user: str) -> str | None:
        """What is told of who may not; None if he may."""
        if self._policy is None:
            return _NO_POLICY
        rights = self._policy.users.get(user)
        if rights is None:
            return f"{user} is no user of this site"
        told = missing(rights, command, levels)
        return None if told is None else f"{user} {told}"

    def _is_idle(self, session: str) -> bool:
        """Else the session has been used now."""
        now_s = self._clock.monotonic()
        last_s = self._sessions.pop(session, now_s)
        idle = 0 < self._limits.idle_after < now_s - last_s
        self._sessions[session] = last_s if idle else now_s
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return idle
