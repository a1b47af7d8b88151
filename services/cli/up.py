"""`dinrail up`: a whole site on this machine, its live values in the terminal, and a clean end."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.live import Live

from contracts.v1.alarm import Alarm, AlarmStatus
from contracts.v1.frame import GOOD
from contracts.v1.tag import TagValue
from services.cli.broker import Mosquitto
from services.cli.connection import ConnectionFailed, connected, viewer_access
from services.cli.counted import counted
from services.cli.picture import Picture
from services.cli.processes import Processes, programs
from services.cli.settings import SiteSettings
from services.cli.site import Site
from services.cli.table import clipped, screen, state_text, value_text
from services.cli.viewer import Viewer
from services.runtime.bus.bus import Bus

REFRESH_S = 0.25
LINE_S = 1.0
RETRY_S = 2.0
SHOWN_CHANGES = 4
ONE_PRESS_S = 0.1
"""Signals so close to the first are one press of Ctrl-C: a terminal gives it to the whole group of processes, and a
program that is just being forked passes its own on to us, by the descriptor that wakes our loop."""


class Show:
    """What the terminal shows while a site runs: a table that lives where there is a terminal, else a line a second."""

    def __init__(self, *, console: Console, picture: Picture, started: float) -> None:
        self._console = console
        self._picture = picture
        self._started = started
        self._changed: dict[tuple[str, str], TagValue] = {}
        self._changes = 0
        self._alarms: dict[tuple[str, str], AlarmStatus] = {}
        self.values = asyncio.Event()
        """Set once there is a good value."""

    def tell(self, line: str) -> None:
        """A line for the person at the terminal; it stays above the table."""
        self._console.print(f"{time.strftime('%H:%M:%S')}  {line}", markup=False, highlight=False, soft_wrap=True)

    def on_value(self, device: str, tag: str, value: TagValue) -> None:
        """A tag's new value."""
        if value.q == GOOD and not self.values.is_set():
            self.values.set()
            self.tell(f"first live value after {time.monotonic() - self._started:.1f} s: {device}/{tag}")
        self._changes += 1
        self._changed[device, tag] = value

    def on_alarm(self, alarm: Alarm) -> None:
        """An alarm as it stands now."""
        before = self._alarms.get((alarm.scope, alarm.alarm), AlarmStatus.NORMAL)
        self._alarms[alarm.scope, alarm.alarm] = alarm.state
        if alarm.state is not before:
            self.tell(f"alarm {alarm.alarm} is {state_text(alarm)}: {alarm.text}")

    async def run(self) -> None:
        """Shows until it is cancelled."""
        if self._console.is_terminal:
            await self._show_table()
        else:
            await self._show_lines()

    async def _show_table(self) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(screen(self._picture, height=self._console.height), refresh=True)
                await asyncio.sleep(REFRESH_S)

    async def _show_lines(self) -> None:
        while True:
            await asyncio.sleep(LINE_S)
            if self._changed:
                self.tell(self._line())
            self._changed.clear()
            self._changes = 0

    def _line(self) -> str:
        rows = self._picture.rows()
        good = sum(row.q == GOOD for row in rows)
        units = {(row.device, row.tag): row.unit or "" for row in rows}
        there = {name: value for name, value in self._changed.items() if name in units}  # not removed meanwhile
        one_of_each_device = {device: (tag, value) for (device, tag), value in there.items()}
        some = [
            f"{device}/{tag} {clipped(value_text(value.value))} {units[device, tag]}".rstrip()
            for device, (tag, value) in list(one_of_each_device.items())[:SHOWN_CHANGES]
        ]
        alarms = len(self._picture.raised())
        raised = f", {counted(alarms, 'alarm')}" if alarms else ""
        told = f"{counted(len(rows), 'tag')}, {good} good, {counted(self._changes, 'change')}{raised}"
        return f"{told}: {', '.join(some)}"


async def run_site(
    *, site: Site, settings: SiteSettings, mosquitto: Mosquitto, console: Console, watch: bool, duration_s: float | None
) -> int:
    """Runs everything until Ctrl-C, SIGTERM, SIGHUP or the end of the duration; a second signal ends it at once.

    Returns 0 if every process ended cleanly, else 1.
    """
    picture = Picture()
    show = Show(console=console, picture=picture, started=time.monotonic())
    processes = Processes(programs(site, settings, mosquitto), logs=site.logs, tell=show.tell, values=show.values)
    stopping = stop_signals(on_second=processes.kill)
    show.tell(f"starting {', '.join(processes.children)}; logs in {site.logs}; Ctrl-C stops")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(processes.run(), name="processes")
        watching = group.create_task(_watch(processes, site, show, picture, go_on=watch), name="watch")
        await _first_of(stopping.wait(), running, duration_s)
        watching.cancel()
        show.tell("stopping")
        clean = await processes.stop()
    _tell_end(show.tell, processes, clean=clean)
    return 0 if clean else 1


def stop_signals(*, on_second: Callable[[], None]) -> asyncio.Event:
    """An event that the first stop signal sets; one that comes later than ONE_PRESS_S after it calls on_second."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    first_s = 0.0

    def receive() -> None:
        """Of each stop signal."""
        nonlocal first_s
        if not stopping.is_set():
            first_s = loop.time()
            stopping.set()
        elif loop.time() - first_s > ONE_PRESS_S:
            on_second()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, receive)
    return stopping


async def _first_of(stopping: Awaitable[object], running: asyncio.Task[None], duration_s: float | None) -> None:
    waiting = asyncio.ensure_future(stopping)
    try:
        await asyncio.wait([waiting, running], timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _watch(processes: Processes, site: Site, show: Show, picture: Picture, *, go_on: bool) -> None:
    """Shows until it is cancelled, or, unless it is to go on, until the first value has come.

    A broker that does not come up, or does not let us in, is named and tried again.
    """
    said = ""

    def view(bus: Bus) -> None:
        """Follows what there is to show."""
        Viewer(bus=bus, picture=picture, on_value=show.on_value, on_alarm=show.on_alarm)

    await processes.started("broker")
    while True:
        try:
            async with connected(viewer_access(site), view):
                await (show.run() if go_on else show.values.wait())
                return
        except ConnectionFailed as error:
            if str(error) != said:
                show.tell(str(error))
            said = str(error)
            await asyncio.sleep(RETRY_S)


def _tell_end(tell: Callable[[str], None], processes: Processes, *, clean: bool) -> None:
    if processes.failures or not clean:
        failures = counted(processes.failures, "failure")
        tell(f"stopped; not everything went well ({failures}), see the logs in {processes.logs}")
    else:
        tell("stopped; all processes ended cleanly")
