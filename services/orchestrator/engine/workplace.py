"""What all runs work with."""

from dataclasses import dataclass

from plugins.api.clock import Clock
from services.orchestrator.engine.board import Board
from services.orchestrator.engine.chronicle import Chronicle
from services.orchestrator.engine.crew import Crew
from services.orchestrator.engine.executor import Executors
from services.orchestrator.run.node_cache import NodeCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What all runs work with. shadows: the executors of runs that must change nothing."""

    executors: Executors
    shadows: Executors
    cache: NodeCache
    chronicle: Chronicle
    board: Board
    crew: Crew
    clock: Clock
