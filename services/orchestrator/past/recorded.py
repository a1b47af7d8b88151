"""Runs as the recorder has them: those that are over, and no longer known here."""

from collections.abc import Sequence

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.event import Event
from contracts.v1.event_store import MOST_EVENTS, READ_EVENTS, ReadEvents
from services.orchestrator.engine.chronicle import RUN_AGGREGATE
from services.orchestrator.errors import NotFound, Unavailable
from services.orchestrator.past.past_run import is_over
from services.runtime.bus.bus import Bus

MOST_PAGES = 16
"""Answers that one run may take: 16,000 events, or 8 MB of them."""
PATIENCE_S = 4.0
"""How long the recorder has for an answer: it gives a search up after three."""


class RecordedRuns:
    """user: as whom the bus is logged in. recorder: the instance that answers."""

    def __init__(self, *, bus: Bus, user: str, recorder: str) -> None:
        self._bus = bus
        self._user = user
        self._recorder = recorder

    async def events(self, scope: str, run: str) -> list[Event]:
        """All that has happened to a run that is over, in its order. Raises NotFound, Unavailable, BusError."""
        events: list[Event] = []
        after = None
        for _ in range(MOST_PAGES):
            asked = ReadEvents(scope=scope, aggregate=RUN_AGGREGATE, aggregate_id=run, limit=MOST_EVENTS, after=after)
            answer = await self._bus.request(
                READ_EVENTS, asked, timeout_s=PATIENCE_S, user=self._user, id=self._recorder
            )
            page = answer.result
            if page is None:
                raise self._refusal(scope, run, answer.error)
            if page.first is not None:
                raise NotFound(
                    f"the recorder has removed the first events of {run!r}: they are older than it keeps them"
                )
            if page.missing:
                (first, last), *_ = page.missing
                raise Unavailable(f"of the events of {run!r} the recorder has no version {first} to {last} (yet)")
            events += page.events
            after = page.next
            if after is None:
                return _whole(run, events)
        raise Unavailable(f"{run!r} is too long to be looked back at: it has more than {len(events)} events")

    def _refusal(self, scope: str, run: str, error: Failure | None) -> NotFound | Unavailable:
        if error is not None and error.code is ErrorCode.NOT_FOUND:
            return NotFound(f"nothing is known of a run {run!r} in {scope!r}, neither here nor by the recorder")
        if error is not None and error.code is not ErrorCode.TIMEOUT:
            return Unavailable(f"the recorder {self._recorder!r} cannot tell the events of {run!r}: {error.message}")
        return Unavailable(
            f"{run!r} is not known here any more, and no recorder named {self._recorder!r} answers;"
            " start it, or name the one with answers_queries as `recorder` in the orchestrator's settings"
        )


def _whole(run: str, events: Sequence[Event]) -> list[Event]:
    if not events or not is_over(events[-1]):
        raise Unavailable(f"{run!r} is not over, as far as the recorder knows; ask again in a moment")
    return [*events]
