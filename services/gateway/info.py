"""What the gateway says of its devices, tags and plugins, as messages. Pure."""

from collections.abc import Mapping, Sequence

from contracts.v1.command import ReadResult
from contracts.v1.device import DeviceInfo, GroupInfo, TagInfo, tag_hash
from contracts.v1.frame import Quality
from contracts.v1.frame_codec import wire_integer
from contracts.v1.plugin import PluginInfo
from plugins.api.driver import Reading, Value
from plugins.api.registry import Plugin
from services.gateway.device_file import DeviceFile, Tag

POLL, SUBSCRIBE, CONTINUOUS = "poll", "subscribe", "continuous"
_LEAST_INTERVAL_S = 0.001
"""What DeviceInfo says of a group that is polled again at once: the contract knows no interval of zero."""


def device_info(
    device: DeviceFile, *, instance: str, epochs: Mapping[str, int], subscribed: frozenset[str]
) -> DeviceInfo:
    """The device's description. epochs: of each group's stream. subscribed: the groups that push their changes."""
    groups = {
        group.name: GroupInfo(
            interval_s=max(group.interval_s, _LEAST_INTERVAL_S),
            epoch=epochs[group.name],
            mode=SUBSCRIBE if group.name in subscribed else POLL if group.interval_s else CONTINUOUS,
        )
        for group in device.spec.groups
    }
    return DeviceInfo(
        device=device.name,
        driver=device.plugin.manifest.id,
        gateway=instance,
        rev=device.rev,
        tags={name: _tag_info(tag, writable=tag.writable and device.writes) for name, tag in device.tags.items()},
        groups=groups,
        tag_count=len(device.tags),
        tag_hash=tag_hash(device.tags),
        title=device.title,
        functions={name: ports.info for name, ports in device.functions.items()} or None,
    )


def plugin_info(plugin: Plugin, *, instance: str, since_ms: int, error: str | None) -> PluginInfo:
    """The plugin as this instance has loaded it. since_ms: milliseconds since 1970 UTC."""
    manifest = plugin.manifest
    return PluginInfo(
        id=manifest.id,
        kind=manifest.kind,
        version=manifest.version,
        title=manifest.title,
        instance=instance,
        since=since_ms,
        error=error,
    )


def read_result(readings: Sequence[Reading]) -> ReadResult:
    """What a device gave when it was asked, at least one reading."""
    quality = {
        tag: Quality(q=poor.q, cause=poor.cause, code=poor.code)
        for reading in readings
        for tag, poor in reading.quality.items()
    }
    return ReadResult(
        t=min(reading.t for reading in readings),
        values={tag: wire_value(value) for reading in readings for tag, value in reading.values.items()},
        q=quality or None,
    )


def wire_value(value: Value) -> Value:
    """The value as it travels on a tag topic or in a reply: a big integer as a string."""
    return wire_integer(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _tag_info(tag: Tag, *, writable: bool) -> TagInfo:
    return TagInfo(
        type=tag.type,
        group=tag.group,
        title=tag.title,
        unit=tag.unit,
        range=tag.range,
        deadband=tag.deadband,
        writable=writable,
    )
