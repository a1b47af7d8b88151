"""Where every run can be seen: the retained RUN topics, bounded in number, rate and length."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from contracts.codec import decode, encode
from contracts.v1.run import RUN, RunState
from plugins.api.clock import Clock
from services.orchestrator.engine.showing import MOST, Showings
from services.runtime.bus.bus import Bus
from services.runtime.bus.outbox import RetainedValue
from services.runtime.mqtt.envelope import envelope_of

_LOOK_S = 30.0
"""How often it is looked at what has been shown for long; the broker forgets it after an hour."""

Key = tuple[str, str]
"""Workspace and run."""


class Shown(Protocol):
    """A run as the board wants it."""

    @property
    def key(self) -> Key:
        """Workspace and run."""
        ...

    @property
    def pipeline(self) -> str:
        """Of which it is a run."""
        ...

    @property
    def active(self) -> bool:
        """Whether something may still happen to it."""
        ...

    def state(self) -> RunState:
        """How it stands now; its rev grows with each call."""
        ...


@dataclass(slots=True)
class _Entry:
    topic: str
    pipeline: str
    run: Shown | None
    data: bytes = b""


class Board:
    """Run by a Supervisor. most: runs that are shown at the same time, active ones beyond it."""

    name = "board"

    def __init__(self, *, site: str, bus: Bus, clock: Clock, most: int = MOST) -> None:
        self._site = site
        self._bus = bus
        self._clock = clock
        self._showings: Showings[Key] = Showings(most=most)
        self._entries: dict[Key, _Entry] = {}
        self._news = asyncio.Event()

    def show(self, run: Shown) -> None:
        """Something about it has changed. Never waits."""
        key, active = run.key, run.active
        entry = self._entries.get(key)
        if entry is None:
            topic = RUN.build(site=self._site, scope=key[0], pipeline=run.pipeline, run=key[1])
            entry = self._entries[key] = _Entry(topic, run.pipeline, run)
        if self._showings.change(key, self._clock.monotonic(), active=active):
            entry.data, entry.run = encode(run.state(), topic=entry.topic), None
            self._retain(entry, partial(_same, entry.data))
            self._take_down_surplus()
        else:
            self._news.set()

    def find(self, scope: str, run: str) -> RunState | None:
        """How the run stands, or has ended; None once that is forgotten."""
        entry = self._entries.get((scope, run))
        if entry is None:
            return None
        return entry.run.state() if entry.run is not None else decode(RunState, entry.data, topic=entry.topic)

    def adopt(self, state: RunState, *, changed: bool) -> None:
        """A run that an earlier session has shown, and that is over. changed: it is to be shown as it is given."""
        key = (state.scope, state.run)
        topic = RUN.build(site=self._site, scope=state.scope, pipeline=state.pipeline, run=state.run)
        entry = self._entries[key] = _Entry(topic, state.pipeline, None, encode(state, topic=topic))
        self._showings.change(key, self._clock.monotonic(), active=False)
        if changed:
            self._retain(entry, partial(_same, entry.data))
        self._take_down_surplus()

    async def run(self) -> None:
        """Shows what falls due, until cancelled."""
        look_s = self._clock.monotonic()
        while True:
            now_s = self._clock.monotonic()
            for key in self._showings.due(now_s):
                self._show_active(self._entries[key])
            if now_s >= look_s:  # at all that is shown, which is not to be gone through at each change
                look_s = now_s + _LOOK_S
                self._look(now_s)
            self._news.clear()
            due_s = self._showings.next_due_s()
            wait_s = _LOOK_S if due_s is None else max(0.0, due_s - self._clock.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()

    def _look(self, now_s: float) -> None:
        """Shows again what the broker would forget, and forgets what the broker has forgotten."""
        for key in self._showings.stale(now_s):
            self._show_active(self._entries[key])
        for key in self._showings.expired(now_s):
            entry = self._entries.pop(key)
            self._bus.disown(RUN, scope=key[0], pipeline=entry.pipeline, run=key[1])

    def _show_active(self, entry: _Entry) -> None:
        run = entry.run
        if run is not None:
            self._retain(entry, lambda _again: encode(run.state(), topic=entry.topic))

    def _take_down_surplus(self) -> None:
        for surplus in self._showings.surplus():
            self._retain(self._entries.pop(surplus), None)

    def _retain(self, entry: _Entry, encoded: Callable[[bool], bytes] | None) -> None:
        self._bus.retain_all([RetainedValue(envelope_of(RUN, entry.topic), encoded)])


def _same(data: bytes, _again: bool) -> bytes:
    return data
