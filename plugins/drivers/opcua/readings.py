"""What one publication of a subscription, or one read, becomes. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Reading, TagSpec, Value

from .values import FLOATS, read_value
from .wire import Item


class _Layer:
    """At most one value of each tag."""

    __slots__ = ("quality", "times", "values")

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.quality: dict[str, QualityStruct] = {}
        self.times: dict[str, int] = {}

    def reading(self, now: int) -> Reading:
        """All of it at the latest source time; at `now`, in µs, if there is none."""
        latest = max(self.times.values(), default=now)
        offsets = {name: time - latest for name, time in self.times.items() if time != latest}
        return Reading(latest, self.values, self.quality, offsets)


def readings_of(items: Iterable[Item], tags: Mapping[int, TagSpec], *, now: int) -> Sequence[Reading]:
    """One Reading for the first value of each tag, another for the second, and so on: no value hides another.

    A Reading's time is the newest of its values' source times; the others stand in dt.
    tags: by the items' handles. now: time in microseconds of what came without one, as a node that is missing does.
    """
    layers = [_Layer()]
    for handle, raw, code, time in items:
        tag = tags[handle]
        name, kind = tag.name, tag.type
        value: Value
        # Nearly every value is a good number; x - x is NaN, not 0, where x is NaN or infinite.
        if type(raw) is float and not code and raw - raw == 0.0 and kind in FLOATS:
            value, quality = raw, None
        else:
            value, quality = read_value(raw, code, kind)
        layer = layers[0]
        if name in layer.values:
            layer = _layer_without(name, layers)
        layer.values[name] = value
        if quality is not None:
            layer.quality[name] = quality
        layer.times[name] = now if time is None else time
    return [layer.reading(now) for layer in layers if layer.values]


def _layer_without(name: str, layers: list[_Layer]) -> _Layer:
    for layer in layers:
        if name not in layer.values:
            return layer
    layers.append(_Layer())
    return layers[-1]
