"""Nodes that work with the last-value store: a tag's last value, and tags of the pipeline's own."""

from pydantic import JsonValue, ValidationError

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.message import Value
from contracts.v1.node import DeriveNode, ReadNode
from contracts.v1.tag import TAG, TagValue
from plugins.api.clock import Clock
from services.orchestrator.engine.executor import Work
from services.orchestrator.errors import NodeFailed
from services.orchestrator.run.plan import Values
from services.orchestrator.tags import Tags
from services.runtime.bus.bus import Bus

GOOD = 192


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
    """Publishes tags of the pipeline's own, retained, as a gateway does those of its devices."""

    def __init__(self, *, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    def at_once(self, work: Work) -> Values:
        """Never waits: a value that comes faster than the broker takes them takes the place of the one before."""
        node: DeriveNode = work.node
        device, tag = node.tag.split("/")
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
        self._bus.retain(TAG, told, device=device, tag=tag)
        return {"value": value}


def _split(node: ReadNode) -> tuple[str, str]:
    device, _, tag = node.tag.partition("/")
    return device, tag


def _outputs(found: TagValue) -> Values:
    return {"value": json_value(found.value), "q": found.q, "t": found.ts * 1000}


def json_value(value: Value) -> JsonValue:
    """A tag's value as nodes hand it on."""
    return list(value) if isinstance(value, list) else value
