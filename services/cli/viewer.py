"""Follows a site's retained topics with the account `viewer`."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from contracts.codec import decode
from contracts.v1.alarm import ALARM, Alarm
from contracts.v1.device import DEVICE, DEVICE_STATE, DeviceInfo, DeviceState
from contracts.v1.pipeline import PIPELINE, PipelineInfo
from contracts.v1.run import RUN, RunState
from contracts.v1.service import SERVICE, ServiceState
from contracts.v1.tag import TAG, TagValue
from services.cli.picture import Picture
from services.runtime.bus.bus import Bus, Delivery

MOST_TOPICS = 200_000
"""As many as the broker queues for one client (services.cli.broker_config)."""

K = TypeVar("K")
M = TypeVar("M", bound=BaseModel)

OnValue = Callable[[str, str, TagValue], None]
OnAlarm = Callable[[Alarm], None]


def _unheard(*_: object) -> None:
    """Tells nobody."""


class Viewer:
    """Keeps a picture up to date with the bus. Subscribes when made; the caller runs the bus.

    on_value: is told of each tag value after the picture has it: device, tag, value. on_alarm: so of each alarm.
    """

    def __init__(
        self, *, bus: Bus, picture: Picture, on_value: OnValue = _unheard, on_alarm: OnAlarm = _unheard
    ) -> None:
        self._picture = picture
        self._on_value = on_value
        self._on_alarm = on_alarm
        # Descriptions before values: a broker sends retained topics in the order of subscription.
        bus.subscribe_raw(DEVICE, self._on_device, queue_size=MOST_TOPICS)
        bus.subscribe_raw(DEVICE_STATE, self._on_device_state, queue_size=MOST_TOPICS)
        bus.subscribe(SERVICE, self._on_service, queue_size=MOST_TOPICS)
        bus.subscribe_raw(TAG, self._on_tag, queue_size=MOST_TOPICS)
        bus.subscribe_raw(PIPELINE, self._on_pipeline, queue_size=MOST_TOPICS)
        bus.subscribe_raw(ALARM, self._on_alarm_told, queue_size=MOST_TOPICS)
        bus.subscribe_raw(RUN, self._on_run, queue_size=MOST_TOPICS)

    async def _on_device(self, delivery: Delivery[bytes]) -> None:
        self._keep(self._picture.devices, delivery.levels["device"], DeviceInfo, delivery)

    async def _on_device_state(self, delivery: Delivery[bytes]) -> None:
        self._keep(self._picture.states, delivery.levels["device"], DeviceState, delivery)

    async def _on_service(self, delivery: Delivery[ServiceState]) -> None:
        self._picture.services[delivery.levels["service"], delivery.levels["instance"]] = delivery.payload

    async def _on_tag(self, delivery: Delivery[bytes]) -> None:
        device, tag = delivery.levels["device"], delivery.levels["tag"]
        value = self._keep(self._picture.values, (device, tag), TagValue, delivery)
        if value is not None:
            self._on_value(device, tag, value)

    async def _on_pipeline(self, delivery: Delivery[bytes]) -> None:
        name = (delivery.levels["scope"], delivery.levels["pipeline"])
        self._keep(self._picture.pipelines, name, PipelineInfo, delivery)

    async def _on_alarm_told(self, delivery: Delivery[bytes]) -> None:
        name = (delivery.levels["scope"], delivery.levels["alarm"])
        alarm = self._keep(self._picture.alarms, name, Alarm, delivery)
        if alarm is not None:
            self._on_alarm(alarm)

    async def _on_run(self, delivery: Delivery[bytes]) -> None:
        if delivery.payload:  # an old one that is cleared says nothing of the latest
            self._picture.see_run(decode(RunState, delivery.payload, topic=delivery.topic))

    @staticmethod
    def _keep(into: dict[K, M], name: K, model: type[M], delivery: Delivery[bytes]) -> M | None:
        """Keeps the message, or forgets what was there: an empty one clears a retained topic."""
        if not delivery.payload:
            into.pop(name, None)
            return None
        into[name] = decode(model, delivery.payload, topic=delivery.topic)
        return into[name]
