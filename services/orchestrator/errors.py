"""What can go wrong in the orchestrator, and as which error code it is answered.

OrchestratorError
├── Forbidden             who asks has no right to what it reaches
├── NotFound              there is no such pipeline, version or run
├── Conflict              somebody else has saved since the caller looked
├── InvalidDefinition     a definition has faults
├── InvalidInputs         a run was asked for with inputs that do not fit
├── Unusable              a version was saved that this release cannot run
├── TooManyPipelines      every place is taken, and the line is full
├── TooManyCalls          as many functions are called by name as may be at the same time
├── RateLimited           a user asks too often
├── Unavailable           what it takes is not to be had now, such as a recorder that answers
├── Draining              the orchestrator is about to stop
└── NodeFailed            a node's work failed, for a reason that its executor foresees
"""

from typing import ClassVar

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.message import Value


class OrchestratorError(Exception):
    """Something that was asked for is not done. detail: values that help to mend it, by name."""

    code: ClassVar[ErrorCode]

    def __init_subclass__(cls, *, code: ErrorCode = ErrorCode.INTERNAL) -> None:
        """Each kind of error is answered as one code."""
        super().__init_subclass__()
        cls.code = code

    def __init__(self, message: str, **detail: Value) -> None:
        super().__init__(message)
        self.detail = detail

    @property
    def failure(self) -> Failure:
        """As it is told on the wire."""
        return Failure(code=self.code, message=str(self), detail=dict(self.detail))


class Forbidden(OrchestratorError, code=ErrorCode.FORBIDDEN):
    """Who asks has no right to what it reaches."""


class NotFound(OrchestratorError, code=ErrorCode.NOT_FOUND):
    """There is no such pipeline, version or run."""


class Conflict(OrchestratorError, code=ErrorCode.CONFLICT):
    """Somebody else has saved since the caller looked; `version` in the detail is the one that there is."""


class InvalidDefinition(OrchestratorError, code=ErrorCode.INVALID):
    """A definition has faults, each told as `check` tells it, with the pipeline's name for the file's."""


class InvalidInputs(OrchestratorError, code=ErrorCode.INVALID):
    """A run was asked for with inputs that the pipeline does not take."""


class Unusable(OrchestratorError, code=ErrorCode.INVALID):
    """A version was saved, by an earlier release, that this one cannot run."""


class TooManyPipelines(OrchestratorError, code=ErrorCode.TOO_MANY_PIPELINES):
    """Every place is taken, and the line is full."""


class TooManyCalls(OrchestratorError, code=ErrorCode.UNAVAILABLE):
    """As many functions are called by name as may be at the same time."""


class RateLimited(OrchestratorError, code=ErrorCode.RATE_LIMITED):
    """A user asks too often; `retry_after_s` in the detail says when it may go again."""


class Unavailable(OrchestratorError, code=ErrorCode.UNAVAILABLE):
    """What it takes is not to be had now, such as a recorder that answers."""


class Draining(OrchestratorError, code=ErrorCode.UNAVAILABLE):
    """The orchestrator is about to stop and begins nothing new."""


class NodeFailed(OrchestratorError):
    """A node's work failed. cause: as its failure is told."""

    def __init__(self, cause: Failure) -> None:
        super().__init__(cause.message)
        self._cause = cause

    @property
    def failure(self) -> Failure:
        """See OrchestratorError."""
        return self._cause
