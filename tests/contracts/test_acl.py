"""The access rules, held against a real mosquitto that runs with the files of a generated site."""

import os
import queue
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from contracts.acl import ACCOUNTS, access_file
from contracts.topic import TopicError
from services.cli.broker import find_mosquitto
from services.cli.credentials import password_file
from services.cli.site import Ports, Site, make_site, write_broker_files
from tests.ports import free_port

DEADLINE_S = 30
END = "test/end"

GATEWAY, RECORDER, HEALTH = "gateway", "recorder", "health"
ORCHESTRATOR, COMPUTE, IDENTITY = "orchestrator", "compute", "identity"
VIEWER, OPERATOR, ENGINEER, ADMIN = "viewer", "operator", "engineer", "admin"
PEOPLE = {VIEWER, OPERATOR, ENGINEER, ADMIN}
SERVICES = {GATEWAY, RECORDER, ORCHESTRATOR, COMPUTE, IDENTITY}

# One topic of each kind below dinrail/v1/plant/, who may write it and who may read it: stated by hand.
MATRIX: dict[str, tuple[set[str], set[str]]] = {
    "frame/plc/fast": ({GATEWAY}, {RECORDER, ORCHESTRATOR, *PEOPLE}),
    "backfill/frame/plc/fast": (SERVICES, {RECORDER, ORCHESTRATOR, *PEOPLE}),
    "tag/plc/level": ({GATEWAY, ORCHESTRATOR}, {GATEWAY, ORCHESTRATOR, *PEOPLE}),
    "device/plc/info": ({GATEWAY}, {GATEWAY, RECORDER, ORCHESTRATOR, *PEOPLE}),
    "device/plc/state": ({GATEWAY, ORCHESTRATOR}, {GATEWAY, RECORDER, ORCHESTRATOR, *PEOPLE}),
    "stored/recorder/frame/plc/fast": ({RECORDER}, {*SERVICES, *PEOPLE}),
    "service/gateway/gateway": ({GATEWAY}, {*SERVICES, *PEOPLE}),
    "service/recorder/recorder": ({RECORDER}, {*SERVICES, *PEOPLE}),
    "service/compute/compute-2": ({COMPUTE}, {*SERVICES, *PEOPLE}),
    "service/viewer/viewer": (set(), {*SERVICES, *PEOPLE}),
    "plugin/driver/modbus/gateway": ({GATEWAY, COMPUTE}, {GATEWAY, ORCHESTRATOR, COMPUTE, *PEOPLE}),
    "event/plant/device/plc": (SERVICES, {RECORDER, ORCHESTRATOR, *PEOPLE}),
    "pipeline/main/oee": ({ORCHESTRATOR}, {ORCHESTRATOR, *PEOPLE}),
    "run/main/oee/r1": ({ORCHESTRATOR}, {ORCHESTRATOR, *PEOPLE}),
    "alarm/main/oee/low": ({ORCHESTRATOR}, {ORCHESTRATOR, *PEOPLE}),
    "policy/main": ({IDENTITY}, {*SERVICES, ADMIN}),
    "cmd/admin/gateway/plant/gateway/put/all": ({GATEWAY, ADMIN}, {GATEWAY}),
    "cmd/engineer/admin/plant/a/read/all": (set(), set()),
    "task/fft": ({ORCHESTRATOR}, {COMPUTE}),
    "cmd/viewer/device/plant/plc/read/all": ({GATEWAY, VIEWER}, {GATEWAY}),
    "cmd/viewer/device/plant/plc/write/level": ({GATEWAY}, {GATEWAY}),
    "cmd/viewer/device/plant/plc/call/all": ({GATEWAY}, {GATEWAY}),
    "cmd/operator/device/plant/plc/write/level": ({GATEWAY, OPERATOR}, {GATEWAY}),
    "cmd/operator/device/plant/plc/call/all": ({GATEWAY, OPERATOR}, {GATEWAY}),
    "cmd/operator/device/plant/plc/disable/all": ({GATEWAY}, {GATEWAY}),
    "cmd/operator/gateway/plant/gateway/put/all": ({GATEWAY}, {GATEWAY}),
    "cmd/engineer/device/plant/plc/disable/all": ({GATEWAY, ENGINEER}, {GATEWAY}),
    "cmd/engineer/gateway/plant/gateway/put/all": ({GATEWAY, ENGINEER}, {GATEWAY}),
    "cmd/engineer/device/plant/plc/resend/all": ({GATEWAY}, {GATEWAY}),
    "cmd/recorder/device/plant/plc/resend/all": ({GATEWAY, RECORDER}, {GATEWAY}),
    "cmd/recorder/service/plant/gateway/resend/all": (SERVICES, SERVICES),
    "cmd/orchestrator/device/plant/plc/write/level": ({GATEWAY, ORCHESTRATOR}, {GATEWAY}),
    "cmd/orchestrator/task/plant/t1/cancel/all": ({ORCHESTRATOR, COMPUTE}, {COMPUTE}),
    "cmd/viewer/pipeline/main/oee/get/all": ({ORCHESTRATOR, VIEWER}, {ORCHESTRATOR}),
    "cmd/viewer/pipeline/main/oee/run/all": ({ORCHESTRATOR}, {ORCHESTRATOR}),
    "cmd/viewer/alarm/main/low/ack/all": ({ORCHESTRATOR}, {ORCHESTRATOR}),
    "cmd/operator/pipeline/main/oee/run/all": ({ORCHESTRATOR, OPERATOR}, {ORCHESTRATOR}),
    "cmd/operator/pipeline/main/oee/save/all": ({ORCHESTRATOR}, {ORCHESTRATOR}),
    "cmd/operator/run/main/r1/cancel/all": ({ORCHESTRATOR, OPERATOR}, {ORCHESTRATOR}),
    "cmd/operator/alarm/main/low/ack/all": ({ORCHESTRATOR, OPERATOR}, {ORCHESTRATOR}),
    "cmd/operator/function/main/fft/call/all": ({ORCHESTRATOR}, {ORCHESTRATOR}),
    "cmd/engineer/pipeline/main/oee/save/all": ({ORCHESTRATOR, ENGINEER}, {ORCHESTRATOR}),
    "cmd/engineer/run/main/r1/replay/all": ({ORCHESTRATOR, ENGINEER}, {ORCHESTRATOR}),
    "cmd/engineer/function/main/fft/call/all": ({ORCHESTRATOR, ENGINEER}, {ORCHESTRATOR}),
    "cmd/engineer/task/plant/t1/cancel/all": ({COMPUTE}, {COMPUTE}),
    "cmd/viewer/events/plant/recorder/audit/all": ({RECORDER, VIEWER}, {RECORDER}),
    "cmd/orchestrator/events/plant/recorder/read/all": ({RECORDER, ORCHESTRATOR}, {RECORDER}),
    "cmd/orchestrator/events/plant/recorder/audit/all": ({RECORDER}, {RECORDER}),
    "cmd/viewer/recorder/plant/recorder/audit/all": ({RECORDER, VIEWER}, {RECORDER}),
    "cmd/viewer/service/plant/gateway/journal/all": ({*SERVICES, VIEWER}, SERVICES),
    "cmd/viewer/history/plant/recorder/query/all": ({RECORDER, VIEWER}, {RECORDER}),
    "cmd/operator/history/plant/recorder/at/all": ({RECORDER, OPERATOR}, {RECORDER}),
    "cmd/orchestrator/history/plant/recorder/query/all": ({RECORDER}, {RECORDER}),
    "cmd/somebody/device/plant/plc/read/all": ({GATEWAY}, {GATEWAY}),
    "reply/viewer/a": (SERVICES, {VIEWER}),
    "reply/recorder/a": (SERVICES, {RECORDER}),
    "reply/orchestrator/a": (SERVICES, {ORCHESTRATOR}),
    "reply/somebody/a": (SERVICES, set()),
    "tag/plc/level/more": (set(), set()),
    "unheard/of": (set(), set()),
}
TOPICS = {f"dinrail/v1/plant/{topic}": access for topic, access in MATRIX.items()}
ELSEWHERE = ("dinrail/v1/othersite/tag/plc/level", "dinrail/v2/plant/tag/plc/level", "tag", "$SYS/broker/uptime")


