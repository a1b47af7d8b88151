"""The host's own fields in a device file: their models, and what of them does not fit together. Pure."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, StrictBool

from contracts.topic import LEVEL_PATTERN
from contracts.v1.device import ValueType
from contracts.v1.tag import MAX_SILENCE_S, MIN_INTERVAL_S
from plugins.api.duration import Seconds, parse_duration
from plugins.api.manifest import FunctionManifest, Port
from services.gateway.write_fields import Condition, FailSafe, Settle, write_contradictions

DEFAULT_GATEWAY = "gateway"
AT_ONCE = "0ms"
"""The interval of a group that is polled again as soon as its poll is done."""

NUMERIC = frozenset(ValueType) - {ValueType.BOOL, ValueType.STRING, ValueType.ARRAY}


def level(given: str) -> str:
    """The name itself, if it may stand in a topic. Raises ValueError: what is wrong; what would be right."""
    if re.fullmatch(LEVEL_PATTERN, given):
        return given
    near = re.sub(r"[^a-z0-9_-]+", "-", given.lower()).strip("-_")[:63]
    hint = f"write {near}: " if near else ""
    raise ValueError(
        f"{given!r} cannot be a name; {hint}1 to 63 of a-z 0-9 _ - that begin with a letter or digit (keep the full "
        "name in title)"
    )


def _interval(given: object) -> float:
    if given == AT_ONCE:
        return 0.0
    seconds = parse_duration(given)
    if seconds < 0.001:
        raise ValueError(f"too short; write 1ms or more, or {AT_ONCE} to poll again at once")
    return seconds


def _silence(given: object) -> float:
    seconds = parse_duration(given)
    if not 1 <= seconds <= MAX_SILENCE_S:
        raise ValueError(f"must be 1s to {MAX_SILENCE_S}s: the tag's topic expires; write {MAX_SILENCE_S}s")
    return seconds


def _range(given: object) -> object:
    if not isinstance(given, list) or len(given) != 2:
        raise ValueError("not a range; write [lowest, highest], such as [0, 100]")
    low, high = given
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    if numbers and low >= high:
        mend = f"write [{high}, {low}]" if low > high else "write a highest above the lowest"
        raise ValueError(f"the lowest, {low}, is not below the highest, {high}; {mend}")
    return tuple(given)


Name = Annotated[str, AfterValidator(level)]
Interval = Annotated[float, BeforeValidator(_interval), Field(le=86400)]
Silence = Annotated[float, BeforeValidator(_silence)]
Range = Annotated[tuple[FiniteFloat, FiniteFloat], BeforeValidator(_range)]


class HostFields(BaseModel):
    """Fields that the host knows; it refuses others."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class DeviceFields(HostFields):
    """The file. writes: whether tags may be written at all, and remote: only while a tag says that the device is in
    remote control; connection: all the driver's.

    functions: those that the device has beside its plugin's own, if the driver lets files name some.
    """

    device: Name
    title: str | None = None
    driver: str
    gateway: Name = DEFAULT_GATEWAY
    enabled: StrictBool = True
    writes: Literal["disabled", "enabled"] = "disabled"
    remote: Condition | None = None
    connection: dict[str, Any] = Field(default_factory=dict)
    functions: dict[Any, Any] = Field(default_factory=dict)
    groups: dict[Any, Any]


class GroupFields(HostFields):
    """A poll group. interval: seconds, 0 for AT_ONCE."""

    interval: Interval
    tags: dict[Any, Any]


class TagFields(HostFields):
    """A tag. deadband in the tag's own unit; min_interval, max_silence: seconds between publications of its topic.

    Of a writable tag: tolerance, how far what is read back may be from what was written, in the tag's own unit;
    settle,
    for how long the device may take to hold it; precondition, what must be so just before a write; fail_safe, what is
    written when the writer is gone.
    """

    type: ValueType
    title: str | None = None
    unit: str | None = None
    range: Range | None = None
    deadband: Annotated[FiniteFloat, Field(ge=0)] | None = None
    min_interval: Seconds = MIN_INTERVAL_S
    max_silence: Silence = MAX_SILENCE_S
    writable: StrictBool = False
    tolerance: Annotated[FiniteFloat, Field(ge=0)] | None = None
    settle: Settle | None = None
    precondition: Condition | None = None
    fail_safe: FailSafe | None = None


class FunctionFields(HostFields):
    """A function. inputs, outputs: in the order of the device's own arguments."""

    title: str | None = None
    inputs: dict[Name, Port] = Field(default_factory=dict)
    outputs: dict[Name, Port] = Field(default_factory=dict)
    timeout: Annotated[Seconds, Field(gt=0)] | None = None

    def manifest(self, name: str) -> FunctionManifest:
        """As plugin.yaml would say it."""
        return FunctionManifest(
            title=self.title or name, inputs=self.inputs, outputs=self.outputs, timeout_s=self.timeout
        )


def contradictions(tag: TagFields) -> Iterator[tuple[str, str, str]]:
    """Fields of a tag that do not fit one another, as field, message and mend."""
    if tag.type not in NUMERIC:
        for field in ("range", "deadband", "tolerance"):
            if getattr(tag, field) is not None:
                yield field, f"means nothing for a {tag.type}", "remove it"
    elif tag.writable and tag.range is None:
        yield "range", "is missing on a writable number", "add range: [lowest, highest]; writes outside it are refused"
    given = [field for field in ("tolerance", "settle", "precondition", "fail_safe") if getattr(tag, field) is not None]
    yield from write_contradictions(tag, only_if_writable=given)
    if tag.min_interval > tag.max_silence:
        yield "min_interval", "is longer than max_silence", f"write {tag.max_silence:g}s or less"
