"""What all runs work with."""

from dataclasses import dataclass

from plugins.api.clock import Clock
from services.orchestrator.board import Board
from services.orchestrator.chronicle import Chronicle
from services.orchestrator.crew import Crew
from services.orchestrator.executor import Executors
from services.orchestrator.node_cache import NodeCache


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
