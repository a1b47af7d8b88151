"""Where jobs are computed: in processes of this service, or on a cluster that there is already."""

from collections.abc import Callable, Sequence
from typing import Protocol

from services.compute.job import Answer, Job, Source


class BackendFull(Exception):
    """Nobody is free to compute, nor will be soon: another service may be."""


class BackendLost(Exception):
    """What computed is away, and the job with it, through no fault of the function: whether it was done is unknown."""


class WorkerDied(Exception):
    """The process that computed has ended; the text says how."""


class Backend(Protocol):
    """Computes jobs. A Part (see services.runtime.lifecycle)."""

    @property
    def name(self) -> str:
        """Names the part in logs."""
        ...

    async def run(self) -> None:
        """Works until stop()."""
        ...

    async def stop(self) -> None:
        """Gives up what is still computed."""
        ...

    @property
    def state(self) -> str:
        """One line about the workers, for /health."""
        ...

    @property
    def ready(self) -> bool:
        """Whether something can be computed now, or soon."""
        ...

    async def probe(self, source: Source) -> str | None:
        """Loads a plugin in a process of its own, that alone it can harm; gives what is wrong with it."""
        ...

    async def renew(self, sources: Sequence[Source]) -> None:
        """These are the plugins from now on; returns when jobs that come are computed with them. Jobs under way go on
        with what they have."""
        ...

    async def compute(self, job: Job, *, limit_s: float, begun: Callable[[], None]) -> Answer:
        """What comes of the job; `begun` is called once it is computed. Cancelled, it ends the work too.

        Raises BackendFull, BackendLost, WorkerDied, and TimeoutError limit_s after the begin, when the work has been
        ended; OverflowError, TypeError on inputs that cannot be sent.
        """
        ...
