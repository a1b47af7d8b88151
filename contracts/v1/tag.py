"""The last value of one tag, flat as SCADA and HMI tools read it."""

from typing import Annotated

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.message import Message, Millis, Value, is_absent

MAX_SILENCE_S = 60
MIN_INTERVAL_S = 0.2


class TagValue(Message):
    """The last value of a tag. Published on change beyond the deadband and at least every max_silence.

    value: null whenever q is 0; an integer beyond 2^53 - 1 is a string (device info tells the type).
    ts: source time of the value. seen: when the gateway last confirmed it.
    q: 192 good, 64 uncertain, 0 bad. cause: why it is not good.
    snapshot: true when published again only because the gateway reconnected.
    """

    value: Value
    ts: Millis
    q: Annotated[int, Field(ge=0, le=255)]
    seen: Millis
    cause: str | None = Field(default=None, exclude_if=is_absent)
    unit: str | None = Field(default=None, exclude_if=is_absent)
    snapshot: bool | None = Field(default=None, exclude_if=is_absent)


TAG = Topic(
    name="TAG",
    pattern="tag/{device}/{tag}",
    payload=TagValue,
    retain=True,
    expiry_s=3 * MAX_SILENCE_S,
    writers=("gateway", "orchestrator"),
    about="The last value of one tag: what an HMI reads.",
)
