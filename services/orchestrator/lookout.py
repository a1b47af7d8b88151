"""Watches the gateways through the broker, and marks in the place of a dead one what it can no longer mark itself."""

import asyncio
from collections import defaultdict
from contextlib import suppress

from contracts.codec import decode
from contracts.v1.device import DEVICE, DEVICE_STATE, GATEWAY_LOST, DeviceInfo, DeviceState, DeviceStatus
from contracts.v1.service import SERVICE, WILL_EXPIRY_S, ServiceState
from contracts.v1.tag import TAG, TagValue
from plugins.api.clock import Clock
from services.orchestrator.hub import Hub
from services.orchestrator.watchdog import Mark, Watchdog
from services.runtime.bus.bus import Bus, BusUnavailable, Delivery, PublishRefused
from services.runtime.event_log import EventLog
from services.runtime.logs import Log
from services.runtime.throttle import Throttle

GATEWAY = "gateway"
MOST_DEVICES = 100_000
AT_ONCE = 64
"""Tags that are marked at the same time."""
AGAIN_S = 5.0
"""How soon a mark is published again that the broker has not taken."""


class Lookout:
    """A Part. A mark that the broker has taken is neither kept nor published again: the gateway takes the topics back.

    A mark stays until then, longer than a tag's value would: an HMI that starts while a gateway is dead is to see that
    its tags are bad, not that there are none.
    """

    name = "lookout"

    def __init__(self, *, bus: Bus, hub: Hub, events: EventLog, clock: Clock, log: Log) -> None:
        self._bus = bus
        self._events = events
        self._clock = clock
        self._log = log
        self._watchdog = Watchdog()
        self._throttle = Throttle()
        self._marks: dict[str, Mark] = {}
        self._begun: set[str] = set()  # devices of which tags are marked, and they themselves not yet
        self._news = asyncio.Event()
        self._stopping = False
        bus.subscribe(SERVICE, self._on_service, service=GATEWAY)
        hub.subscribe(DEVICE, self._on_info, queue_size=MOST_DEVICES)
        hub.subscribe(DEVICE_STATE, self._on_state, queue_size=MOST_DEVICES)

    async def run(self) -> None:
        """Publishes marks until stop()."""
        while not self._stopping:
            self._news.clear()
            marks, self._marks = self._marks, {}
            done: dict[str, list[Mark]] = defaultdict(list)
            again: dict[str, Mark] = {}
            for mark in marks.values():
                try:
                    if await self._publish(mark):
                        done[mark.state.gateway].append(mark)
                except (BusUnavailable, PublishRefused) as error:
                    again[mark.device] = mark
                    if self._throttle.passes(self._clock.monotonic()):
                        self._log.error("mark_not_taken", device=mark.device, error=str(error))
            for gateway, lost in done.items():
                self._tell(gateway, lost)
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if again else None):
                    await self._news.wait()
            self._marks = again | self._marks

    async def stop(self) -> None:
        """Ends run(): what is not marked yet is marked at the next start."""
        self._stopping = True
        self._news.set()

    async def _on_service(self, delivery: Delivery[ServiceState]) -> None:
        instance = delivery.levels["instance"]
        self._add(*self._watchdog.on_service(instance, delivery.payload, retained=delivery.retained))

    async def _on_info(self, delivery: Delivery[bytes]) -> None:
        info = decode(DeviceInfo, delivery.payload, topic=delivery.topic) if delivery.payload else None
        self._add(self._watchdog.on_info(delivery.levels["device"], info))

    async def _on_state(self, delivery: Delivery[bytes]) -> None:
        state = decode(DeviceState, delivery.payload, topic=delivery.topic) if delivery.payload else None
        self._add(self._watchdog.on_state(delivery.levels["device"], state, retained=delivery.retained))

    def _add(self, *marks: Mark | None) -> None:
        self._marks |= {mark.device: mark for mark in marks if mark is not None}
        if self._marks:
            self._news.set()

    async def _publish(self, mark: Mark) -> bool:
        """Marks the tags, then the device, while its gateway is dead. False if it has come back meanwhile.

        Then the device is marked all the same if any of its tags is: a gateway that sees that says everything again.
        Raises BusUnavailable, PublishRefused, once all has been tried: then the mark is to be published again.
        """
        tags = list(mark.units.items())
        error: BaseException | None = None
        for begin in range(0, len(tags), AT_ONCE):
            publishing = (self._publish_tag(mark, tag, unit) for tag, unit in tags[begin : begin + AT_ONCE])
            given = await asyncio.gather(*publishing, return_exceptions=True)
            error = error or next((one for one in given if one is not None), None)
        stands, said = self._watchdog.stands(mark), self._watchdog.last_said(mark.device)
        if said is not None and (stands or mark.device in self._begun):
            await self._bus.publish(DEVICE_STATE, self._lost(said), device=mark.device)
        self._begun.discard(mark.device)
        if error is not None:
            raise error
        return stands

    async def _publish_tag(self, mark: Mark, tag: str, unit: str | None) -> None:
        if not self._watchdog.stands(mark):
            return
        self._begun.add(mark.device)
        now_ms = self._clock.now_us() // 1000
        bad = TagValue(value=None, ts=now_ms, q=0, seen=now_ms, cause=GATEWAY_LOST, unit=unit)
        await self._bus.publish(TAG, bad, device=mark.device, tag=tag, expiry_s=WILL_EXPIRY_S)

    def _lost(self, state: DeviceState) -> DeviceState:
        return DeviceState(
            state=DeviceStatus.OFFLINE,
            since=self._clock.now_us() // 1000,
            gateway=state.gateway,
            sid=state.sid,
            circuit=state.circuit,
            cause=GATEWAY_LOST,
            error=f"its gateway {state.gateway} has died",
        )

    def _tell(self, gateway: str, lost: list[Mark]) -> None:
        devices = [mark.device for mark in lost]
        tags = sum(len(mark.units) for mark in lost)
        self._log.error("gateway_lost", gateway=gateway, devices=len(devices), tags=tags)
        self._events.tell("gateway.lost", aggregate=GATEWAY, id=gateway, data={"devices": devices, "tags": tags})
