"""What one publication of a subscription, or one read, becomes. Pure."""

from collections.abc import Iterable, Sequence

from asyncua import ua

from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Reading, TagSpec, Value

from .values import read_value, source_time


class _Layer:
    """At most one value of each tag."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.quality: dict[str, QualityStruct] = {}
        self.times: dict[str, int] = {}

    def add(self, tag: TagSpec, data: ua.DataValue) -> None:
        value, quality = read_value(data, tag.type)
        self.values[tag.name] = value
        if quality is not None:
            self.quality[tag.name] = quality
        time = source_time(data)
        if time is not None:
            self.times[tag.name] = time

    def reading(self, now: int) -> Reading:
        latest = max(self.times.values(), default=now)
        offsets = {name: time - latest for name, time in self.times.items() if time != latest}
        return Reading(latest, self.values, self.quality, offsets)


def readings_of(items: Iterable[tuple[TagSpec, ua.DataValue]], *, now: int) -> Sequence[Reading]:
    """One Reading for the first value of each tag, another for the second, and so on: no value hides another.

    now: time in microseconds where no value came with one, as nodes that are missing do.
    """
    layers: list[_Layer] = []
    depth: dict[str, int] = {}
    for tag, data in items:
        at = depth.get(tag.name, 0)
        depth[tag.name] = at + 1
        if at == len(layers):
            layers.append(_Layer())
        layers[at].add(tag, data)
    return [layer.reading(now) for layer in layers]
