"""How often users may send each verb. Pure."""

from typing import Any

from contracts.v1.command import Command, ErrorCode
from contracts.v1.policy import Role
from services.runtime.allowance import Allowance
from services.runtime.commands.failure import Denied
from services.runtime.settings import Limits, Rate


class Buckets:
    """A bucket of tokens for each user and verb of one service. Times are monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._allowances: dict[str, Allowance] = {}

    def spend(self, command: Command[Any, Any], user: str, now_s: float, *, rate: Rate | None) -> None:
        """The user sends this verb once more. Raises Denied: too often.

        rate: unlike that of other verbs that take the same role.
        """
        allowance = self._allowances.get(command.name)
        if allowance is None:
            given = rate or self._rate(command)
            allowance = self._allowances[command.name] = Allowance(rate=given.rate, burst=given.burst)
        wait_s = allowance.spend(user, now_s)
        if wait_s:
            rate_told = (
                f"{allowance.rate:g} times a second" if allowance.rate >= 1 else f"once in {1 / allowance.rate:g} s"
            )
            message = f"{user} sends {command.target} {command.verb} more than {rate_told}; try again in {wait_s:g} s"
            raise Denied(message, code=ErrorCode.RATE_LIMITED, why="rate_limited", detail={"retry_after_s": wait_s})

    def _rate(self, command: Command[Any, Any]) -> Rate:
        if command.role is Role.VIEWER:
            return self._limits.reads
        return self._limits.acts if command.role is Role.OPERATOR else self._limits.changes
