"""The turns of a loop: which are due, with what, and what came of them. Pure."""

from collections.abc import Iterator

from pydantic import JsonValue

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.node import ITEM, OUTER, STATE
from services.orchestrator.run.carried import MOST_BYTES, carried_bytes, too_long
from services.orchestrator.run.passage import Passage, Spaces
from services.orchestrator.run.plan import Each, Repeat, Values


class LoopFailed(Exception):
    """A loop cannot go on."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message)


class EachTurns:
    """Of a for-each: several turns at a time, each with its item. given: the loop's inputs, and what is around it."""

    def __init__(self, loop: Each, items: JsonValue, given: Values, around: Spaces) -> None:
        if not isinstance(items, list):
            raise LoopFailed(ErrorCode.INVALID, f"items is {_told(items)}, not a list")
        if len(items) > loop.most:
            raise LoopFailed(ErrorCode.INVALID, f"there are {len(items)} items; at most {loop.most} may be")
        self.body = loop.body
        self.under_way: dict[int, Passage] = {}
        self._loop = loop
        self._items = items
        self._around = {**around, OUTER: given}
        self._next = 0
        self._values: list[JsonValue] = [None] * len(items)
        self._bytes = 0

    def due(self) -> Iterator[tuple[int, Spaces]]:
        """See Turns."""
        while self._next < len(self._items) and len(self.under_way) < self._loop.concurrency:
            index, self._next = self._next, self._next + 1
            yield index, {**self._around, ITEM: {"value": self._items[index], "index": index}}

    def end(self, turn: Passage) -> None:
        """See Turns."""
        del self.under_way[turn.number]
        if self._loop.output is not None:
            value = self._values[turn.number] = turn.value(self._loop.output)
            self._bytes += carried_bytes({"": value})
            if self._bytes > MOST_BYTES:
                raise too_long()

    @property
    def outputs(self) -> Values | None:
        """See Turns."""
        if self.under_way or self._next < len(self._items):
            return None
        return {"values": self._values if self._loop.output is not None else [], "count": len(self._items)}


class RepeatTurns:
    """Of a while: one turn after the other, each with the state that the one before has left."""

    def __init__(self, loop: Repeat, given: Values, around: Spaces) -> None:
        self.body = loop.body
        self.under_way: dict[int, Passage] = {}
        self._loop = loop
        self._given = given
        self._around = {**around, OUTER: given}
        self._state = dict(loop.state)
        self._rounds = 0
        self._over = False

    def due(self) -> Iterator[tuple[int, Spaces]]:
        """See Turns."""
        if self.under_way or self._over:
            return
        if not self._loop.formula({**self._given, **self._state}):
            self._over = True
            return
        if self._rounds >= self._loop.most:
            raise LoopFailed(ErrorCode.TIMEOUT, f"its condition is still true after {self._loop.most} rounds")
        self._rounds += 1
        yield self._rounds - 1, {**self._around, STATE: self._state}

    def end(self, turn: Passage) -> None:
        """See Turns."""
        del self.under_way[turn.number]
        state = {**self._state, **{name: turn.value(source) for name, source in self._loop.next.items()}}
        carried_bytes(state)
        self._state = state

    @property
    def outputs(self) -> Values | None:
        """See Turns."""
        return {**self._state, "rounds": self._rounds} if self._over else None


def _told(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
