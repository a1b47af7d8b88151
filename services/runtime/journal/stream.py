"""A stream in one epoch, as its writer holds it."""

from services.runtime.journal.ledger import Entry, StreamName
from services.runtime.journal.record import Key


class Stream:
    """One stream of records in one epoch, as Journal.open_stream() gives it.

    version: of the ledger that has the epoch; until that is on the disk nothing can be appended.
    previous: the epoch before and the last sequence number given in it (0: none); None for a new stream.
    """

    def __init__(
        self, kind: str, owner: str, name: str, *, entry: Entry, previous: tuple[int, int] | None, version: int
    ) -> None:
        self.kind = kind
        self.owner = owner
        self.name = name
        self.path: StreamName = (kind, owner, name)
        self.epoch = entry.epoch
        self.previous = previous
        self.version = version
        self.key: Key = (entry.number, entry.epoch)
        self.entry = entry
        self._given = 0

    @property
    def last_seq(self) -> int:
        """The sequence number that was given last; 0 before the first."""
        return self._given

    def next_seq(self) -> int:
        """The next sequence number: 1, 2, 3, ..."""
        self._given += 1
        return self._given
