"""What an OPC UA device gives: by polls and by a subscription."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from plugins.api.bench import WallClock
from plugins.api.driver import Device, DeviceSpec, Reading
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice


def subscribed(device: Device, group: str = "all") -> AbstractAsyncContextManager[AsyncGenerator[Reading, None]]:
    """Its readings, until the block ends."""
    assert isinstance(device, OpcUaDevice)
    return aclosing(device.subscribe(group))


async def first_of(spec: DeviceSpec) -> Reading:
    """A poll, or the first reading of a subscription, as the group's mode says."""
    reading, _ = await first_with_remarks(spec)
    return reading


async def first_with_remarks(spec: DeviceSpec) -> tuple[Reading, str]:
    """As first_of(), and the device's remarks by then."""
    async with DRIVER.open(spec, clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        if spec.groups[0].options.mode == "poll":
            return await device.read("all"), "\n".join(device.remarks())
        async with subscribed(device) as readings:
            return await anext(readings), "\n".join(device.remarks())


async def exhaust(readings: AsyncIterator[Reading]) -> Sequence[Reading]:
    """All that come until their end."""
    return [reading async for reading in readings]
