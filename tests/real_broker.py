"""A real mosquitto for one test, with the limits of production, that can be killed and started again on its port."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from contracts.acl import access_file
from contracts.v1.policy import Rights
from services.cli.broker import find_mosquitto
from services.cli.broker_config import BrokerConfig, Listener
from services.cli.credentials import password_file
from services.runtime.settings import BrokerSettings
from tests.policies import IDENTITY, OPEN, publish_policy
from tests.polling import wait_until
from tests.ports import free_port, listens

DEADLINE_S = 30.0
SITE = "test"


@dataclass
class Broker:
    """A mosquitto on the loopback.

    accounts: passwords by account; with them the access rules of contracts.acl hold, for the site SITE; without them
    anybody may do anything. replace: text of the production configuration by what shall stand there instead. users: in
    the site's policy, which it has from its start; None: it has none.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    accounts: Mapping[str, str] | None = None
    replace: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, Rights] | None = field(default_factory=lambda: OPEN)
    process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = None

    def start(self) -> None:
        """Returns once the broker listens."""
        mosquitto = find_mosquitto()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text(self._config())
        self._log = (self.folder / "mosquitto.log").open("ab")
        self.process = subprocess.Popen(
            [str(mosquitto.program), "-c", str(config)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **mosquitto.environment},
        )
        self._wait_listening()
        if self.users is not None:
            self.publish_policy(self.users)

    def publish_policy(
        self, users: Mapping[str, Rights], *, t: int = 1, since: Mapping[str, int] | None = None
    ) -> None:
        """These are the site's users from now on, as the identity service says it. since: see Policy."""
        password = (self.accounts or {}).get(IDENTITY)
        publish_policy(self.port, site=SITE, password=password, users=users, since=since, t=t)

    def kill(self) -> None:
        """SIGKILL: what the broker held is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: the broker saves what it holds. Does nothing if it does not run."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """The broker stays connected and answers nothing, as a machine that hangs, until resume()."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends pause()."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def settings(self, port: int | None = None) -> BrokerSettings:
        """What a client needs to connect. port: of a wire to the broker, instead of the broker's own."""
        return BrokerSettings(host="127.0.0.1", port=port or self.port)

    def password(self, account: str) -> Callable[[], str] | None:
        """Of the account, as a service is given it; None where anybody may do anything."""
        accounts = self.accounts
        return None if accounts is None else lambda: accounts[account]

    @property
    def log(self) -> str:
        """What the broker has written so far."""
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def _config(self) -> str:
        passwords, access = self.folder / "passwords", self.folder / "acl"
        text = BrokerConfig(
            listeners=(Listener(port=self.port, address="127.0.0.1"),),
            data=self.folder,
            passwords=passwords,
            access=access,
            user="root" if os.geteuid() == 0 else None,
        ).text()
        if self.accounts is None:
            open_to_all = {"allow_anonymous false": "allow_anonymous true", "password_file": "#", "acl_file": "#"}
            text = replaced(text, open_to_all)
        else:
            passwords.write_text(password_file(self.accounts, present=""))
            access.write_text(access_file(SITE))
            passwords.chmod(0o600)
            access.chmod(0o600)
        return replaced(text, self.replace)

    def _wait_listening(self) -> None:
        assert self.process is not None
        wait_until(self._listens_or_has_ended, DEADLINE_S, what=f"mosquitto listens on port {self.port}")
        if self.process.poll() is not None:
            raise RuntimeError(f"mosquitto has ended:\n{self.log}")

    def _listens_or_has_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or listens(self.port)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.wait(DEADLINE_S)
        self.process = None
        assert self._log is not None
        self._log.close()


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """The text with each key replaced by its value; a key that is not there is an error."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the broker's configuration"
        text = text.replace(old, new)
    return text
