"""What can be wrong with a journal.

JournalBroken    it cannot be opened: an operator has to act
JournalFull      the disk does not take more: an OSError; the caller goes on
"""


class JournalBroken(Exception):
    """The journal cannot be opened; the message says why and what to do."""


class JournalFull(OSError):
    """The disk does not take it. A record's number is then booked as lost, `disk_full`; go on with the next."""
