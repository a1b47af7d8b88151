"""Failures of a run's steps: which are worth another try, and how they are told. Pure."""

from typing import Any, Final

from contracts.v1.command import ErrorCode, Failure
from services.orchestrator.plan import Policy

LONGEST_WAIT_S: Final = 60.0
BROKEN_OFF: Final = Failure(code=ErrorCode.CANCELLED, message="broken off: what it is part of had ended")
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


def plain(failure: Failure) -> dict[str, Any]:
    """As JSON values."""
    return failure.model_dump(mode="json")
