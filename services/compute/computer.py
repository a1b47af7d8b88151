"""Computes a function: checks its inputs, looks whether the result is known, and judges how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.message import Value
from plugins.api.clock import Clock
from plugins.api.ports import check_inputs, taken_inputs
from services.compute.backend import Backend, BackendFull, BackendLost, WorkerDied
from services.compute.cache import Cache, Result, key_of
from services.compute.flights import Begun, Flights
from services.compute.job import Job
from services.compute.library import Function, Library
from services.compute.quarantine import Quarantine
from services.runtime.logs import Log
from services.runtime.metrics import Metrics


class ComputeFailed(Exception):
    """The function gave no outputs, and this is why."""

    def __init__(self, code: ErrorCode, message: str, *, detail: Mapping[str, Value] | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, detail=dict(detail or {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be computed. until_s: by when, on the clock's monotonic(). most_age_s: of a result that is known.

    begun: is called once it is computed, if it has to be.
    """

    function: str
    inputs: Mapping[str, Any]
    until_s: float
    begun: Begun
    version: str | None = None
    most_age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The result; cached: it was known already."""

    result: Result
    cached: bool = field(default=False)


class Computer:
    """timeout_s, memory_mb: limits of a function whose plugin.yaml names none."""

    def __init__(
        self,
        *,
        backend: Backend,
        cache: Cache,
        quarantine: Quarantine,
        timeout_s: float,
        memory_mb: int,
        metrics: Metrics,
        clock: Clock,
        log: Log,
    ) -> None:
        self._backend = backend
        self._cache = cache
        self._flights: Flights[Result] = Flights()
        self._quarantine = quarantine
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._metrics = metrics
        self._clock = clock
        self._log = log

    async def compute(self, wish: Wish, library: Library) -> Computed:
        """What the function gives; of a pure one, what it gave before or is giving to another who asks the same.

        Raises ComputeFailed, BackendFull. Cancelled, it ends the work that nobody else waits for.
        """
        function = _found(wish, library)
        job = self._job(function, wish)
        if not function.promised.pure:
            return Computed(result=await self._executed(function, job, wish.until_s, wish.begun))
        key = _key(function, job)
        known = self._cache.get(key, now_s=self._clock.monotonic(), most_age_s=wish.most_age_s)
        if known is not None:
            return Computed(result=known, cached=True)
        while True:
            mine = False

            async def compute(begun: Begun) -> Result:
                """For whoever asks for the same meanwhile, too. Raises ComputeFailed."""
                nonlocal mine
                mine = True
                return await self._kept(key, function, job, wish.until_s, begun)

            try:
                return Computed(result=await self._flights.share(key, compute, wish.begun))
            except ComputeFailed as error:
                # The time of who asked first was over; ours may not be.
                if mine or error.failure.code is not ErrorCode.TIMEOUT or self._left_s(wish.until_s) <= 0:
                    raise

    def _job(self, function: Function, wish: Wish) -> Job:
        refusal = self._quarantine.refusal(function.name, function.version.build)
        if refusal is not None:
            raise ComputeFailed(ErrorCode.COMPUTE_FAILED, refusal)
        faults = check_inputs(function.promised.inputs, wish.inputs)
        if faults:
            raise ComputeFailed(ErrorCode.INVALID, f"{function.name}: {'; '.join(faults)}")
        inputs = taken_inputs(function.promised.inputs, wish.inputs)
        memory_mb = function.promised.memory_mb or self._memory_mb
        return Job(function.version.manifest.id, function.name, inputs, memory_mb)

    async def _kept(self, key: bytes, function: Function, job: Job, until_s: float, begun: Begun) -> Result:
        result = await self._executed(function, job, until_s, begun)
        self._cache.put(key, result, now_s=self._clock.monotonic())
        self._metrics.compute_cache_bytes.set(self._cache.held_bytes)
        return result

    async def _executed(self, function: Function, job: Job, until_s: float, begun: Begun) -> Result:
        own_s = function.promised.timeout_s or self._timeout_s
        left_s = self._left_s(until_s)
        if left_s <= 0:
            raise ComputeFailed(ErrorCode.TIMEOUT, "its deadline had passed before it began")
        begun_s = self._clock.monotonic()
        try:
            answer = await self._backend.compute(job, limit_s=min(own_s, left_s), begun=begun)
        except BackendLost as error:
            raise _lost(function, str(error)) from error
        except WorkerDied as error:
            raise self._killed(function, str(error), ErrorCode.COMPUTE_FAILED) from error
        except TimeoutError as error:
            if own_s <= left_s:
                raise self._killed(function, f"it was not done within {own_s:g} s", ErrorCode.TIMEOUT) from error
            raise ComputeFailed(ErrorCode.TIMEOUT, f"{function.name}: not done by its deadline") from error
        except (OverflowError, TypeError) as error:
            raise ComputeFailed(ErrorCode.INVALID, f"{function.name}: its inputs cannot be sent: {error}") from error
        finally:
            self._metrics.compute_seconds.observe(self._clock.monotonic() - begun_s)
        if answer.outputs is None:
            told, code = function.version.told(answer.message), ErrorCode(answer.fault or ErrorCode.COMPUTE_FAILED)
            if answer.fatal:
                raise self._killed(function, told, code)
            raise ComputeFailed(code, f"{function.name}: {told}")
        return Result(answer.outputs, answer.seconds)

    def _killed(self, function: Function, why: str, code: ErrorCode) -> ComputeFailed:
        """It has cost a worker."""
        now_s = self._clock.monotonic()
        self._log.error("worker_killed", function=function.name, why=why)
        if self._quarantine.death(function.name, function.version.build, why=why, now_s=now_s):
            self._log.error("function_quarantined", function=function.name, version=function.version.manifest.version)
        return ComputeFailed(code, f"{function.name}: {why}")

    def _left_s(self, until_s: float) -> float:
        return until_s - self._clock.monotonic()


def _lost(function: Function, why: str) -> Exception:
    """A pure function may be asked of another service."""
    if function.promised.pure:
        return BackendFull(why)
    told = f"{function.name}: {why}; it is not pure, so it is not done again: whether it was done is unknown"
    return ComputeFailed(ErrorCode.UNAVAILABLE, told)


def _found(wish: Wish, library: Library) -> Function:
    function = library.functions.get(wish.function)
    if function is None:
        there = ", ".join(sorted(library.functions)) or "none"
        raise ComputeFailed(ErrorCode.NOT_FOUND, f"no function {wish.function!r}; there are: {there}")
    version = function.version.manifest.version
    if wish.version not in {None, version}:
        raise ComputeFailed(ErrorCode.NOT_FOUND, f"{wish.function} is here in version {version}, not {wish.version}")
    return function


def _key(function: Function, job: Job) -> bytes:
    try:
        return key_of(function.name, function.version.build, job.inputs)
    except (OverflowError, TypeError) as error:
        raise ComputeFailed(ErrorCode.INVALID, f"{function.name}: its inputs cannot be sent: {error}") from error
