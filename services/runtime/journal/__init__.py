"""The journal of a stream's owner; see journal.journal."""

from services.runtime.journal.faults import JournalBroken, JournalFull
from services.runtime.journal.journal import Journal
from services.runtime.journal.shelf import Usage
from services.runtime.journal.stream import Stream

__all__ = ["Journal", "JournalBroken", "JournalFull", "Stream", "Usage"]
