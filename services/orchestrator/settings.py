"""What an orchestrator is told at its start."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from contracts.v1.message import Level
from contracts.v1.pipeline import WORKSPACE
from plugins.api.duration import Seconds
from services.runtime.settings import JournalSettings, Limits, Rate

SECTION = "orchestrator"


class OrchestratorLimits(Limits):
    """A run costs more than a read. acts: an event trigger begins runs no more often, either."""

    reads: Rate = Rate(rate=5000, burst=10_000)
    acts: Rate = Rate(rate=50, burst=100)


class OrchestratorSettings(JournalSettings):
    """The section `orchestrator` of the settings.

    See JournalSettings, and: data: folder of the repository, too. pipelines: folder of definitions that are taken in
    at the start, into this workspace. runs: at the same time; queue: that wait, of all pipelines together.
    shown_runs: kept as retained topics. limits: `acts` are the begin of runs and calls of functions, too.
    drain_runs: how long a stop waits for runs that have begun; it needs drain_s to be a third longer. recorder: the
    instance that answers what is asked of events, for runs that are to be gone through again or shown after long.
    """

    instance: Level = SECTION
    data: Path = Path("data/orchestrator")
    pipelines: Path = Path("pipelines")
    workspace: Level = WORKSPACE
    runs: Annotated[int, Field(ge=1, le=10_000)] = 10
    queue: Annotated[int, Field(ge=0, le=100_000)] = 1000
    shown_runs: Annotated[int, Field(ge=1, le=100_000)] = 1000
    limits: OrchestratorLimits = OrchestratorLimits()
    recorder: Level = "recorder"
    drain_s: Annotated[float, Field(gt=0, le=600)] = 45.0
    drain_runs: Annotated[Seconds, Field(ge=0)] = 30.0
