"""What the writer asks of a history, whichever it is.

Errors: StoreUnavailable is the server's fault or the operator's (away, overloaded, refuses our token): the data stays
in the spool and is offered again. What a store refuses for good comes back as dead letters.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.recorder.spool.deadletters import DeadLetter
from services.recorder.spool.frames import DeviceFrame


class StoreUnavailable(Exception):
    """The store cannot take anything now.

    reason: one of a few words, for counting. retry_after_s: what the server asked for.
    """

    def __init__(self, message: str, *, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch.

    values: how many the store took. dead: what it refused for good.
    also: what is to become durable in the transaction that removes the batch from the spool.
    """

    values: int
    dead: Sequence[DeadLetter]
    also: Callable[[sqlite3.Connection], None]


class Store(Protocol):
    """A history. name: the label of its metrics.

    batch_bytes: so many bytes of messages make a batch. flush_s: a smaller one is written once it is that old.
    in_order: frames come in the order of their arrival even while a backlog waits, one batch at a time; else batches of
    both come side by side.
    """

    @property
    def name(self) -> str:
        """Names the store in metrics and logs."""
        ...

    @property
    def batch_bytes(self) -> int:
        """Bytes of messages that make a full batch."""
        ...

    @property
    def flush_s(self) -> float:
        """Age at which a smaller batch is written."""
        ...

    @property
    def in_order(self) -> bool:
        """Whether batches come one by one, and new frames wait for a backlog: right where what waits can be read."""
        ...

    async def write(self, frames: Iterator[DeviceFrame]) -> Written:
        """Writes the frames, going through them once, in a thread: each is decoded then. To write them again changes
        nothing. Raises StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
