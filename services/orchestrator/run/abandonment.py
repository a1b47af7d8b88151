"""How steps are given up: nobody waits any more for what is under way for them. Pure."""

from contracts.v1.run import NodeStatus
from services.orchestrator.run.agenda import Agenda
from services.orchestrator.run.failures import BROKEN_OFF, plain
from services.orchestrator.run.passage import Passage


def abandon(passage: Passage, agenda: Agenda, now_us: int) -> None:
    """Nothing more happens in this passage: what is under way is stopped, what waits is skipped."""
    passage.over = True
    for index, mark in enumerate(passage.marks):
        if mark.status is NodeStatus.RUNNING:
            drop_work(passage, index, agenda, now_us)
            mark.error = BROKEN_OFF
            passage.settle(index, NodeStatus.FAILED, now_us)
            agenda.tell("node.failed", node=passage.name_of(index), error=plain(BROKEN_OFF), tries=mark.tries)
        elif mark.status is NodeStatus.WAITING:
            passage.settle(index, NodeStatus.SKIPPED, now_us)
            agenda.tell("node.skipped", node=passage.name_of(index))


def drop_work(passage: Passage, index: int, agenda: Agenda, now_us: int) -> None:
    """Whatever is under way for the step is nobody's any more."""
    mark = passage.marks[index]
    for number in (mark.call, mark.timer):
        if number is not None:
            agenda.stop(number)
    mark.call = mark.timer = None
    if mark.turns is not None:
        turns, mark.turns = mark.turns, None
        for turn in turns.under_way.values():
            abandon(turn, agenda, now_us)
