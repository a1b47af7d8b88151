"""Follows a site's retained topics with the account `viewer`."""

from collections.abc import Callable

from contracts.v1.device import DEVICE, DEVICE_STATE, DeviceInfo, DeviceState
from contracts.v1.service import SERVICE, ServiceState
from contracts.v1.tag import TAG, TagValue
from services.cli.picture import Picture
from services.runtime.bus import Bus, Delivery

MOST_TOPICS = 200_000
"""As many as the broker queues for one client (services.cli.broker_config)."""

OnValue = Callable[[str, str, TagValue], None]


def _unheard(device: str, tag: str, value: TagValue) -> None:
    del device, tag, value


class Viewer:
    """Keeps a picture up to date with the bus. Subscribes when made; the caller runs the bus.

    on_value: is told of each tag value after the picture has it: device, tag, value.
    """

    def __init__(self, *, bus: Bus, picture: Picture, on_value: OnValue = _unheard) -> None:
        self._picture = picture
        self._on_value = on_value
        # Descriptions before values: a broker sends retained topics in the order of subscription.
        bus.subscribe(DEVICE, self._on_device, queue_size=MOST_TOPICS)
        bus.subscribe(DEVICE_STATE, self._on_device_state, queue_size=MOST_TOPICS)
        bus.subscribe(SERVICE, self._on_service, queue_size=MOST_TOPICS)
        bus.subscribe(TAG, self._on_tag, queue_size=MOST_TOPICS)

    async def _on_device(self, delivery: Delivery[DeviceInfo]) -> None:
        self._picture.devices[delivery.levels["device"]] = delivery.payload

    async def _on_device_state(self, delivery: Delivery[DeviceState]) -> None:
        self._picture.states[delivery.levels["device"]] = delivery.payload

    async def _on_service(self, delivery: Delivery[ServiceState]) -> None:
        self._picture.services[delivery.levels["service"], delivery.levels["instance"]] = delivery.payload

    async def _on_tag(self, delivery: Delivery[TagValue]) -> None:
        device, tag = delivery.levels["device"], delivery.levels["tag"]
        self._picture.values[device, tag] = delivery.payload
        self._on_value(device, tag, delivery.payload)
