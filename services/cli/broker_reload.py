"""Lets the broker read its files again when they have changed: mosquitto does so at SIGHUP, and then only.

Whoever is no user any more is disconnected by that; who may do less loses it at once, subscriptions that stand included
(measured: contracts/decisions/0012).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from services.identity.broker_files import is_whole_access
from services.runtime.watch import Mark, marks

LOOK_S = 0.25


class BrokerReload:
    """Follows the broker's files. begin() before the broker is started, run() once it listens.

    access: the one of them with the access rules, which is looked at before the broker reads it: see is_whole_access().
    reload: sends the signal. tell: is given a line for people.
    """

    def __init__(
        self, files: Sequence[Path], *, access: Path, reload: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        self._files = files
        self._access = access
        self._reload = reload
        self._tell = tell
        self._known: dict[Path, Mark] = {}

    def begin(self) -> None:
        """What the files are now is what the broker will read at its start."""
        self._known = marks(self._files)

    async def run(self) -> None:
        """Follows them until it is cancelled.

        It does not wait until the files rest: each is put in its place as a whole, and while users come one after the
        other, one who goes shall not stay.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            now = marks(self._files)
            if now == self._known:
                continue
            self._known = now
            if fault := self._fault():
                self._tell(f"the broker goes on with the access rules that it has: {fault}")
            else:
                self._reload()

    def _fault(self) -> str | None:
        try:
            text = self._access.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return f"{self._access} cannot be read ({error})"
        return None if is_whole_access(text) else f"{self._access} is not whole; `dinrail init` writes it anew"
