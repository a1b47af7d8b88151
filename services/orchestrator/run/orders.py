"""What goes in and out of a run's state machine. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue

from contracts.v1.command import Failure
from services.orchestrator.run.plan import Step, Values

Why = Literal["pause", "retry", "late", "more"]


@dataclass(frozen=True, slots=True)
class Start:
    """Do this work, and answer under this number. path: names the step, with the turns of the loops around it."""

    number: int
    path: str
    step: Step
    inputs: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Wake:
    """Wake the run after so many seconds, under this number.

    path: the step that waits for it, for the reason why: its pause, another try, the end of a loop's time. `more`: the
    run itself goes on then.
    """

    number: int
    after_s: float
    why: Why
    path: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody waits any more for the work, or for the time, of this number."""

    number: int


Order = Start | Wake | Stop


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the run; docs/pipelines.md lists the types. data: JSON values."""

    type: str
    data: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What follows from one happening: orders and events, each in their order."""

    orders: list[Order] = field(default_factory=list)
    events: list[Told] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Done:
    """Work went well. cached: it was not done anew."""

    outputs: Values
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Work failed."""

    failure: Failure
