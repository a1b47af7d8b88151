"""The functions that compute services offer, as they say themselves."""

from collections.abc import Callable

from contracts.v1.function import FunctionInfo
from contracts.v1.plugin import PLUGIN, PluginInfo
from plugins.api.clock import Clock
from services.runtime.bus.bus import Bus, Delivery

FORGET_S = float(PLUGIN.expiry_s or 0)
"""What nobody has refreshed for so long, its service has taken along; the broker has forgotten it too."""


class Functions:
    """Made before the bus runs."""

    def __init__(self, *, bus: Bus, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[tuple[str, str], tuple[PluginInfo, float]] = {}
        self._listeners: list[Callable[[], None]] = []
        bus.subscribe(PLUGIN, self._on_plugin, kind="function")

    def on_change(self, listener: Callable[[], None]) -> None:
        """`listener` is called whenever a service has said something of a plugin."""
        self._listeners.append(listener)

    def plugins(self) -> tuple[PluginInfo, ...]:
        """Of each plugin what was last said of it, by whichever service."""
        now_s = self._clock.monotonic()
        newest = sorted(self._heard.values(), key=lambda heard: heard[1])
        return tuple({info.id: info for info, at_s in newest if now_s - at_s < FORGET_S}.values())

    def info(self, name: str) -> FunctionInfo | None:
        """The function of this name; None if no service offers it."""
        for plugin in self.plugins():
            if plugin.functions and name in plugin.functions:
                return plugin.functions[name]
        return None

    async def _on_plugin(self, delivery: Delivery[PluginInfo]) -> None:
        info = delivery.payload
        self._heard[info.id, info.instance] = (info, self._clock.monotonic())
        for listener in self._listeners:
            listener()
