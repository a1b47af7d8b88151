"""The open lines of all Modbus devices: those that name one endpoint share one connection.

An RTU gateway often takes a single TCP client, and a serial port can be opened only once. A line takes one request
after the other in the order of asking, so no device gets ahead of its turn, however much it has to ask.
A connection that the other end has closed because nobody used it is opened again for whoever has it: that is no outage.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from plugins.api.driver import DeviceError

from .endpoint import Endpoint, open_line
from .line import Line


class Lines:
    """Counts who uses each line: the first opens it, the last closes it."""

    def __init__(self) -> None:
        self._shared: dict[str, SharedLine] = {}

    @asynccontextmanager
    async def line(self, endpoint: Endpoint) -> AsyncIterator["SharedLine"]:
        """The line to the endpoint, for as long as it is used. Raises DeviceError if it is open with other settings.

        A line that is lost in use stays with those who have it; whoever comes then opens a new one.
        """
        place = _place(endpoint)
        shared = self._shared.get(place)
        if shared is None or shared.over:
            shared = self._shared[place] = SharedLine(endpoint)
        elif shared.endpoint != endpoint:
            differing = ", ".join(_differences(shared.endpoint, endpoint))
            message = f"another device has {endpoint.place} open with other settings: make {differing} the same in both"
            raise DeviceError(message, cause="config")
        shared.users += 1
        try:
            yield shared
        finally:
            shared.users -= 1
            if not shared.users:
                shared.close()
                if self._shared.get(place) is shared:
                    del self._shared[place]


class SharedLine:
    """One line and who uses it. users: how many."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.users = 0
        self._opening = asyncio.Lock()
        self._line: Line | None = None
        self._error: DeviceError | None = None

    @property
    def over(self) -> bool:
        """Whether it could not be opened, or is lost."""
        return self._error is not None or (self._line is not None and self._line.lost and not self._line.rested)

    async def opened(self, timeout_s: float) -> Line:
        """The line, opened if it is not, or again if it was closed at rest. Raises DeviceError.

        Who waits while another opens it shares the outcome, so that a dead endpoint costs one timeout.
        """
        async with self._opening:
            if self._error is not None:
                raise DeviceError(str(self._error), cause=self._error.cause)
            if self._line is None or self._line.rested:
                try:
                    self._line = await open_line(self.endpoint, timeout_s=timeout_s)
                except DeviceError as error:
                    self._error = error
                    raise
            return self._line

    def close(self) -> None:
        """Ends the line, if there is one."""
        if self._line is not None:
            self._line.close()


def _place(endpoint: Endpoint) -> str:
    """The same for two names of one serial port: /dev/ttyUSB0, /dev/serial/by-id/..."""
    return os.path.realpath(endpoint.place) if endpoint.serial else endpoint.place


def _differences(one: Endpoint, other: Endpoint) -> list[str]:
    names = ("transport", "serial", "tls", "in_flight", "pause_s")
    return [name.removesuffix("_s") for name in names if getattr(one, name) != getattr(other, name)]