class Client:
    """A logged-in account: publishes with the broker's verdict, and receives."""

    def __init__(self, port: int, account: str, password: str | None) -> None:
        self.refused: queue.Queue[ReasonCode] = queue.Queue()
        self._verdicts: queue.Queue[ReasonCode] = queue.Queue()
        self.received: queue.Queue[str] = queue.Queue()
        self._subscribed: queue.Queue[None] = queue.Queue()
        self.connected: queue.Queue[ReasonCode] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.username_pw_set(account, password)
        self._client.on_connect = lambda _c, _u, _f, code, _p: self.connected.put(code)
        self._client.on_publish = lambda _c, _u, _m, code, _p: self._verdicts.put(code)
        self._client.on_message = lambda _c, _u, message: self.received.put(message.topic)
        self._client.on_subscribe = lambda *_: self._subscribed.put(None)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str) -> bool:
        """Whether the broker took it."""
        self._client.publish(topic, b"{}", qos=1)
        return self._verdicts.get(timeout=DEADLINE_S).getName() != "Not authorized"

    def subscribe(self, *filters: str) -> None:
        self._client.subscribe([(name, paho.SubscribeOptions(qos=1)) for name in filters])
        self._subscribed.get(timeout=DEADLINE_S)

    def receive_until(self, last: str) -> list[str]:
        topics = []
        while (topic := self.received.get(timeout=DEADLINE_S)) != last:
            topics.append(topic)
        return topics

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class RunningSite:
    """A broker with the files that `dinrail init` makes, and one account more that may do everything, to test with."""

    def __init__(self, folder: Path, port: int) -> None:
        self.site = Site(folder)
        self.port = port
        make_site(self.site, name="plant", example=None, ports=Ports(broker=port))
        write_broker_files(self.site, name="plant", address="127.0.0.1", port=port)
        with (self.site.broker / "passwords").open("a") as file:
            file.write(password_file({"tester": "tester"}, present=""))
        # The end mark lets a subscriber know that it has been sent all that it will be sent.
        readers = "".join(f"user {account.name}\ntopic read {END}\n" for account in ACCOUNTS)
        with (self.site.broker / "acl").open("a") as file:
            file.write(f"{readers}user tester\ntopic readwrite #\n")
        self.clients: list[Client] = []

    def login(self, account: str, password: str | None = None) -> Client:
        password = password or self.site.password(account).read_text().strip()
        self.clients.append(Client(self.port, account, password))
        return self.clients[-1]


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise TimeoutError(f"nothing listens on {port}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    running = RunningSite(tmp_path_factory.mktemp("site"), free_port())
    mosquitto = find_mosquitto()
    with subprocess.Popen(
        [mosquitto.program, "-c", running.site.broker / "mosquitto.conf"],
        env={**os.environ, **mosquitto.environment},
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for_port(running.port)
            yield running
        finally:
            for client in running.clients:
                client.close()
            process.terminate()


@pytest.mark.parametrize("account", [account.name for account in ACCOUNTS])
def test_an_account_writes_what_its_contract_allows_and_nothing_else(running: RunningSite, account: str) -> None:
    client = running.login(account)

    taken = {topic for topic in [*TOPICS, *ELSEWHERE] if client.publish(topic)}

    assert taken == {topic for topic, (writers, _) in TOPICS.items() if account in writers}


@pytest.mark.parametrize("account", [account.name for account in ACCOUNTS])
def test_an_account_reads_what_its_contract_allows_and_nothing_else(running: RunningSite, account: str) -> None:
    reader = running.login(account)
    reader.subscribe("#")
    tester = running.login("tester", "tester")

    send_all(tester, [*TOPICS, *ELSEWHERE[:-1], END])

    assert set(reader.receive_until(END)) == {topic for topic, (_, readers) in TOPICS.items() if account in readers}


def send_all(client: Client, topics: Sequence[str]) -> None:
    for topic in topics:
        assert client.publish(topic)


def test_only_health_reads_the_brokers_own_uptime(running: RunningSite) -> None:
    health, viewer = running.login("health"), running.login("viewer")
    for client in (health, viewer):
        client.subscribe("$SYS/broker/uptime", "$SYS/broker/version")

    assert health.received.get(timeout=30) == "$SYS/broker/uptime"
    assert health.received.empty()
    assert viewer.received.empty()


@pytest.mark.parametrize(("account", "password"), [("viewer", "wrong"), ("nobody", "x"), ("", None)])
def test_a_wrong_password_an_unknown_account_and_nobody_are_refused(
    running: RunningSite, account: str, password: str | None
) -> None:
    client = Client(running.port, account, password)
    running.clients.append(client)

    assert client.connected.get(timeout=DEADLINE_S).getName() in {"Not authorized", "Bad user name or password"}


@pytest.mark.parametrize("site", ["", "Plant", "a/b", "+", "#", "a b", "a\ntopic readwrite #"])
def test_a_site_name_that_could_widen_a_rule_is_refused(site: str) -> None:
    with pytest.raises(TopicError, match="site"):
        access_file(site)
