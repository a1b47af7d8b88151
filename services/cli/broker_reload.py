"""Lets the broker take up its files when they have changed: mosquitto reads them again at SIGHUP, and then only.

Whoever is no user any more is disconnected by that; who may do less loses it at once, subscriptions that stand included
(measured: contracts/decisions/0012). For another certificate the broker is started anew: its WebSocket listeners would
go on showing the old one; and passwords of services change with it, of whom one may be away just then: mosquitto 2.0
crashes if it reads the files again while it keeps a session, or a last will, whose owner's password is another by then.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from services.identity.broker_files import is_whole_access
from services.runtime.watch import Mark, marks

LOOK_S = 0.25


class BrokerReload:
    """Follows the broker's files. begin() before the broker is started, run() once it listens.

    access: the one of them with the access rules, which is looked at before the broker reads it: see is_whole_access().
    reload: sends the signal. certificate: another of them, with its key; restart: returns once the broker that has read
    it listens. tell: is given a line for people.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        access: Path,
        reload: Callable[[], None],
        tell: Callable[[str], None],
        certificate: Path | None = None,
        restart: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._files = files
        self._access = access
        self._reload = reload
        self._tell = tell
        self._certificate = certificate
        self._restart = restart
        self._known: dict[Path, Mark] = {}
        self._shown: Mark | None = None

    def begin(self) -> None:
        """What the files are now is what the broker will read at its start."""
        self._known = marks(self._files)
        self._shown = self._certified(self._known)

    async def run(self) -> None:
        """Follows them until it is cancelled.

        It does not wait until the files rest: each is put in its place as a whole, and while users come one after the
        other, one who goes shall not stay. Only before a new start it does: passwords come just after a certificate.
        """
        last = self._known
        while True:
            await asyncio.sleep(LOOK_S)
            now = marks(self._files)
            certified = self._certified(now)
            rests, last = now == last, now
            if now == self._known or (certified != self._shown and not rests):
                continue
            self._known = now
            if fault := self._fault():
                self._tell(f"the broker goes on with the access rules that it has: {fault}")
            elif certified == self._shown or self._restart is None:
                self._reload()
            elif fault := self._fault_of_certificate():
                self._tell(f"the broker goes on with the certificate that it has: {fault}")
                self._reload()  # who is no user any more does not stay for that
            else:
                self._shown = certified
                self._tell("the broker has a new certificate and is started anew")
                await self._restart()

    def _certified(self, files: dict[Path, Mark]) -> Mark | None:
        return None if self._certificate is None else files.get(self._certificate)

    def _fault(self) -> str | None:
        try:
            text = self._access.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return f"{self._access} cannot be read ({error})"
        return None if is_whole_access(text) else f"{self._access} is not whole; `dinrail init` writes it anew"

    def _fault_of_certificate(self) -> str | None:
        if self._certificate is None:
            return None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate)
        except OSError as error:  # ssl.SSLError is one
            return f"{self._certificate} holds no certificate with its key ({error}); `dinrail init --rotate`"
        return None
