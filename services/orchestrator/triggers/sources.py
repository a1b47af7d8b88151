"""What triggers that miss nothing listen to: which messages of theirs fire, and how far they have come. Pure."""

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import Any

from contracts.codec import decode
from contracts.v1.backfill import BACKFILL
from contracts.v1.definition import FrameTrigger, TagTrigger
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import decode_header
from contracts.v1.tag import TAG, TagValue
from services.orchestrator.triggers.firings import frame_firing, tag_change, tag_firing
from services.orchestrator.triggers.seen import Seen
from services.orchestrator.triggers.trigger import Firing, TagChange, TagGate

REMEMBERED = 200
"""Messages of a tag that are known again when the broker repeats them; it repeats no more than session.AHEAD."""


def client_id(instance: str, scope: str, pipeline: str, trigger: FrameTrigger | TagTrigger) -> str:
    """Of the session of a trigger: the same as long as it listens to the same for the same pipeline."""
    what = trigger.frame if isinstance(trigger, FrameTrigger) else trigger.tag
    digest = hashlib.sha256(f"{scope}/{pipeline}/{what}".encode()).hexdigest()[:16]
    return f"{instance[:40]}-every-{digest}"


class FrameSource:
    """Every frame of a group that has values, live or out of the gateway's journal after an outage.

    path: `device/group`. begun_us: when the trigger was set up: frames out of a journal that are older are not its own.
    state: what state() gave; None at first. A message's name is `epoch/number`.
    """

    def __init__(self, path: str, *, site: str, begun_us: int, state: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.seen = Seen.of(state or {})
        self._begun_us = begun_us
        device, _, group = path.partition("/")
        self.filters = (
            FRAME.filter(site=site, device=device, group=group),
            BACKFILL.filter(site=site, kind="frame", owner=device, stream=group),
        )

    def name(self, topic: str, payload: bytes) -> str:
        """What tells the message from all others. Raises ContractError."""
        header = decode_header(payload, topic=topic)
        return f"{header.epoch}/{header.seq}"

    def is_done(self, name: str) -> bool:
        """Whether nothing is left to do for it."""
        return self.seen.has(*_place(name))

    def firing(self, topic: str, payload: bytes) -> Firing | None:
        """What the message fires. Raises ContractError."""
        header = decode_header(payload, topic=topic)
        firing = frame_firing(payload, topic=topic, path=self.path)
        live = FRAME.parse(topic) is not None
        own = live or (firing is not None and (firing.trigger.t or 0) >= self._begun_us)
        self.seen.came(header, own=own, announced=tuple(header.backlog or ()) if live else None)
        return firing if own else None

    def done(self, name: str) -> None:
        """Its run is over, or there is none."""
        self.seen.done(*_place(name))

    def state(self) -> dict[str, Any]:
        """As JSON: what a kill must not undo."""
        return self.seen.state()


class TagSource:
    """Every change of a tag that its gate lets through; values that the broker kept for too long have expired.

    path: `device/tag`. state: see FrameSource. A message's name is a digest of it.
    """

    def __init__(self, path: str, *, site: str, deadband: float, state: Mapping[str, Any] | None = None) -> None:
        self.path = path
        state = state or {}
        self._passed = TagChange(**state["passed"]) if state.get("passed") else None
        self._gate = TagGate(deadband=deadband, debounce_s=0.0, last=self._passed)
        self._done = deque[str](state.get("done", ()), maxlen=REMEMBERED)
        self._coming: dict[str, TagChange | None] = {}
        device, _, tag = path.partition("/")
        self.filters = (TAG.filter(site=site, device=device, tag=tag),)

    def name(self, topic: str, payload: bytes) -> str:
        """What tells the message from all others."""
        return hashlib.sha256(payload).hexdigest()[:16]

    def is_done(self, name: str) -> bool:
        """Whether nothing is left to do for it."""
        return name in self._done

    def firing(self, topic: str, payload: bytes) -> Firing | None:
        """What the message fires. Raises ContractError."""
        change = None
        if payload:  # else the tag's topic was cleared
            change = self._gate.take(tag_change(decode(TagValue, payload, topic=topic)), now_s=0.0)
        self._coming[self.name(topic, payload)] = change
        return None if change is None else tag_firing(change, path=self.path)

    def done(self, name: str) -> None:
        """Its run is over, or there is none."""
        if name not in self._done:
            self._done.append(name)
        # How far it has come is what it let through last of those before the first that is not done.
        while self._coming and (first := next(iter(self._coming))) in self._done:
            self._passed = self._coming.pop(first) or self._passed

    def state(self) -> dict[str, Any]:
        """As JSON: what a kill must not undo."""
        return {"passed": self._passed.as_json() if self._passed else None, "done": list(self._done)}


def _place(name: str) -> tuple[int, int]:
    epoch, _, seq = name.partition("/")
    return int(epoch), int(seq)
