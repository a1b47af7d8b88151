"""What a run waits for, and what it has ordered and told since it was last asked. Pure."""

from collections.abc import Callable

from pydantic import JsonValue

from services.orchestrator.run.orders import Outcome, Start, Stop, Told, Wake, Why
from services.orchestrator.run.passage import Passage
from services.orchestrator.run.plan import Step

Place = tuple[Passage, int]
"""A step, by the passage that it is in and its place there."""


class Agenda:
    """Numbers what is ordered, so that an answer finds what it is the answer to, as long as that is waited for."""

    def __init__(self) -> None:
        self._calls: dict[int, Place] = {}
        self._timers: dict[int, Callable[[], None]] = {}
        self._number = 0
        self._outcome = Outcome()

    def take(self) -> Outcome:
        """All orders and events since this was last called."""
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def tell(self, type_: str, **data: object) -> None:
        """This has happened."""
        self._outcome.events.append(Told(type_, data))

    def start(self, place: Place, path: str, step: Step, inputs: dict[str, JsonValue]) -> int:
        """Has the step's work done, under the number that is given back."""
        self._number += 1
        self._calls[self._number] = place
        self._outcome.orders.append(Start(self._number, path, step, inputs))
        return self._number

    def wake_after(self, seconds: float, why: Why, path: str, act: Callable[[], None]) -> int:
        """Has `act` called after so long, under the number that is given back."""
        self._number += 1
        self._timers[self._number] = act
        self._outcome.orders.append(Wake(self._number, seconds, why, path))
        return self._number

    def answered(self, number: int) -> Place | None:
        """The work of this number has ended: the step that it was done for, if that still waits for it."""
        return self._calls.pop(number, None)

    def woken(self, number: int) -> Callable[[], None] | None:
        """The time of this number has come: what is to be done, if it still is."""
        return self._timers.pop(number, None)

    def stop(self, number: int) -> None:
        """Nobody waits any more for the work or the time of this number."""
        if self._calls.pop(number, None) or self._timers.pop(number, None):
            self._outcome.orders.append(Stop(number))

    def forget_times(self) -> None:
        """No time is waited for any more; whoever carries out the orders hears that the run is over."""
        self._timers.clear()
