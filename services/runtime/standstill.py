"""Ends a process whose event loop stands still: docker compose restarts what has ended, never what is unhealthy."""

import asyncio
import faulthandler
import os
import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import Self

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: the process has met a fault of its own."""

_LOOKS = 60
_TELL_S = 2.0


class Standstill:
    """Watches the loop that it is entered in from a thread of its own, and ends the process after limit_s of silence.

    It counts looks, not seconds: while the whole process is stopped (`docker pause`, a suspended machine) it looks no
    more than the loop runs, so that nothing ends when it goes on. A library that never lets go of the interpreter's
    lock stops this thread too; then only /health, which does not answer either, tells.
    """

    def __init__(self, *, limit_s: float, end: Callable[[int], object] = os._exit) -> None:
        """limit_s: > 0. end: is called with EXIT_CODE, from the thread, after every thread's traceback is on stderr."""
        self._every_s = limit_s / _LOOKS
        self._limit_s = limit_s
        self._end = end
        self._over = Event()
        self._answered = Event()
        self._watcher = Thread(target=self._watch, args=(asyncio.get_running_loop(),), name="standstill", daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        silent = 0
        self._ask(loop)
        while not self._over.wait(self._every_s):
            if self._answered.is_set():
                silent = 0
                self._ask(loop)
                continue
            silent += 1
            if silent >= _LOOKS:
                self._tell()
                self._end(EXIT_CODE)
                return

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        self._answered.clear()
        loop.call_soon_threadsafe(self._answered.set)

    def _tell(self) -> None:
        """Past the logs, which may be what hangs; and not for ever, since stderr may be."""
        telling = Thread(target=_write_traces, args=(self._limit_s,), name="standstill.traces", daemon=True)
        telling.start()
        telling.join(_TELL_S)


def _write_traces(limit_s: float) -> None:
    descriptor = sys.__stderr__.fileno() if sys.__stderr__ else 2
    os.write(descriptor, f"the event loop has stood still for {limit_s:.0f} s: this process ends itself\n".encode())
    faulthandler.dump_traceback(descriptor, all_threads=True)
