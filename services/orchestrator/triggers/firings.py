"""What messages fire. Pure."""

from typing import Any

from contracts.v1.event import Event
from contracts.v1.frame_codec import decode_frame
from contracts.v1.run import RunTrigger
from contracts.v1.tag import TagValue
from services.orchestrator.triggers.trigger import Firing, TagChange


def frame_firing(data: bytes, *, topic: str, path: str) -> Firing | None:
    """What a frame fires: one run, which knows the newest sample's values and all samples; None if it has none.

    Raises ContractError.
    """
    frame = decode_frame(data, topic=topic)
    if not frame.samples:
        return None
    newest = frame.samples[-1]
    samples: Any = [{"t": sample.t, "values": dict(sample.v)} for sample in frame.samples]
    return Firing(
        trigger=RunTrigger(kind="frame", by=path, t=newest.t, epoch=frame.epoch, seq=frame.seq),
        values={"values": samples[-1]["values"], "samples": samples},
    )


def tag_change(value: TagValue) -> TagChange:
    """A tag's value as a change."""
    return TagChange(value=value.value, q=value.q, t_us=value.ts * 1000)


def tag_firing(change: TagChange, *, path: str) -> Firing:
    """What a change of a tag fires."""
    values = {"value": change.value, "q": change.q}
    return Firing(trigger=RunTrigger(kind="tag", by=path, t=change.t_us), values=values)  # type: ignore[arg-type]


def event_firing(event: Event) -> Firing:
    """What an event fires."""
    data = {**event.data, "type": event.type, "aggregate_id": event.aggregate_id}
    by = f"{event.aggregate}/{event.aggregate_id} {event.type}"
    return Firing(trigger=RunTrigger(kind="event", by=by, t=event.t), values={"data": data})
