"""mosquitto/run.sh, which the broker's container runs: it lets the broker read its files again, but no broken ones."""

import os
import queue
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from contracts.v1.policy import Rights, Role
from plugins.api.certificates import read_certificates
from services.cli.broker import find_mosquitto
from services.cli.broker_certificates import Renewal
from services.cli.settings import read_broker
from services.cli.site import Site, make_site, write_broker_files
from services.identity.broker_files import write_broker_access
from services.identity.password import hash_password
from services.identity.roster import User, Users
from services.identity.user_file import parse_users
from tests.account_client import AccountClient
from tests.polling import wait_until
from tests.ports import listens, site_ports

SCRIPT = Path(__file__).parents[2] / "mosquitto/run.sh"
DEADLINE_S = 30
NAME = "dinrail/v1/plant/cmd/anna/device/plant/plc/write/level"


class ScriptedBroker:
    """The script at work on a site's files. said: its lines, and the broker's."""

    def __init__(self, folder: Path) -> None:
        ports = site_ports()
        self.site = Site(folder)
        self.ports = ports
        self.port = ports.broker
        make_site(self.site, name="plant", example=None, ports=ports)
        write_broker_files(self.site, name="plant", broker=read_broker(self.site)[1])
        mosquitto = find_mosquitto()
        path = f"{mosquitto.program.parent}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            ["sh", str(SCRIPT), str(self.site.broker / "mosquitto.conf"), str(self.site.broker)],
            env={**os.environ, **mosquitto.environment, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        wait_until(lambda: listens(self.port), DEADLINE_S, what="the broker listens")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(line)

    def let_in(self, user: str, password: str) -> AccountClient:
        """Returns once the broker has read this user's password."""
        while True:
            client = AccountClient(self.port, user, password)
            if client.connected.get(timeout=DEADLINE_S).getName() == "Success":
                return client
            client.close()

    def wait_for(self, words: str) -> None:
        while words not in self.said.get(timeout=DEADLINE_S):
            pass

    @property
    def users(self) -> Users:
        return parse_users(self.site.users_file.read_text(), source="users.yaml")

    def write(self, users: Users) -> None:
        write_broker_access(self.site.broker, site="plant", users=users)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ScriptedBroker]:
    running = ScriptedBroker(tmp_path / "site")
    yield running
    running.process.terminate()
    running.process.wait(DEADLINE_S)
    running.reader.join(DEADLINE_S)
    assert running.process.stdout is not None
    running.process.stdout.close()


def test_a_user_comes_and_goes_and_rules_that_are_not_whole_change_nothing(broker: ScriptedBroker) -> None:
    before = broker.users
    anna = User(Rights(role=Role.VIEWER), hash_password("a password", salt=b"x" * 12))

    broker.write({**before, "anna": anna})
    client = broker.let_in("anna", "a password")
    assert client.publish([NAME]) == set()

    acl = broker.site.broker / "acl"
    whole = acl.read_text()
    for broken in (whole[: len(whole) // 2].rstrip("\n"), "", whole + "nonsense\n"):
        acl.write_text(broken)
        broker.wait_for("goes on with the access rules")
        assert client.publish([NAME]) == set(), "mosquitto lets everybody do everything once it has read such rules"
    acl.write_text(whole)

    broker.write(before)
    assert client.ended.wait(DEADLINE_S)
    client.close()


def test_for_another_certificate_the_broker_is_started_anew_and_websockets_show_it(broker: ScriptedBroker) -> None:
    certificates, ports = broker.site.certificates, (broker.ports.broker_tls, broker.ports.broker_websockets)
    client = broker.let_in("viewer", broker.site.password("viewer").read_text().strip())
    presence = "dinrail/v1/plant/service/gateway/gateway"
    password = broker.site.password("gateway").read_text().strip()
    gateway = AccountClient(broker.port, "gateway", password, will=presence, will_retained=True)
    assert gateway.publish([presence], b"online", retain=True) == {presence}

    write_broker_files(
        broker.site, name="plant", broker=read_broker(broker.site)[1], renewal=Renewal.SERVER
    )  # the services' passwords too

    wanted = read_certificates(certificates.server)[0]
    for port in ports:
        wait_until(lambda port=port: shown_at(port) == wanted, DEADLINE_S, what=f"port {port} shows it")
    assert client.ended.wait(DEADLINE_S)
    assert gateway.ended.wait(DEADLINE_S)
    broker.let_in("gateway", broker.site.password("gateway").read_text().strip()).close()
    assert broker.process.poll() is None
    after = broker.let_in("viewer", broker.site.password("viewer").read_text().strip())
    after.subscribe(presence)
    assert after.received.get(timeout=DEADLINE_S).payload == b"online", "no service looks dead for it"
    for one in (client, gateway, after):
        one.close()

    certificates.server.write_text("a piece")
    broker.wait_for("goes on with the certificate")
    assert {shown_at(port) for port in ports} == {wanted}


def shown_at(port: int) -> x509.Certificate | None:
    """The certificate there; None while nobody answers."""
    try:
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port), timeout=5).encode())
    except OSError:
        return None


def test_the_script_ends_with_the_broker_and_ends_it(broker: ScriptedBroker) -> None:
    client = broker.let_in("viewer", broker.site.password("viewer").read_text().strip())  # it handles signals now

    broker.process.send_signal(signal.SIGTERM)

    assert broker.process.wait(DEADLINE_S) == 0
    assert not listens(broker.port)
    client.close()


def test_a_broker_that_dies_ends_the_script_so_that_the_container_is_started_again(broker: ScriptedBroker) -> None:
    children = Path(f"/proc/{broker.process.pid}/task/{broker.process.pid}/children")
    pids = [int(pid) for pid in children.read_text().split()]
    (mosquitto,) = [pid for pid in pids if "mosquitto.conf" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[-2]
                    and "run.sh" not in Path(f"/proc/{pid}/cmdline").read_text()]  # fmt: skip

    os.kill(mosquitto, signal.SIGKILL)

    assert broker.process.wait(DEADLINE_S) != 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), DEADLINE_S, what="nothing is left")
