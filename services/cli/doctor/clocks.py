"""Whether this machine's clock is right: by the site's files, by NTP, and by the clocks of the services."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from contracts.v1.device import DEVICE_STATE
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.tag import TAG
from services.cli.doctor.finding import Finding, State
from services.cli.doctor.own_files import readable
from services.cli.doctor.sight import Sight
from services.cli.site import Site

AHEAD_S = 60.0
"""By so much a file may be newer than now: clocks of file servers."""
OFF_S = 2.0
"""By so much two machines' clocks may differ: values of one second are told apart."""
SILENT_S = float(TAG.expiry_s or 180) + OFF_S
"""A tag that lives was confirmed by its gateway within this time."""
_TIME_ERROR = 5
_UNTRUE = "times of values and dates of certificates depend on it"


@dataclass(frozen=True, slots=True)
class FileTimes:
    """Whether the clock can be right: it was not earlier when the site's files were written."""

    name: ClassVar[str] = "clock"

    site: Site
    now: datetime

    def findings(self) -> Iterator[Finding]:
        """One."""
        folders = readable(self.site.folder, self.site.folder / "secrets", self.site.broker, self.site.devices)
        files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
        newest = max(files, key=lambda path: path.stat().st_mtime, default=self.site.settings_file)
        ahead_s = newest.stat().st_mtime - self.now.timestamp()
        if ahead_s > AHEAD_S:
            yield Finding(
                State.FAIL,
                f"the clock says {self.now:%Y-%m-%d %H:%M} UTC, but {newest} is {ahead_s / 3600:.1f} h newer: set "
                f"the clock, and keep it right by NTP; {_UNTRUE}",
            )
        else:
            yield Finding(State.OK, f"the clock says {self.now:%Y-%m-%d %H:%M} UTC, later than all files of the site")


def synchronised() -> bool | None:
    """Whether the kernel says that something (NTP) keeps its clock right; None if it does not tell.

    By adjtimex(2), which anybody may ask.
    """
    answer = ctypes.create_string_buffer(1024)  # struct timex, with room to spare; modes 0: only asks
    try:
        state: int = ctypes.CDLL(None).adjtimex(answer)
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


@dataclass(frozen=True, slots=True)
class NetworkTime:
    """Whether anything keeps the clock right. asked: see synchronised()."""

    name: ClassVar[str] = "ntp"

    asked: Callable[[], bool | None] = synchronised

    def findings(self) -> Iterator[Finding]:
        """One, where the kernel tells."""
        kept = self.asked()
        if kept:
            yield Finding(State.OK, "the clock is kept right by NTP")
        elif kept is not None:
            yield Finding(
                State.WARN,
                "nothing keeps this machine's clock right (the kernel calls it unsynchronised): install and start "
                f"chrony or systemd-timesyncd, with a server that it reaches; {_UNTRUE}",
            )


@dataclass(frozen=True, slots=True)
class ServiceClocks:
    """Whether the machines of the services have the same time as this one."""

    name: ClassVar[str] = "clocks"

    sight: Sight

    def findings(self) -> Iterator[Finding]:
        """Those that are off, or one if there were any to compare with."""
        off = self._off()
        for who, by_s in sorted(off.items()):
            if abs(by_s) > OFF_S:
                side = "ahead of" if by_s > 0 else "behind"
                yield Finding(
                    State.FAIL,
                    f"the clock of {who} is {_span(by_s)} {side} this machine's: set the one that is wrong, and keep "
                    "both right by NTP",
                )
        if off and all(abs(by_s) <= OFF_S for by_s in off.values()):
            yield Finding(State.OK, f"the clocks of {', '.join(sorted(off))} agree with this machine's")

    def _off(self) -> dict[str, float]:
        """By how many seconds each is ahead at least: of times that lie in the future, or live ones in the past."""
        off: dict[str, float] = {}
        for seen, state in self.sight.of(SERVICE):
            if state.state is not ServiceStatus.OFFLINE:
                _at_least(off, f"{seen.levels['service']} {state.instance}", state.since / 1e3 - seen.us / 1e6)
        gateways = {seen.levels["device"]: state.gateway for seen, state in self.sight.of(DEVICE_STATE)}
        confirmed: dict[str, list[float]] = {}
        for seen, value in self.sight.of(TAG):
            gateway = gateways.get(seen.levels["device"])
            if gateway is not None and f"gateway {gateway}" in off:
                by_s = value.seen / 1e3 - seen.us / 1e6
                slack_s = 0.0 if seen.live or by_s > 0 else SILENT_S
                confirmed.setdefault(f"gateway {gateway}", []).append(min(0.0, by_s + slack_s) if by_s < 0 else by_s)
        for who, differences in confirmed.items():
            off[who] = max(off[who], max(differences), key=abs)
        return off


def _at_least(off: dict[str, float], who: str, by_s: float) -> None:
    """A start lies in the past, which says nothing, unless it lies in the future."""
    off[who] = max(off.get(who, 0.0), by_s, 0.0)


def _span(seconds: float) -> str:
    by_s = abs(seconds)
    return f"{by_s:.0f} s" if by_s < 120 else f"{by_s / 60:.0f} min" if by_s < 7200 else f"{by_s / 3600:.1f} h"
