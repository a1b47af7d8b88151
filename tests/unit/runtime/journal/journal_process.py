"""A process that appends to a journal: `python journal_process.py FOLDER endless|full`.

endless: appends until it is killed, and says each number once append() has returned.
full: appends until the disk refuses (files of this process may not grow over a limit), then once more with room.
"""

import os
import resource
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.runtime.clock import SystemClock
from services.runtime.journal import Journal, JournalFull, Stream
from services.runtime.metrics import Metrics

PAYLOAD = 300


def payload(seq: int) -> bytes:
    return f"{seq:{PAYLOAD}}".encode()


def append(journal: Journal, stream: Stream) -> None:
    seq = stream.next_seq()
    journal.append(stream, seq, payload(seq))
    os.write(1, b"%d\n" % seq)


def append_until_refused(journal: Journal, stream: Stream) -> None:
    while True:
        try:
            append(journal, stream)
        except JournalFull as refused:
            os.write(1, f"{refused}\n".encode())
            return


def main(folder: Path, behaviour: str) -> None:
    journal = Journal.open(folder, segment_bytes=20_000, clock=SystemClock(), metrics=Metrics(CollectorRegistry()))
    stream = journal.open_stream("frame", "pump", "fast")
    os.write(1, b"%d\n" % stream.epoch)
    if behaviour == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
        append_until_refused(journal, stream)
        append_until_refused(journal, stream)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        append(journal, stream)
        os.kill(os.getpid(), 9)
    while True:
        append(journal, stream)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
