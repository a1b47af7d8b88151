"""What a definition may name: tags, functions and pipelines, as they stand on the bus or in a site's folder. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from contracts.policy import has_device
from contracts.v1.definition import Definition
from contracts.v1.device import DeviceInfo, TagInfo, ValueType
from contracts.v1.function import FunctionInfo
from contracts.v1.pipeline import WORKSPACE
from contracts.v1.plugin import PluginInfo
from contracts.v1.policy import Rights
from services.orchestrator.expression.kinds import Kind

OTHER_DEVICE = "name a device that there is not, such as line/oee"
"""Of a derived tag."""
_FLOATS = frozenset({ValueType.FLOAT32, ValueType.FLOAT64})
_KINDS: Mapping[ValueType, Kind] = {
    ValueType.BOOL: "boolean",
    ValueType.STRING: "string",
    ValueType.ARRAY: "array",
    **dict.fromkeys(_FLOATS, "number"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """devices: by name. functions: of the compute service, by name. pipelines: of the workspace `scope`, by name.

    unreadable: devices whose file cannot be read: nothing is known of them, and nothing is wrong with naming them.
    elsewhere: tags that pipelines of other workspaces derive.
    """

    devices: Mapping[str, DeviceInfo] = field(default_factory=dict)
    functions: Mapping[str, FunctionInfo] = field(default_factory=dict)
    pipelines: Mapping[str, Definition] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    scope: str = WORKSPACE

    @classmethod
    def of(
        cls,
        devices: Iterable[DeviceInfo],
        plugins: Iterable[PluginInfo],
        pipelines: Iterable[Definition],
        *,
        scope: str = WORKSPACE,
        elsewhere: frozenset[str] = frozenset(),
    ) -> "Catalogue":
        """What these messages tell: DEVICE, PLUGIN, and the definitions in PIPELINE."""
        return cls(
            devices={device.device: device for device in devices},
            functions={name: one for plugin in plugins for name, one in (plugin.functions or {}).items()},
            pipelines={one.pipeline: one for one in pipelines},
            scope=scope,
            elsewhere=elsewhere,
        )

    def seen_with(self, rights: Rights) -> "Catalogue":
        """What one who has these rights may know of it."""
        if rights.devices is None:
            return self
        return replace(self, devices={name: one for name, one in self.devices.items() if has_device(rights, name)})

    def tag(self, path: str) -> TagInfo | None:
        """The tag `device/tag` of a gateway's device; None if there is none."""
        device, _, tag = path.partition("/")
        return self.devices[device].tags.get(tag) if device in self.devices else None

    def may_have(self, path: str) -> bool:
        """Whether nothing is known of the device of `device/tag` or `device/group`."""
        return path.partition("/")[0] in self.unreadable

    @property
    def tags(self) -> list[str]:
        """Every tag of a gateway's device, as `device/tag`."""
        return [f"{device.device}/{tag}" for device in self.devices.values() for tag in device.tags]

    def without(self, pipeline: str) -> Mapping[str, Definition]:
        """The pipelines beside this one."""
        return {name: one for name, one in self.pipelines.items() if name != pipeline}


def tag_kind(tag: TagInfo | None) -> Kind:
    """The JSON type of the tag's values."""
    return None if tag is None else _KINDS.get(tag.type, "integer")
