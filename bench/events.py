"""What stored events cost afterwards: python -m bench.events [--events N] [--folder PATH]. Prints JSON lines.

One device with so many events, ten in a message, in a database file of its own.

    store   events stored a second, in commits of 100 messages
    replay  seconds until its last state is there: `all` from the first event on, `kept` with the snapshots of that
    verify  events checked a second, the whole chain
    remove  events removed a second by retention, and the longest piece in milliseconds
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from contracts.v1.event_chain import VerifyEvents
from contracts.v1.event_codec import EventsStruct, EventStruct
from contracts.v1.event_state import ReplayEvents
from services.recorder.database import Database
from services.recorder.events import removal, snapshot
from services.recorder.events.replay import EventReplay
from services.recorder.events.table import Delivered
from services.recorder.events.verification import EventVerifier
from services.recorder.spool.admission import Admission
from services.recorder.spool.deadletters import DeadLetters
from services.recorder.spool.marks import EpochMarks
from services.recorder.spool.spool import Spool
from services.runtime.clock import SystemClock
from services.runtime.gaps import StreamKey

EACH = 10
COMMIT = 100
STREAM = StreamKey("event", "gateway", "main")
T = TypeVar("T")


def told(**figures: object) -> None:
    """A line of results."""
    print(json.dumps(figures), flush=True)


def message(seq: int) -> Delivered:
    """Ten events of a write, as a gateway tells them."""
    events = [
        EventStruct(
            id=f"01890a5d-ac96-774b-bcce-{seq * EACH + at:012}",
            aggregate="device",
            aggregate_id="pump",
            scope="plant",
            version=(seq - 1) * EACH + at + 1,
            type="write.done" if at % 2 else "write.accepted",
            t=seq * 1000 + at,
            user="anna",
            data=msgspec.Raw(b'{"tag":"tag-%d","value":%d.5}' % (at, seq)),
        )
        for at in range(EACH)
    ]
    return Delivered(STREAM, EventsStruct(owner="gateway", epoch=1, seq=seq, events=events))


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what the work gave."""
    begun = time.perf_counter()
    given = work()
    return time.perf_counter() - begun, given


async def store(database: Database, count: int) -> None:
    """All events, committed as the recorder does."""
    spool = Spool(database=database, letters=DeadLetters(), clock=SystemClock())
    await spool.load()
    messages = [message(seq) for seq in range(1, count // EACH + 1)]
    begun = time.perf_counter()
    for at in range(0, len(messages), COMMIT):
        some = messages[at : at + COMMIT]
        marks = EpochMarks(1, ((1, at + len(some)),))
        await spool.commit(Admission(events=some, marks={STREAM: {1: marks}}))
    seconds = time.perf_counter() - begun
    told(bench="store", events=count, per_s=round(count / seconds))


async def replay(database: Database) -> None:
    """The last state, twice."""
    asked = ReplayEvents(scope="plant", aggregate="device", aggregate_id="pump")
    for name in ("all", "kept"):
        seconds, found = timed(lambda: EventReplay(database.path).replay(asked))
        assert found.shown is not None
        told(bench="replay", snapshots=name, events=found.shown.events, seconds=round(seconds, 3))
        made = found.made
        await database.transaction(lambda sql: snapshot.keep(sql, made))  # noqa: B023 - is awaited


def verify(path: Path) -> None:
    """The whole chain."""
    verifier, after, events, pieces = EventVerifier(path), None, 0, 0
    begun = time.perf_counter()
    while after is not None or not pieces:
        check = verifier.verify(VerifyEvents(after=after))
        assert not check.faults, check.faults
        events, pieces, after = events + check.events, pieces + 1, check.next
    told(bench="verify", events=events, per_s=round(events / (time.perf_counter() - begun)), pieces=pieces)


async def remove(database: Database) -> None:
    """Half of the events, piece by piece."""
    now_us = SystemClock().now_us() + 1
    begun, longest_s, events, half = time.perf_counter(), 0.0, 0, 0
    (half,) = await database.transaction(lambda sql: sql.execute("SELECT max(id) / 2 FROM event").fetchone())
    while events < half:
        at = time.perf_counter()
        gone = await database.transaction(
            lambda sql: removal.remove_oldest(
                sql, before_us=now_us, now_us=now_us, recorder="recorder", new_id=lambda: "bench"
            )
        )
        assert gone is not None
        events += gone.events
        longest_s = max(longest_s, time.perf_counter() - at)
    seconds = time.perf_counter() - begun
    told(bench="remove", events=events, per_s=round(events / seconds), longest_ms=round(longest_s * 1e3))


async def bench(folder: Path, count: int) -> None:
    """All of it, on one file."""
    async with Database(folder / "recorder.db") as database:
        await store(database, count)
        await replay(database)
        verify(database.path)
        await remove(database)
        verify(database.path)


def main() -> int:
    """Command line; returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=100_000)
    arguments.add_argument("--folder", type=Path, help="where the database goes; its disk takes the fsyncs")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(bench(Path(folder), options.events))
    return 0


if __name__ == "__main__":
    sys.exit(main())
