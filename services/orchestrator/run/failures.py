"""Failures of a run's steps: which are worth another try, and how they are told. Pure."""

from typing import Any, Final

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.message import Value
from services.orchestrator.expression.expression import ExpressionError
from services.orchestrator.run.carried import NotCarried
from services.orchestrator.run.loops import LoopFailed
from services.orchestrator.run.plan import Policy

LONGEST_WAIT_S: Final = 60.0
MOST_BYTES: Final = 4096
"""Of a failure as JSON: it stands in an event, and in the state of each node that it has failed."""
BROKEN_OFF: Final = Failure(code=ErrorCode.CANCELLED, message="broken off: what it is part of had ended")
FAULTS: Final = (ExpressionError, LoopFailed, NotCarried)
"""What a step may raise that the run itself works out."""
_POINTLESS = frozenset(
    (
        ErrorCode.INVALID,
        ErrorCode.NOT_FOUND,
        ErrorCode.FORBIDDEN,
        ErrorCode.NOT_WRITABLE,
        ErrorCode.OUT_OF_RANGE,
        ErrorCode.CANCELLED,
    )
)
"""What another try does not mend."""


def failure_of(fault: ExpressionError | LoopFailed | NotCarried) -> Failure:
    """As which failure of its step it is told."""
    if isinstance(fault, LoopFailed):
        return fault.failure
    message = f"what goes in or comes out is {fault}" if isinstance(fault, NotCarried) else str(fault)
    return Failure(code=ErrorCode.INVALID, message=message)


def wait_before_next(policy: Policy, tries: int, code: ErrorCode) -> float | None:
    """Seconds until a step that has failed so often is tried again; None if it is not."""
    if tries >= policy.tries or code in _POINTLESS:
        return None
    return min(LONGEST_WAIT_S, policy.first_s * policy.factor ** (tries - 1))


def located(failure: Failure, name: str) -> Failure:
    """The failure with the name of the step that it began with."""
    if "node" in failure.detail:
        return failure
    return failure.model_copy(update={"detail": {**failure.detail, "node": name}})


def shortened(failure: Failure, most: int = MOST_BYTES) -> Failure:
    """The failure in at most so many bytes of JSON: whoever answered a node may have said more than can be told."""
    if len(failure.model_dump_json().encode()) <= most:
        return failure
    node = failure.detail.get("node")
    detail: dict[str, Value] = {"node": node} if isinstance(node, str) else {}
    # No character takes more than six bytes of JSON.
    return Failure(code=failure.code, message=f"{failure.message[: (most - 200) // 6]}...", detail=detail)


def plain(failure: Failure) -> dict[str, Any]:
    """As JSON values."""
    return failure.model_dump(mode="json")
