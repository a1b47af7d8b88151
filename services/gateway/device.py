"""A device file without fault, as the gateway works with it. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.v1.device import ValueType
from plugins.api.driver import DeviceSpec
from plugins.api.manifest import FunctionManifest
from plugins.api.registry import Plugin
from services.gateway.write_fields import DEFAULT_SETTLE_S, Condition, FailSafe


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What the host knows of a tag. range: lowest and highest value; deadband, tolerance: in the tag's own unit.

    settle_s: for how long the device may take to hold what was written.
    """

    name: str
    group: str
    type: ValueType
    title: str | None
    unit: str | None
    range: tuple[float, float] | None
    deadband: float | None
    min_interval_s: float
    max_silence_s: float
    writable: bool
    tolerance: float = 0.0
    settle_s: float = DEFAULT_SETTLE_S
    precondition: Condition | None = None
    fail_safe: FailSafe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """A device file without fault.

    line: where it names its device. rev: the same content gives the same revision, whatever its comments and layout.
    gateway: the instance that owns the device. tags: in the order of the file. remote: what must be so for a write.
    """

    source: str
    line: int
    rev: str
    title: str | None
    gateway: str
    enabled: bool
    writes: bool
    plugin: Plugin
    spec: DeviceSpec
    tags: Mapping[str, Tag]
    place: str
    remote: Condition | None = None

    @property
    def name(self) -> str:
        """The device's name."""
        return self.spec.name

    @property
    def functions(self) -> Mapping[str, FunctionManifest]:
        """What can be called on the device: the plugin's functions and those that the file names."""
        return {**self.plugin.manifest.functions, **{one.name: one.ports for one in self.spec.functions}}
