"""Triggers that miss nothing: each has a session at the broker that outlives the process.

A message is acknowledged once its run was accepted, and so stands in the journal of events; if the process dies before
that, it comes again: a run may then be started twice, and none is left out. Each session is its own, so that a pipeline
that cannot keep up holds back nothing but itself.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from contracts.codec import ContractError, decode
from contracts.v1.backfill import BACKFILL
from contracts.v1.definition import FrameTrigger, TagTrigger
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import decode_header
from contracts.v1.tag import TAG, TagValue
from services.orchestrator.errors import Draining, OrchestratorError, TooManyPipelines
from services.orchestrator.lane import AGAIN_S, Ongoing
from services.orchestrator.listener import frame_firing, tag_change, tag_firing
from services.orchestrator.seen import Seen
from services.orchestrator.trigger import Firing, TagGate
from services.runtime.intake import Intake, IntakeClosed, IntakeMessage
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.throttle import Throttle

AHEAD = 50
"""Messages that may be here unacknowledged; the others wait at the broker."""

CONNECT_S = 5.0

OpenIntake = Callable[[str, Sequence[str]], Intake]
"""An intake under this client id, of these filters."""


def client_id(instance: str, scope: str, pipeline: str, trigger: FrameTrigger | TagTrigger) -> str:
    """Of the session of a trigger: the same as long as it listens to the same for the same pipeline."""
    what = trigger.frame if isinstance(trigger, FrameTrigger) else trigger.tag
    digest = hashlib.sha256(f"{scope}/{pipeline}/{what}".encode()).hexdigest()[:16]
    return f"{instance[:40]}-every-{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSource:
    """Every frame of a group that has values, live or out of the gateway's journal after an outage.

    begun_us: when the trigger was set up: frames out of a journal that are older are not its own.
    """

    path: str
    site: str
    begun_us: int
    seen: Seen

    @property
    def filters(self) -> tuple[str, ...]:
        """What is subscribed to."""
        device, _, group = self.path.partition("/")
        live = FRAME.filter(site=self.site, device=device, group=group)
        return live, BACKFILL.filter(site=self.site, kind="frame", owner=device, stream=group)

    def firing(self, message: IntakeMessage) -> Firing | None:
        """What the message fires. Raises ContractError."""
        header = decode_header(message.payload, topic=message.topic)
        if not self.seen.take(header.epoch, header.seq):
            return None
        firing = frame_firing(message.payload, topic=message.topic, path=self.path)
        late = FRAME.parse(message.topic) is None
        if firing is None or (late and (firing.trigger.t or 0) < self.begun_us):
            return None
        return firing


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSource:
    """Every change of a tag that its gate lets through; values that the broker kept for too long have expired."""

    path: str
    site: str
    gate: TagGate

    @property
    def filters(self) -> tuple[str, ...]:
        """What is subscribed to."""
        device, _, tag = self.path.partition("/")
        return (TAG.filter(site=self.site, device=device, tag=tag),)

    def firing(self, message: IntakeMessage) -> Firing | None:
        """What the message fires. Raises ContractError."""
        if not message.payload:
            return None  # the tag's topic was cleared
        change = self.gate.take(tag_change(decode(TagValue, message.payload, topic=message.topic)), now_s=0.0)
        return None if change is None else tag_firing(change, path=self.path)


class SessionTrigger:
    """One trigger with `deliver: every`. Kept running by a supervisor, which ends it by cancellation."""

    def __init__(
        self,
        *,
        client: str,
        source: FrameSource | TagSource,
        open_intake: OpenIntake,
        start: Callable[[Firing], Ongoing],
        pipeline: str,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.name = client
        self.listening = asyncio.Event()
        """Set once the session stands at the broker: what comes from now on is not missed."""
        self._source = source
        self._open = open_intake
        self._start = start
        self._log = log.bind(pipeline=pipeline, trigger=source.path)
        self._throttle = Throttle()
        self._ongoing: deque[Ongoing] = deque(maxlen=AHEAD)
        self._count = {
            outcome: metrics.firings.labels(pipeline, "every", outcome) for outcome in ("started", "refused", "held")
        }

    async def run(self) -> None:
        """Takes message after message, each once its run was accepted."""
        intake = self._open(self.name, self._source.filters)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(intake.run(), name=f"{self.name}.intake")
            tasks.create_task(self._consume(intake), name=f"{self.name}.consumer")

    async def _consume(self, intake: Intake) -> None:
        while not self.listening.is_set():
            with suppress(TimeoutError):
                await intake.wait_connected(CONNECT_S)
                self.listening.set()
        while True:
            try:
                batch = await intake.batch(most=1)
            except IntakeClosed:
                return
            for message in batch.messages:
                try:
                    firing = self._source.firing(message)
                except ContractError as error:
                    self._refuse(str(error))
                else:
                    if firing is not None:
                        await self._accepted(firing)
            batch.ack()

    async def _accepted(self, firing: Firing) -> None:
        """Returns once the run was accepted, however long that takes, or can never be."""
        held = False
        while True:
            try:
                run = self._start(firing)
            except (TooManyPipelines, Draining):
                if not held:
                    self._count["held"].inc()
                held = True
            except OrchestratorError as error:
                self._refuse(str(error))
                return
            else:
                self._count["started"].inc()
                self._ongoing.append(run)
                return
            await self._some_over()

    async def _some_over(self) -> None:
        """Returns when the oldest of its runs is over, or after a moment: others may hold the places."""
        while self._ongoing and self._ongoing[0].over.is_set():
            self._ongoing.popleft()
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await (self._ongoing[0].over.wait() if self._ongoing else asyncio.sleep(AGAIN_S))

    def _refuse(self, why: str) -> None:
        self._count["refused"].inc()
        if self._throttle.passes(asyncio.get_running_loop().time()):
            self._log.warning("run_refused", error=why)
