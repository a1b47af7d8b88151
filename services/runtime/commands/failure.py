"""Why a command is not done."""

from collections.abc import Mapping

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.message import Value

BUSY_S = 1.0
"""After how long who has filled a queue of commands is told to try again."""


def busy(user: str) -> Failure:
    """Told to who has most of the commands that wait."""
    message = (
        f"not done: as many commands wait here as may, most of them {user}'s; send it again once some are answered"
    )
    return Failure(code=ErrorCode.RATE_LIMITED, message=message, detail={"retry_after_s": BUSY_S})


class CommandFailed(Exception):
    """Raised by a command's handler: it was not done, and this is the answer."""

    def __init__(self, code: ErrorCode, message: str, *, detail: Mapping[str, Value] | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, detail=dict(detail or {}))


class NotOurs(Exception):
    """Raised by a command's handler: it is for another of the services that got it, and not answered by this one."""


class Denied(CommandFailed):
    """Raised by the gate, or a handler that looks within: the sender may not have it done, or not now.

    why: a word for counters and the ledger.
    """

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode = ErrorCode.FORBIDDEN,
        why: str = "forbidden",
        detail: Mapping[str, Value] | None = None,
    ) -> None:
        super().__init__(code, message, detail=detail)
        self.why = why
