"""Finds variables of which the server tells nothing any more: many say not a word when a watched node goes, or is
made anew by a changed PLC program, and what is watched then is the dead one."""

from collections.abc import Iterable, Sequence

from asyncua import ua

from .wire import Item

GONE = frozenset({ua.StatusCodes.BadNodeIdUnknown, ua.StatusCodes.BadNodeIdInvalid})
"""The status of a node that is not there."""


class Audit:
    """Compares what the server tells by itself with what it answers when asked. Pure.

    watched: the handles that are watched, in the order in which they are asked for, a part after another.
    """

    def __init__(self) -> None:
        self._heard: set[int] = set()
        self._held: dict[int, str] = {}
        self._suspects: set[int] = set()
        self._at = 0

    def hear(self, items: Iterable[Item]) -> None:
        """These were told by the server itself."""
        self._heard.update([item[0] for item in items])

    def next(self, watched: Sequence[int], most: int) -> Sequence[int]:
        """Which are to be asked for now, at most so many; all come in turn."""
        if self._at >= len(watched):
            self._at = 0
        part = watched[self._at : self._at + most]
        self._at += len(part)
        return part

    def judge(self, answers: Sequence[Item], *, filtered: Iterable[int]) -> tuple[Sequence[Item], Sequence[int]]:
        """From the answers for a part, with their handles: those that are gone, and the handles of those that are deaf.

        A variable is deaf if its value was another than the time before, and the server has not told so until the time
        after. filtered: handles of those whose small changes the server need not tell.
        """
        silent = set(filtered)
        gone: list[Item] = []
        deaf: list[int] = []
        for handle, value, code, _ in answers:
            told = repr((value, code))
            changed = self._held.get(handle, told) != told
            heard = handle in self._heard
            self._heard.discard(handle)
            self._held[handle] = told
            if code & 0xFFFF_0000 in GONE:
                gone.append((handle, None, code, None))
            elif handle in self._suspects and not heard:
                deaf.append(handle)
            elif changed and not heard and handle not in silent:
                self._suspects.add(handle)
                continue
            self._suspects.discard(handle)
        for handle in (*deaf, *(item[0] for item in gone)):
            self._held.pop(handle, None)
        return gone, deaf
