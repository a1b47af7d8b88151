"""Sends out of the journal what did not reach a recorder as live data: at a bounded rate, beside the live data.

What the live way could not deliver is owed, and so is, after each connect, what the journal holds of epochs that have
ended, and again every minute: their owner sends nothing more in which a recorder could see that something is missing.
What is owed stays owed until STORED of every required recorder names it; without such news nothing more is sent, so
that a recorder that is away does not fill the broker. Memory holds ranges of numbers only, whatever the length of an
outage.
"""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from contracts.v1.backfill import BACKFILL
from contracts.v1.stored import STORED, Stored
from services.runtime.backlog import Backlog, Piece, StreamName
from services.runtime.bus.bus import Bus, BusUnavailable, Delivery, PublishRefused
from services.runtime.journal import Journal, Stream
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.ranges import Ranges
from services.runtime.retry import Backoff

SETTLE_S = 1.0
"""So long after a connect the live data has the line for itself, and recorders say what they have."""
STALL_S = 5.0
"""What was sent and is not stored after so long is sent again, a little of it at a time until there is news."""
PIECE = 32
"""Messages that are read from the journal at a time, at most; a tenth of a second's worth of the rate."""
AT_ONCE = 8
"""Messages that wait for the broker's answer at the same time: a quarter of what the link has room for."""
UNIT_BYTES = 4096
"""What counts as one message of the rate."""
LOOK_S = 1.0
OFFER_S = 60.0
"""How often it is looked for epochs that have ended meanwhile and are not stored."""
MOST_STREAMS = 100_000
"""STORED is retained: so many of them, of all streams of the site, may come at once."""


