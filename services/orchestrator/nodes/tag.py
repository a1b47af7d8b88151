"""Nodes that work with the last-value store: a tag's last value, and tags of the pipeline's own."""

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from pydantic import JsonValue, ValidationError

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.message import Value
from contracts.v1.node import DeriveNode, ReadNode
from contracts.v1.tag import TAG, TagValue
from plugins.api.clock import Clock
from services.orchestrator.engine.executor import Work
from services.orchestrator.errors import NodeFailed
from services.orchestrator.pipelines.version import Name
from services.orchestrator.run.plan import Values
from services.orchestrator.tags import Tags
from services.runtime.bus.bus import Bus
from services.runtime.metrics import Metrics

GOOD = 192


class Owners(Protocol):
    """Knows whose tags are."""

    def foreign(self, tag: str, pipeline: Name) -> str | None:
        """Why the pipeline may not derive `device/tag`, and the mend; None if it may."""

    def on_device(self, listener: Callable[[str], None]) -> None:
        """`listener` is called with the name of each device of a gateway as it comes."""


class LastValueNodes:
    """Reads from the retained topics of tags."""

    def __init__(self, *, tags: Tags) -> None:
        self._tags = tags

    def at_once(self, work: Work) -> Values | None:
        """The tag's last value, if it is known here."""
        found = self._tags.last(*_split(work.node))
        return _outputs(found) if found is not None else None

    async def do(self, work: Work) -> Values:
        """The tag's last value. Raises NodeFailed: it has none."""
        node: ReadNode = work.node
        found = await self._tags.first(*_split(node))
        if found is None:
            raise NodeFailed(Failure(code=ErrorCode.NOT_FOUND, message=f"{node.tag} has no value that is known"))
        return _outputs(found)


class DeriveNodes:
    """Publishes tags of the pipeline's own, retained, as a gateway does those of its devices.

    Whose a tag is was checked when the pipeline was saved, and is again at each value: a device of that name may have
    come since, or a pipeline of another workspace.
    """

    def __init__(self, *, bus: Bus, clock: Clock, owners: Owners, metrics: Metrics) -> None:
        self._bus = bus
        self._clock = clock
        self._owners = owners
        self._drops = metrics.dropped.labels("derived_tags", "foreign")
        self._given: defaultdict[str, set[str]] = defaultdict(set)  # tags by device
        owners.on_device(self._give_up)

    def at_once(self, work: Work) -> Values:
        """Never waits: a value that comes faster than the broker takes them takes the place of the one before.

        Raises NodeFailed: the tag is somebody else's, or its value is none.
        """
        node: DeriveNode = work.node
        device, tag = node.tag.split("/")
        self._check_owner(work, device)
        value, quality = work.inputs.get("value"), work.inputs.get("q", GOOD)
        now = self._clock.now_us() // 1000
        bad = value is None or not quality
        try:
            told = TagValue.model_validate(
                {
                    "value": None if bad else value,
                    "ts": now,
                    "q": 0 if bad else quality,
                    "seen": now,
                    "cause": "derived" if bad or quality != GOOD else None,
                    "unit": node.unit,
                }
            )
        except ValidationError:
            message = f"{node.tag}: a value of type {type(value).__name__} with quality {quality!r} is none of a tag"
            raise NodeFailed(Failure(code=ErrorCode.INVALID, message=message)) from None
        self._given[device].add(tag)
        self._bus.retain(TAG, told, device=device, tag=tag)
        return {"value": value}

    def _check_owner(self, work: Work, device: str) -> None:
        told = self._owners.foreign(work.node.tag, (work.plan.scope, work.plan.pipeline))
        if told is not None:
            self._drops.inc()
            raise NodeFailed(Failure(code=ErrorCode.CONFLICT, message=told))

    def _give_up(self, device: str) -> None:
        """A device of a gateway has come: what was published in its place is not published again over its values."""
        for tag in self._given.pop(device, ()):
            self._bus.disown(TAG, device=device, tag=tag)


def _split(node: ReadNode) -> tuple[str, str]:
    device, _, tag = node.tag.partition("/")
    return device, tag


def _outputs(found: TagValue) -> Values:
    return {"value": json_value(found.value), "q": found.q, "t": found.ts * 1000}


def json_value(value: Value) -> JsonValue:
    """A tag's value as nodes hand it on."""
    return list(value) if isinstance(value, list) else value
