"""A recorder without a broker: what a frame meets from its arrival on, with real files and real stores."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger, LogCapture

from contracts.codec import encode
from contracts.v1.event import EVENT, Event, Events
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct, SampleStruct, encode_frame
from services.recorder.database import Database
from services.recorder.events.table import Findings
from services.recorder.spool.admission import Admission, admit
from services.recorder.spool.deadletters import DeadLetter, DeadLetters
from services.recorder.spool.spool import Spool
from services.recorder.spool.store import Store
from services.recorder.spool.writer import Writer
from services.runtime.clock import SystemClock
from services.runtime.gaps import Gaps
from services.runtime.health import Health
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff

SITE = "test"
DEVICE = "plc"
GROUP = "fast"
TOPIC = FRAME.build(site=SITE, device=DEVICE, group=GROUP)


@dataclass(frozen=True)
class Message:
    """A message as the intake gives it."""

    payload: bytes
    topic: str = TOPIC


def message(
    seq: int,
    samples: Iterable[SampleStruct] = (),
    *,
    epoch: int = 1,
    topic: str = TOPIC,
    closed: bool | None = None,
) -> Message:
    """A frame on the wire."""
    frame = FrameStruct(epoch=epoch, seq=seq, rev="r", samples=list(samples), closed=closed)
    return Message(encode_frame(frame, topic=topic), topic)


def event_message(
    seq: int,
    *types: str,
    aggregate: str = "device",
    name: str = "pump",
    scope: str = "plant",
    version: int = 1,
    epoch: int = 1,
    t: int = 1,
    user: str | None = None,
    owner: str = "gateway",
) -> Message:
    """Events on the wire: one of each type with versions from `version`, a microsecond apart. Live."""
    events = [
        Event(
            id=f"{owner}-{epoch}-{seq}-{at}",
            aggregate=aggregate,
            aggregate_id=name,
            scope=scope,
            version=version + at,
            type=type_,
            t=t + at,
            user=user,
            data={"seq": seq},
        )
        for at, type_ in enumerate(types)
    ]
    topic = EVENT.build(site=SITE, scope=scope, aggregate=aggregate, id=name)
    return Message(encode(Events(owner=owner, epoch=epoch, seq=seq, events=events), topic=topic), topic)


@dataclass
class Rig:
    """Spool and writer of one recorder. registry: its metrics. logged: what it said. found: by the last commit()."""

    database: Database
    spool: Spool
    writer: Writer
    health: Health
    registry: CollectorRegistry
    letters: DeadLetters
    logged: LogCapture
    log: Log
    metrics: Metrics
    seq: int = field(default=0)
    found: Findings = field(default_factory=Findings)

    async def commit(self, *messages: Message) -> Admission:
        """Puts messages into the spool, as the recorder does before it acknowledges them."""
        admission = admit(messages, self.spool.marks, Gaps(), site=SITE)
        self.found = await self.spool.commit(admission)
        return admission

    async def record(self, samples: Sequence[SampleStruct]) -> None:
        """One frame with these samples, into the spool."""
        self.seq += 1
        await self.commit(message(self.seq, samples))

    async def flush(self) -> None:
        """Everything in the spool into the store, as at a stop; returns when the writer has ended."""
        await self.writer.stop()
        await self.writer.run()

    async def dead(self) -> list[DeadLetter]:
        """What was set aside."""
        return await self.database.transaction(self.letters.all)

    def said(self, part: str) -> bool | str | None:
        """What a part said of its health: True, or what is wrong; None if nothing yet."""
        report = self.health.state()["parts"].get(part)
        return None if report is None else report["ok"] or str(report["detail"])

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 if it has none yet."""
        return self.registry.get_sample_value(f"dinrail_{name}", labels) or 0.0


@asynccontextmanager
async def rig(path: Path, store: Store, *, most_letters: int = 1 << 20) -> AsyncIterator[Rig]:
    """An open recorder database at `path`, feeding `store`."""
    registry, clock, logged = CollectorRegistry(), SystemClock(), LogCapture()
    health = Health(host="127.0.0.1", port=0, registry=registry, clock=clock)
    letters = DeadLetters(most_bytes=most_letters)
    async with Database(path) as database:
        spool = Spool(database=database, letters=letters, clock=clock)
        await spool.load()
        metrics = Metrics(registry)
        log: Log = structlog.wrap_logger(CapturingLogger(), processors=[logged], wrapper_class=Log)
        writer = Writer(
            spool=spool,
            store=store,
            clock=clock,
            backoff=Backoff(first_s=0.01, most_s=0.05, random=Random(1)),
            health=health,
            metrics=metrics,
            log=log,
        )
        yield Rig(database, spool, writer, health, registry, letters, logged, log, metrics)
