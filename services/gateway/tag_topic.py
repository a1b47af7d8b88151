"""The topic of one tag: what was last told of it, encoded when it is sent. Pure."""

from contracts.v1.frame import BAD, GOOD
from contracts.v1.tag import TAG
from contracts.v1.tag_codec import TagStruct, encode_tag
from services.gateway.change import Change
from services.gateway.info import wire_value
from services.runtime.mqtt.envelope import envelope_of


class TagTopic:
    """One tag's topic, made once: a burst tells hundreds of tags. unit: of the tag, as told from now on.

    change: what is told from now on. seen_ms: when that was last confirmed.
    """

    __slots__ = ("change", "envelope", "seen_ms", "unit")

    def __init__(self, *, site: str, device: str, tag: str, unit: str | None) -> None:
        self.envelope = envelope_of(TAG, TAG.build(site=site, device=device, tag=tag))
        self.unit = unit
        self.change: Change
        self.seen_ms = 0

    def encode(self, again: bool) -> bytes:
        """The message. again: published again only because the gateway reconnected. Raises ContractError on size."""
        change = self.change
        quality = change.quality
        bad = quality is not None and quality.q == BAD
        value = TagStruct(
            None if bad else wire_value(change.value),
            change.t // 1000,
            quality.q if quality else GOOD,
            self.seen_ms,
            quality.cause if quality else None,
            self.unit,
            again or None,
        )
        return encode_tag(value, topic=self.envelope.topic)
