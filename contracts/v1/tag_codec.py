"""The fast way to the JSON of a TagValue: hundreds of tags change at one poll, and frames wait behind them.

contracts/v1/tag.py stays the contract: a property test holds this codec to it.
"""

import msgspec

from contracts.codec import check_size
from contracts.v1.frame_codec import WireValue


class TagStruct(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """See contracts.v1.tag.TagValue."""

    value: WireValue
    ts: int
    q: int
    seen: int
    cause: str | None = None
    unit: str | None = None
    snapshot: bool | None = None


_ENCODER = msgspec.json.Encoder()


def encode_tag(tag: TagStruct, *, topic: str) -> bytes:
    """The tag's value as UTF-8 JSON; the caller has put no NaN or infinity in it. Raises ContractError on size."""
    data = _ENCODER.encode(tag)
    check_size(data, topic=topic)
    return data
