"""The events of a service: numbered, journalled, then published. Whoever tells one never waits."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from contracts.v1.command import PLANT
from contracts.v1.event import EVENT, EVENT_STREAM
from contracts.v1.event_codec import EventsStruct, EventStruct, encode_events, event_data
from contracts.v1.frame_codec import PreviousStruct
from plugins.api.clock import Clock
from services.runtime.bus.bus import Bus, BusUnavailable, PublishRefused
from services.runtime.identifier import uuid7
from services.runtime.journal import Journal, JournalFull
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.versions import Versions

EVENT_KIND = "event"
SERVICE_AGGREGATE = "service"
QUEUED = 1000
"""Messages that wait for the broker; beyond it the oldest ones stay in the journal alone."""
SILENCE_S = 10.0
"""A stream with nothing to say sends a message without events after so long, so that the loss of its last is seen."""
AT_ONCE = 16
"""Messages that wait for the broker's answer at the same time."""
LINGER_S = 0.005
"""So long after an event others are waited for: what a command does in a few milliseconds goes out at once, behind its
answer."""
_LOOK_S = 1.0


class _Message(NamedTuple):
    topic: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What events happen to; see contracts.v1.event.Event."""

    scope: str
    aggregate: str
    id: str


class EventLog:
    """The one stream of events of a service instance. A Part between those who tell events and the bus.

    What waits here is in the journal already: it is late, never lost.
    """

    name = "events"

    def __init__(
        self,
        *,
        site: str,
        instance: str,
        bus: Bus,
        journal: Journal,
        versions: Versions,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        random: Random,
    ) -> None:
        """Opens the stream."""
        self._site = site
        self._instance = instance
        self._bus = bus
        self._journal = journal
        self._stream = journal.open_stream(EVENT_KIND, instance, EVENT_STREAM)
        self._versions = versions
        self._clock = clock
        self._log = log
        # An id is no secret, and to ask the system for each takes longer than all else about it.
        self._random = Random(random.getrandbits(128))  # noqa: S311
        self._waiting: deque[_Message] = deque()
        self._news = asyncio.Event()
        self._stopping = False
        self._told_at = float("-inf")
        self._overflow = metrics.dropped.labels(self.name, "oldest")
        metrics.watch_depth(self.name, self._waiting)

    def tell(
        self,
        *types: str,
        aggregate: str,
        id: str,  # noqa: A002 - the event's own word for it
        scope: str = PLANT,
        user: str | None = None,
        cause: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> str:
        """This has happened to the aggregate: one or several events in one message, each the cause of the next.

        See contracts.v1.event.Event for the fields; data: JSON values, the same in each.
        Never waits; when it returns, the events are in the journal. Gives the last one's id, which an event that
        follows from it names as its cause.
        """
        subject = Subject(scope=scope, aggregate=aggregate, id=id)
        happened = [(type_, dict(data or {})) for type_ in types]
        return self.tell_step(subject, happened, user=user, cause=cause)

    def tell_step(
        self,
        subject: Subject,
        happened: Sequence[tuple[str, dict[str, Any]]],
        *,
        user: str | None = None,
        cause: str | None = None,
        over: bool = False,
        times_us: Sequence[int] = (),
    ) -> str:
        """As tell(), with type and data of each event.

        times_us: when each happened, in microseconds since 1970 UTC, if not now. over: nothing more will happen to the
        aggregate: its versions are forgotten. Gives the last one's id.
        Raises ContractError, or another ValueError: they are no message; no number is taken then, nothing is told.
        """
        name = f"{subject.scope}/{subject.aggregate}/{subject.id}"
        version = self._versions.last(name) + 1
        events = []
        for at, (type_, data) in enumerate(happened):
            t = times_us[at] if times_us else self._clock.now_us()
            event = EventStruct(
                id=str(uuid7(t, self._random)),
                aggregate=subject.aggregate,
                aggregate_id=subject.id,
                scope=subject.scope,
                version=version + at,
                type=type_,
                t=t,
                user=user,
                cause=cause,
                data=event_data(data),
            )
            cause = event.id
            events.append(event)
        topic = EVENT.build(site=self._site, scope=subject.scope, aggregate=subject.aggregate, id=subject.id)
        message = self._encoded(events, topic=topic)
        if not over:
            self._versions.next(name, count=len(happened))
        self._send(message, topic=topic)
        if over:  # not before: killed in between, it is found open at the next start and ended
            self._versions.forget(name)
        return events[-1].id

    def open_of(self, aggregate: str) -> list[Subject]:
        """The aggregates of this kind that are not over: after a start, what an earlier session has left."""
        parts = (name.split("/") for name in self._versions.open_of())
        return [Subject(scope=scope, aggregate=kind, id=id_) for scope, kind, id_ in parts if kind == aggregate]

    @property
    def stopping(self) -> bool:
        """Whether the stream has ended: nothing can be told any more."""
        return self._stopping

    async def run(self) -> None:
        """Publishes until stop(), and then what is left as long as the broker is there."""
        synced_at = self._clock.monotonic()
        while True:
            if self._clock.monotonic() >= self._told_at + SILENCE_S and not self._stopping:
                self._say_nothing()
            self._news.clear()
            if not self._stopping:
                await asyncio.sleep(LINGER_S)
            await self._publish()
            idle = not self._waiting or not self._bus.connected
            if self._stopping and idle:
                break
            if self._clock.monotonic() >= synced_at + _LOOK_S:
                await self._sync()
                synced_at = self._clock.monotonic()
            if idle and not self._news.is_set():
                await self._pause()
        self._versions.close()

    async def stop(self) -> None:
        """Ends the stream, and run() when what waits has been published or cannot be."""
        self._say_nothing(closed=True)
        self._stopping = True
        self._news.set()

    async def _sync(self) -> None:
        try:
            await asyncio.to_thread(self._versions.sync)
        except OSError as error:
            self._log.error("versions_not_kept", error=str(error))

    async def _pause(self) -> None:
        """Until there is news, or something may be due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await self._news.wait()

    def _say_nothing(self, *, closed: bool | None = None) -> None:
        """A message without events; it stands under the service itself."""
        topic = EVENT.build(site=self._site, scope=PLANT, aggregate=SERVICE_AGGREGATE, id=self._instance)
        self._send(self._encoded([], topic=topic, closed=closed), topic=topic)

    def _encoded(self, events: list[EventStruct], *, topic: str, closed: bool | None = None) -> bytes:
        """The stream's next message. Raises ContractError, ValueError."""
        seq = self._stream.last_seq + 1
        previous = self._stream.previous if seq == 1 else None
        message = EventsStruct(
            owner=self._instance,
            epoch=self._stream.epoch,
            seq=seq,
            events=events,
            prev=PreviousStruct(epoch=previous[0], last_seq=previous[1]) if previous else None,
            closed=closed,
        )
        return encode_events(message, topic=topic)

    def _send(self, data: bytes, *, topic: str) -> None:
        """data: as _encoded() has just given it."""
        seq = self._stream.next_seq()
        with suppress(JournalFull):  # the journal books it; the broker may still take it
            self._journal.append(self._stream, seq, data)
        if len(self._waiting) >= QUEUED:
            self._waiting.popleft()
            self._overflow.inc()
        self._waiting.append(_Message(topic, data))
        self._told_at = self._clock.monotonic()
        self._news.set()

    async def _publish(self) -> None:
        """Publishes what waits, in order, until nothing does or the broker is away."""
        while self._waiting and self._bus.connected:
            batch = list(islice(self._waiting, AT_ONCE))
            taken = await asyncio.gather(*map(self._send_out, batch))
            done = taken.index(False) if False in taken else len(taken)
            for message in batch[:done]:
                if self._waiting and self._waiting[0] is message:  # else it was the oldest of too many
                    self._waiting.popleft()
            if done < len(taken):
                return

    async def _send_out(self, message: _Message) -> bool:
        """Whether there is nothing more to do for it."""
        try:
            await self._bus.publish_bytes(message.topic, message.data, kind=EVENT.name)
        except BusUnavailable:
            return False
        except PublishRefused as error:
            self._log.error("event_refused", topic=message.topic, error=str(error))
        return True
