"""What a device offers, by command. Runs beside the polls; nothing of the device changes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from contracts.v1.command import Browse, BrowseEntry, BrowseResult, ErrorCode
from plugins.api.clock import Clock
from plugins.api.driver import Browses, DeviceError, Offer
from services.gateway.actor import Actor
from services.runtime.bus.bus import CommandFailed, Delivery


class Browser:
    """Browses the device that `actor` gives: the one that runs now."""

    def __init__(self, *, device: str, actor: Callable[[], Actor], clock: Clock) -> None:
        self._device = device
        self._actor = actor
        self._clock = clock

    async def browse(self, command: Delivery[Browse]) -> BrowseResult:
        """One level below the address. Raises CommandFailed: not_found, invalid, device_unavailable, timeout."""
        actor, asked = self._actor(), command.payload
        device = actor.poller.device
        if not isinstance(device, Browses):
            raise CommandFailed(ErrorCode.NOT_FOUND, f"the driver of {self._device} cannot browse")
        entries: list[BrowseEntry] = []
        try:
            async with aclosing(cast("AsyncGenerator[Offer, None]", device.browse(asked.at, depth=1))) as offers:
                async for offer in offers:
                    if len(entries) == asked.most:
                        return BrowseResult(entries=entries, more=True)
                    if self._clock.monotonic() >= command.deadline_s:
                        raise CommandFailed(ErrorCode.TIMEOUT, f"{self._device}: not done in time: ask for less")
                    entries.append(_entry(offer))
        except DeviceError as error:
            if error.cause == "config":
                raise CommandFailed(ErrorCode.INVALID, str(error)) from error
            raise actor.unavailable(str(error)) from error
        return BrowseResult(entries=entries)


def _entry(offer: Offer) -> BrowseEntry:
    return BrowseEntry(
        address=offer.address,
        name=offer.path[-1],
        kind=offer.kind,
        type=offer.type,
        unit=offer.unit,
        writable=offer.writable if offer.kind == "variable" else None,
    )