class Backfill:
    """A Part between the streams' owners and the bus.

    rate: messages a second, at most; a message longer than UNIT_BYTES counts as several.
    """

    name = "backfill"

    def __init__(
        self, *, site: str, journal: Journal, bus: Bus, rate: float, backoff: Backoff, metrics: Metrics, log: Log
    ) -> None:
        self._site = site
        self._journal = journal
        self._bus = bus
        self._rate = rate
        self._piece = max(1, min(PIECE, int(rate / 10)))
        self._backoff = backoff
        self._log = log
        self._sent = metrics.backfill_sent
        self._backlog = Backlog()
        metrics.sample(metrics.backlog, lambda: self._backlog.total)
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()
        self._settle_at = math.inf
        self._settled = False
        self._progress_at = 0.0
        self._probing = False
        self._probe_at = 0.0
        self._offer_at = math.inf
        self._owe_all(ended=True)
        bus.subscribe(STORED, self._on_stored, queue_size=MOST_STREAMS)
        bus.on_connect(self._on_connect)

    def owe(self, stream: Stream, seq: int) -> None:
        """A message that stands in the journal could not be delivered live."""
        self._backlog.owe(stream.path, stream.epoch, seq, seq)
        self._news.set()

    def ask(self, name: StreamName, epoch: int, ranges: Ranges) -> None:
        """Somebody wants these once more."""
        for first, last in ranges:
            self._backlog.ask(name, epoch, first, last)
        self._news.set()

    def announced(self, stream: Stream) -> list[tuple[int, int, int]] | None:
        """What a live message says to be still to come of its stream; None for nothing, or while nothing goes out."""
        if not self._backlog or not self._bus.connected:
            return None
        return self._backlog.announced(stream.path)

    def pending(self, stream: Stream) -> int:
        """How many messages of the stream are still to be sent or confirmed."""
        return self._backlog.pending(stream.path) if self._backlog else 0

    async def run(self) -> None:
        """Sends until stop(); what is left stays in the journal, and is offered by the next process."""
        while not self._stopping.is_set():
            if not self._bus.connected:
                self._settle_at = math.inf
                with suppress(TimeoutError):
                    await self._bus.wait_connected(LOOK_S)
                continue
            piece = self._next()
            if piece is None:
                await self._pause(until_s=self._settle_at)
            else:
                await self._send(piece)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()
        self._news.set()

    def _on_connect(self) -> None:
        self._settle_at = asyncio.get_running_loop().time() + SETTLE_S
        self._settled = False
        self._offer_at = self._settle_at + OFFER_S
        self._owe_all(ended=True)  # before the first live message, which announces it; STORED then takes from it
        self._news.set()

    async def _on_stored(self, delivery: Delivery[Stored]) -> None:
        levels = delivery.levels
        name = levels["kind"], levels["owner"], levels["stream"]
        lacking = self._lacking(name)
        if self._journal.stored(levels["recorder"], *name, delivery.payload, old=delivery.retained):
            self._log.warning("recorder_store_replaced", recorder=levels["recorder"])
            self._owe_all(ended=False)
        self._probe_at = 0.0  # a recorder is there
        self._backlog.confirm(name, lambda epoch, ranges: self._journal.missing(*name, epoch, ranges))
        if self._lacking(name) < lacking:
            self._progress_at = asyncio.get_running_loop().time()
            self._probing = False
            self._backoff.reset()
            self._news.set()

    def _lacking(self, name: StreamName) -> int:
        """How many messages of what is owed the required recorders lack, each counted for itself: one that is away must
        not hold up another."""
        return sum(self._journal.lacking(*name, epoch, ranges) for epoch, ranges in self._backlog.owed(name))

    def _owe_all(self, *, ended: bool) -> None:
        for name, epoch, ranges in self._journal.unstored(ended=ended):
            for first, last in ranges:
                self._backlog.owe(name, epoch, first, last)

    def _next(self) -> Piece | None:
        """What may be sent now."""
        now = asyncio.get_running_loop().time()
        if now < self._settle_at:
            return None
        if now >= self._offer_at:
            self._offer_at = now + OFFER_S
            self._owe_all(ended=True)
        if not self._settled:
            self._settled = True
            self._progress_at = now
            self._probing = False
            self._backlog.again()  # the broker may have lost it
        waiting = self._backlog.waiting
        if not waiting and not (self._probing and self._backlog):
            self._progress_at, self._probing = now, False
        elif waiting and not self._probing and now >= self._progress_at + STALL_S:
            self._probing = True
            self._probe_at = now + self._backoff.next()
        if self._probing and now >= self._probe_at:
            self._probe_at = now + self._backoff.next()
            self._backlog.again()
            return self._backlog.next(self._piece)
        return self._backlog.next(self._piece, only_asked=self._probing)

    async def _send(self, piece: Piece) -> None:
        """Sends the piece in order, and takes as long as the rate wants it to."""
        began = asyncio.get_running_loop().time()
        kind, owner, stream = piece.name
        try:
            records = list(islice(self._journal.read(*piece.name, piece.epoch, piece.first, piece.last), PIECE))
        except OSError as error:
            self._log.error("journal_not_read", error=str(error), retry_s=LOOK_S)
            await self._stopped_by(began + LOOK_S)
            return
        self._drop_gone(piece, [seq for seq, _ in records])
        topic = BACKFILL.build(site=self._site, kind=kind, owner=owner, stream=stream)
        units = 0
        for at in range(0, len(records), AT_ONCE):
            some = records[at : at + AT_ONCE]
            taken = await asyncio.gather(*(self._publish(topic, payload) for _, payload in some))
            for (seq, payload), done in zip(some, taken, strict=True):
                if not done:
                    return
                units += -(-len(payload) // UNIT_BYTES)
                self._backlog.sent(piece.name, piece.epoch, seq)
        await self._stopped_by(began + units / self._rate)

    async def _stopped_by(self, due_s: float) -> None:
        """Waits until then, or the stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due_s):
                await self._stopping.wait()

    def _drop_gone(self, piece: Piece, found: Sequence[int]) -> None:
        for first, last in Ranges((seq, seq) for seq in found).gaps(piece.first, piece.last):
            self._backlog.forget(piece.name, piece.epoch, first, last)

    async def _publish(self, topic: str, payload: bytes) -> bool:
        """Whether there is nothing more to do for it."""
        try:
            await self._bus.publish_bytes(topic, payload, kind=BACKFILL.name)
        except BusUnavailable:
            return False
        except PublishRefused as error:
            self._log.error("backfill_refused", topic=topic, error=str(error))
        else:
            self._sent.inc()
        return True

    async def _pause(self, *, until_s: float) -> None:
        """Until there is news, or that time is there if it is still to come, at most LOOK_S."""
        left_s = until_s - asyncio.get_running_loop().time()
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s if 0 < left_s < LOOK_S else LOOK_S):
                await self._news.wait()
