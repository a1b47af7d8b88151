"""Answers RESEND: what of the asked numbers is sent again out of the journal, and what is gone, with the reason."""

from collections.abc import Iterable

from contracts.v1.command import ErrorCode
from contracts.v1.message import LAST_SAFE_INTEGER
from contracts.v1.resend import RESEND, RESEND_EVENTS, UNKNOWN, Resend, ResendResult
from services.runtime.backfill import Backfill
from services.runtime.bus.bus import Bus, CommandFailed, Delivery
from services.runtime.journal import Journal
from services.runtime.ranges import Ranges

FRAME_KIND, EVENT_KIND = "frame", "event"
TRIMMED = "trimmed"
"""A reason beside those that the journal books, and UNKNOWN: the required recorders have it."""

MOST_RANGES = 1000
"""That one request may name."""


class ResendDesk:
    """Serves the verb for every owner of a stream in the journal, those that have no device any more among them."""

    def __init__(self, *, instance: str, bus: Bus, journal: Journal, backfill: Backfill) -> None:
        self._bus = bus
        self._journal = journal
        self._backfill = backfill
        self._served: set[str] = set()
        bus.serve(RESEND_EVENTS, self._events, id=instance)
        for kind, owner, _ in journal.streams:
            if kind == FRAME_KIND:
                self.serve(owner)

    def serve(self, device: str) -> None:
        """Answers for this device from now on."""
        if device not in self._served:
            self._served.add(device)
            self._bus.serve(RESEND, self._frames, id=device)

    async def _frames(self, delivery: Delivery[Resend]) -> ResendResult:
        return self._answer(FRAME_KIND, delivery)

    async def _events(self, delivery: Delivery[Resend]) -> ResendResult:
        return self._answer(EVENT_KIND, delivery)

    def _answer(self, kind: str, delivery: Delivery[Resend]) -> ResendResult:
        """Raises CommandFailed: `not_found` for an epoch that is another journal's, or of before this one was begun;
        `invalid` for too many ranges."""
        asked, owner = delivery.payload, delivery.levels["id"]
        if len(asked.ranges) > MOST_RANGES:
            raise CommandFailed(ErrorCode.INVALID, f"{len(asked.ranges)} ranges; ask for {MOST_RANGES} at a time")
        name = (kind, owner, asked.stream)
        held = self._journal.held(*name, asked.epoch)
        given = self._journal.given(*name, asked.epoch)
        if not given:
            raise CommandFailed(ErrorCode.NOT_FOUND, f"{'/'.join(name)}: this journal has no epoch {asked.epoch}")
        # What an epoch may still come to is not to be spoken of; one that has ended comes to nothing more.
        most = given if self._journal.goes_on(*name, asked.epoch) else LAST_SAFE_INTEGER
        wanted = Ranges((first, min(last, most)) for first, last in asked.ranges if first <= most)
        sending = Ranges(part for first, last in wanted for part in held.within(first, last))
        self._backfill.ask(name, asked.epoch, sending)
        gone = [one for first, last in wanted for one in self._journal.gone(*name, asked.epoch, first, last)]
        return ResendResult(sending=list(sending), gone=sorted(_explained(wanted, sending, gone)))


def _explained(wanted: Ranges, sending: Ranges, gone: Iterable[tuple[int, int, str]]) -> Iterable[tuple[int, int, str]]:
    """Why what is wanted and not sent is not there, for all of it."""
    left = Ranges(wanted)
    for first, last in sending:
        left.remove(first, last)
    for first, last, reason in gone:
        for begin, end in list(left.within(first, last)):
            yield begin, end, TRIMMED if reason == "stored" else reason
            left.remove(begin, end)
    yield from ((first, last, UNKNOWN) for first, last in left)
