"""What a driver's behaviour is tried on: a simulated device, and what can be done to it."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from contracts.v1.device import ValueType
from plugins.api.driver import DeviceSpec, Driver, GroupSpec, TagSpec, Value
from plugins.api.duration import parse_duration


class WallClock:
    """The machine's clock, as the gateway's."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()


class LocalBench(Protocol):
    """A driver, and a device of it that this process itself is, so that it is always there.

    device: the device, answering. written: a value for each writable tag, other than the one that it has at first.
    """

    driver: Driver
    device: DeviceSpec
    written: Mapping[str, Value]


class Bench(LocalBench, Protocol):
    """A driver, a simulated device that runs, and what can be done to it.

    device: the device, served by the simulator.
    absent: a device of the same kind at an address where nothing answers.
    deadline_s: the longest that one call may take on a device that says nothing, retries included.
    """

    absent: DeviceSpec
    deadline_s: float

    async def stall(self) -> None:
        """From now on the device takes requests and answers none."""
        ...

    async def asked(self) -> None:
        """Returns as soon as the stalled device has taken a request (at once if it has since stall())."""
        ...

    async def resume(self) -> None:
        """The device answers again."""
        ...

    async def drop(self) -> None:
        """The device breaks off every connection, and would take new ones."""
        ...

    async def change(self, tag: str, value: Value) -> None:
        """The tag's value in the device becomes `value`."""
        ...

    def writes_taken(self) -> int:
        """How many write requests have reached the device so far."""
        ...


def device_spec(
    driver: Driver, *, connection: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]], name: str = "device"
) -> DeviceSpec:
    """The spec of a device from the content of a device file's `connection` and `groups`.

    The fields that belong to the host (interval, title, unit, ...) may stand there; of them only `interval` (default
    1s), `type` and `writable` are looked at. Raises pydantic.ValidationError where the driver's models refuse a field.
    """
    return DeviceSpec(
        name=name,
        connection=driver.connection.model_validate(connection),
        groups=tuple(_group_spec(driver, group, content) for group, content in groups.items()),
    )


def _group_spec(driver: Driver, name: str, content: Mapping[str, Any]) -> GroupSpec:
    options = {key: value for key, value in content.items() if key not in {"interval", "tags"}}
    tags = tuple(
        TagSpec(
            name=tag,
            type=ValueType(fields["type"]),
            source=driver.tag.model_validate({key: fields[key] for key in fields if key not in _HOST_FIELDS}),
            writable=bool(fields.get("writable", False)),
        )
        for tag, fields in content["tags"].items()
    )
    return GroupSpec(
        name=name,
        interval_s=parse_duration(content.get("interval", "1s")),
        tags=tags,
        options=driver.group.model_validate(options),
    )


_HOST_FIELDS = frozenset(
    {"type", "title", "unit", "range", "deadband", "min_interval", "max_silence"}
    | {"writable", "tolerance", "settle", "precondition", "fail_safe"}
)
