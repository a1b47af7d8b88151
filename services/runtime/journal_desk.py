"""Answers what this service has produced, and what of it is still in its journal: one half of an audit."""

from collections.abc import Iterator

from contracts.v1.audit import SHOW_JOURNAL, JournalEpoch, JournalShown, ShowJournal
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.journal import Journal
from services.runtime.journal.ledger import StreamName

AT_ONCE = 20
"""Streams that are looked up together: each look goes through all segments."""
MOST = 10_000
"""Ranges in one answer, and twice as many for each epoch; what is looked up together may go beyond it."""


class JournalDesk:
    """Serves the verb from its making on."""

    def __init__(self, *, instance: str, bus: Bus, journal: Journal) -> None:
        self._journal = journal
        bus.serve(SHOW_JOURNAL, self._show, id=instance)

    async def _show(self, delivery: Delivery[ShowJournal]) -> JournalShown:
        epochs: list[JournalEpoch] = []
        room = MOST
        for names in self._left(delivery.payload.after):
            found = [
                JournalEpoch(
                    kind=name[0], owner=name[1], stream=name[2], epoch=epoch, given=given, held=list(held), lost=lost
                )
                for name, epoch, given, held, lost in self._journal.account(names)
            ]
            epochs += found
            room -= sum(2 + len(one.held) + len(one.lost) for one in found)
            if room <= 0:
                return JournalShown(epochs=epochs, next="/".join(names[-1]))
        return JournalShown(epochs=epochs)

    def _left(self, after: str | None) -> Iterator[list[StreamName]]:
        """The streams behind that one, some at a time."""
        names = sorted(self._journal.streams, key="/".join)
        left = [name for name in names if after is None or "/".join(name) > after]
        return (left[at : at + AT_ONCE] for at in range(0, len(left), AT_ONCE))
