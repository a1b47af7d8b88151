"""Which runs may run now, and which wait for how long. Pure.

Runs wait in one line for the engine's places; one whose pipeline has no place of its own lets others pass. A run that
is a node of another needs a place of its pipeline alone: with the engine's it would wait for the run that waits for it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.orchestrator.errors import TooManyPipelines

MOST_RUNS = 10
MOST_QUEUED = 1000
MOST_BYTES = 32 << 20
"""As JSON, of what all runs that wait were given; in memory it may be twenty times as much."""
_WEIGHT = 0.2
"""Of the latest duration in the moving mean."""

Pipeline = tuple[str, str]
"""Workspace and name."""


@dataclass(slots=True)
class Mean:
    """A moving mean of durations, in seconds; None before the first."""

    seconds: float | None = None

    def add(self, seconds: float) -> None:
        """A run took so long."""
        self.seconds = seconds if self.seconds is None else self.seconds + _WEIGHT * (seconds - self.seconds)


@dataclass(slots=True)
class _Line:
    """The runs of one pipeline. most_runs: as the latest run's version says. waiting: ticket and run.

    inner: nodes of other runs that wait; these go first, since others wait for them with a place in hand.
    """

    most_runs: int = 1
    running: int = 0
    waiting: deque[tuple[int, str]] = field(default_factory=deque)
    inner: deque[str] = field(default_factory=deque)
    mean: Mean = field(default_factory=Mean)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run waits. position: from 1; expected_wait_s: None while nothing is known of how long runs take."""

    position: int
    expected_wait_s: float | None


