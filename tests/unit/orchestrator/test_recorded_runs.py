"""What the orchestrator makes of a recorder's answers about a run."""

from typing import Any, cast

import pytest

from contracts.v1.event import Event
from contracts.v1.event_store import AggregateEvents
from services.orchestrator.errors import NotFound, Unavailable
from services.orchestrator.past.recorded import RecordedRuns
from services.runtime.bus.bus import Bus
from services.runtime.commands.request import Outcome


class Asked:
    """A bus whose recorder gives one answer."""

    def __init__(self, answer: AggregateEvents) -> None:
        self._answer = answer

    async def request(self, *_: object, **__: object) -> Outcome[Any]:
        """The answer."""
        return Outcome(result=self._answer)


def runs(**answer: Any) -> RecordedRuns:
    end = Event(id="1", aggregate="run", aggregate_id="r", scope="main", version=9, type="run.completed", t=1)
    given = AggregateEvents(events=[end], **answer)
    return RecordedRuns(bus=cast("Bus", Asked(given)), user="orchestrator", recorder="recorder")


async def test_a_run_whose_first_events_retention_has_removed_is_not_looked_back_at() -> None:
    assert len(await runs().events("main", "r")) == 1
    with pytest.raises(NotFound, match="has removed the first events of 'r'"):
        await runs(first=9).events("main", "r")
    with pytest.raises(Unavailable, match="no version 2 to 8"):
        await runs(missing=[(2, 8)]).events("main", "r")