class RunQueue:
    """The engine's places, and the line before them. most_runs: at the same time. most_queued: in the line.

    As many as in the line may wait that are nodes of other runs. most_bytes: of what all that wait were given.
    """

    def __init__(
        self, *, most_runs: int = MOST_RUNS, most_queued: int = MOST_QUEUED, most_bytes: int = MOST_BYTES
    ) -> None:
        self._most_runs = most_runs
        self._most_queued = most_queued
        self._most_bytes = most_bytes
        self._lines: dict[Pipeline, _Line] = {}
        self._running: dict[str, Pipeline] = {}
        self._waiting: dict[str, Pipeline] = {}
        self._inner_running: dict[str, Pipeline] = {}
        self._inner_waiting: dict[str, Pipeline] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._mean = Mean()
        self._ticket = 0

    def __len__(self) -> int:
        """How many wait, nodes of other runs among them."""
        return len(self._waiting) + len(self._inner_waiting)

    @property
    def running(self) -> int:
        """How many have a place of the engine's."""
        return len(self._running)

    def offer(self, run: str, pipeline: Pipeline, *, most_runs: int, most_queued: int, size: int = 0) -> bool:
        """True if the run may begin at once; else it waits. most_runs, most_queued: of this pipeline.

        size: bytes of what it was given. Raises TooManyPipelines: the line is full.
        """
        line = self._lines.setdefault(pipeline, _Line())
        line.most_runs = most_runs
        if len(self._running) < self._most_runs and line.running < most_runs and not (line.waiting or line.inner):
            line.running += 1
            self._running[run] = pipeline
            return True
        if len(line.waiting) >= most_queued:
            self._tidy(pipeline, line)
            why = f"{pipeline[1]}: {line.running} run and {len(line.waiting)} wait, which is what its limits allow"
            raise TooManyPipelines(why, running=line.running, queued=len(line.waiting))
        if len(self._waiting) >= self._most_queued:
            self._tidy(pipeline, line)
            running, queued = len(self._running), len(self._waiting)
            why = f"{running} pipelines run and {queued} wait, which is all there is room for"
            raise TooManyPipelines(why, running=running, queued=queued)
        self._hold(run, pipeline, line, size)
        self._ticket += 1
        line.waiting.append((self._ticket, run))
        self._waiting[run] = pipeline
        return False

    def offer_inner(self, run: str, pipeline: Pipeline, *, most_runs: int, size: int = 0) -> bool:
        """As offer(), of a run that is a node of another. Raises TooManyPipelines: too many such wait."""
        line = self._lines.setdefault(pipeline, _Line())
        line.most_runs = most_runs
        if line.running < most_runs and not line.inner:
            line.running += 1
            self._inner_running[run] = pipeline
            return True
        queued = len(self._inner_waiting)
        if queued >= self._most_queued:
            why = f"{queued} pipelines that are nodes of others wait, which is all there is room for"
            raise TooManyPipelines(why, running=line.running, queued=queued)
        self._hold(run, pipeline, line, size)
        line.inner.append(run)
        self._inner_waiting[run] = pipeline
        return False

    def leave(self, run: str, *, seconds: float | None = None) -> None:
        """The run has ended, or waits no more. seconds: how long it took. Unknown runs are passed over."""
        pipeline = self._running.pop(run, None)
        if pipeline is not None and seconds is not None:
            self._mean.add(seconds)
        pipeline = pipeline or self._inner_running.pop(run, None)
        if pipeline is not None:
            line = self._lines[pipeline]
            line.running -= 1
            if seconds is not None:
                line.mean.add(seconds)
        else:
            pipeline = self._waiting.pop(run, None) or self._inner_waiting.pop(run, None)
            if pipeline is None:
                return
            line = self._lines[pipeline]
            line.waiting = deque(place for place in line.waiting if place[1] != run)
            line.inner = deque(waiting for waiting in line.inner if waiting != run)
            self._bytes -= self._sizes.pop(run)
        self._tidy(pipeline, line)

    def next(self) -> str | None:
        """The run that begins now: a node of another first, then whichever waits longest; None while none may."""
        for pipeline in self._inner_waiting.values():
            line = self._lines[pipeline]
            if line.running < line.most_runs:
                run = line.inner.popleft()
                line.running += 1
                self._inner_running[run] = self._inner_waiting.pop(run)
                self._bytes -= self._sizes.pop(run)
                return run
        if not self._waiting or len(self._running) >= self._most_runs:
            return None
        heads = [
            (line.waiting[0], pipeline)
            for pipeline, line in self._lines.items()
            if line.waiting and line.running < line.most_runs
        ]
        if not heads:
            return None
        (_, run), pipeline = min(heads)
        line = self._lines[pipeline]
        line.waiting.popleft()
        line.running += 1
        self._running[run] = self._waiting.pop(run)
        self._bytes -= self._sizes.pop(run)
        return run

    def place(self, run: str) -> Place | None:
        """Where the run waits; None if it does not."""
        if run in self._inner_waiting:
            line = self._lines[self._inner_waiting[run]]
            position = line.inner.index(run) + 1
            wait_s = None if line.mean.seconds is None else -(-position // line.most_runs) * line.mean.seconds
            return Place(position, wait_s)
        pipeline = self._waiting.get(run)
        if pipeline is None:
            return None
        line = self._lines[pipeline]
        position = next(at for at, waiting in enumerate(self._waiting, start=1) if waiting == run)
        within = next(at for at, (_, waiting) in enumerate(line.waiting, start=1) if waiting == run)
        waits = [
            rounds * mean.seconds
            for rounds, mean in (
                (-(-position // self._most_runs), self._mean),
                (-(-within // line.most_runs), line.mean),
            )
            if mean.seconds is not None
        ]
        return Place(position, max(waits, default=None))

    def waiting(self) -> Iterator[str]:
        """The runs in line, longest waiting first; without those that are nodes of others."""
        return iter(tuple(self._waiting))

    def _hold(self, run: str, pipeline: Pipeline, line: _Line, size: int) -> None:
        """Raises TooManyPipelines: those that wait were given too much."""
        if self._bytes + size > self._most_bytes:
            self._tidy(pipeline, line)
            most = f"{self._most_bytes >> 20} MiB"
            why = f"the inputs of the {len(self)} pipelines that wait are as long as there is room for: {most}"
            raise TooManyPipelines(why, running=len(self._running), queued=len(self))
        self._sizes[run] = size
        self._bytes += size

    def _tidy(self, pipeline: Pipeline, line: _Line) -> None:
        """Forgets what is not known of a pipeline any more: there may be ever new ones."""
        if not (line.running or line.waiting or line.inner) and line.mean.seconds is None:
            del self._lines[pipeline]
