"""The access rules, held against a real mosquitto that runs with the files of a generated site.

Every topic and every command of the contract x every account x both directions. What is refused is shown by what does
not arrive: mosquitto grants each SUBSCRIBE, and a refused message must not reach one who may read everything.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from contracts.acl import ACCOUNTS, access_file
from contracts.topic import TopicError
from contracts.v1.topics import TOPICS
from services.cli.broker import find_mosquitto
from services.cli.credentials import password_file
from services.cli.site import Ports, Site, make_site, write_broker_files
from services.runtime.settings import BrokerSettings, ListenSettings
from tests.account_client import DEADLINE_S, AccountClient
from tests.polling import wait_until
from tests.ports import free_port, listens

ROOT = "dinrail/v1/plant/"
END = "test/end"
NAMES = [account.name for account in ACCOUNTS]

GATEWAY, RECORDER, HEALTH = "gateway", "recorder", "health"
ORCHESTRATOR, COMPUTE, IDENTITY = "orchestrator", "compute", "identity"
VIEWER, OPERATOR, ENGINEER, ADMIN = "viewer", "operator", "engineer", "admin"
STRANGER = "somebody"
PEOPLE = {VIEWER, OPERATOR, ENGINEER, ADMIN}
OPERATORS = {OPERATOR, ENGINEER, ADMIN}
ENGINEERS = {ENGINEER, ADMIN}
SERVICES = {GATEWAY, RECORDER, ORCHESTRATOR, COMPUTE, IDENTITY}

# From here on stated by hand, and not by the contract's own words. Topics below the root: who may write, who may read.
SAID: dict[str, tuple[set[str], set[str]]] = {
    "frame/plc/fast": ({GATEWAY}, {RECORDER, ORCHESTRATOR, *PEOPLE}),
    "backfill/frame/plc/fast": (SERVICES, {RECORDER, ORCHESTRATOR, *PEOPLE}),
    "backfill/event/gateway/main": (SERVICES, {RECORDER, ORCHESTRATOR, *PEOPLE}),
    "tag/plc/level": ({GATEWAY, ORCHESTRATOR}, {GATEWAY, ORCHESTRATOR, *PEOPLE}),
    "device/plc/info": ({GATEWAY}, {GATEWAY, RECORDER, ORCHESTRATOR, *PEOPLE}),
    "device/plc/state": ({GATEWAY, ORCHESTRATOR}, {GATEWAY, RECORDER, ORCHESTRATOR, *PEOPLE}),
    "stored/recorder/frame/plc/fast": ({RECORDER}, {*SERVICES, *PEOPLE}),
    "service/gateway/gateway": ({GATEWAY}, {*SERVICES, *PEOPLE}),
    "service/recorder/recorder": ({RECORDER}, {*SERVICES, *PEOPLE}),
    "service/orchestrator/orchestrator": ({ORCHESTRATOR}, {*SERVICES, *PEOPLE}),
    "service/compute/compute-2": ({COMPUTE}, {*SERVICES, *PEOPLE}),
    "service/identity/identity": ({IDENTITY}, {*SERVICES, *PEOPLE}),
    "service/viewer/viewer": (set(), {*SERVICES, *PEOPLE}),
    "plugin/driver/modbus/gateway": ({GATEWAY, COMPUTE}, {GATEWAY, ORCHESTRATOR, COMPUTE, *PEOPLE}),
    "event/plant/device/plc": (SERVICES, {RECORDER, ORCHESTRATOR, *PEOPLE}),
    "pipeline/main/oee": ({ORCHESTRATOR}, {ORCHESTRATOR, *PEOPLE}),
    "run/main/oee/r1": ({ORCHESTRATOR}, {ORCHESTRATOR, *PEOPLE}),
    "alarm/main/oee/low": ({ORCHESTRATOR}, {ORCHESTRATOR, *PEOPLE}),
    "policy/main": ({IDENTITY}, {*SERVICES, ADMIN}),
    "task/fft": ({ORCHESTRATOR}, {COMPUTE}),
}
# Commands below cmd/USER/: who may send them under his own name, and who executes them.
COMMANDED: dict[str, tuple[set[str], set[str]]] = {
    "device/plant/plc/read/all": ({ORCHESTRATOR, *PEOPLE}, {GATEWAY}),
    "device/plant/plc/write/level": ({ORCHESTRATOR, *OPERATORS}, {GATEWAY}),
    "device/plant/plc/call/all": ({ORCHESTRATOR, *OPERATORS}, {GATEWAY}),
    "device/plant/plc/browse/all": (ENGINEERS, {GATEWAY}),
    "device/plant/plc/enable/all": (ENGINEERS, {GATEWAY}),
    "device/plant/plc/disable/all": (ENGINEERS, {GATEWAY}),
    "device/plant/plc/resend/all": ({RECORDER, ORCHESTRATOR}, {GATEWAY}),
    "gateway/plant/gateway/put/all": (ENGINEERS, {GATEWAY}),
    "gateway/plant/gateway/delete/all": (ENGINEERS, {GATEWAY}),
    "plugin/plant/gateway/reload/all": (ENGINEERS, {GATEWAY, COMPUTE}),
    "service/plant/gateway/resend/all": ({RECORDER}, SERVICES),
    "service/plant/gateway/journal/all": (PEOPLE, SERVICES),
    "pipeline/main/oee/get/all": (PEOPLE, {ORCHESTRATOR}),
    "pipeline/main/oee/list/all": (PEOPLE, {ORCHESTRATOR}),
    "pipeline/main/oee/versions/all": (PEOPLE, {ORCHESTRATOR}),
    "pipeline/main/oee/run/all": (OPERATORS, {ORCHESTRATOR}),
    "pipeline/main/oee/save/all": (ENGINEERS, {ORCHESTRATOR}),
    "pipeline/main/oee/delete/all": (ENGINEERS, {ORCHESTRATOR}),
    "pipeline/main/oee/rollback/all": (ENGINEERS, {ORCHESTRATOR}),
    "pipeline/main/oee/validate/all": (ENGINEERS, {ORCHESTRATOR}),
    "pipeline/main/oee/diff/all": (ENGINEERS, {ORCHESTRATOR}),
    "run/main/r1/get/all": (PEOPLE, {ORCHESTRATOR}),
    "run/main/r1/cancel/all": (OPERATORS, {ORCHESTRATOR}),
    "run/main/r1/replay/all": (ENGINEERS, {ORCHESTRATOR}),
    "task/plant/t1/cancel/all": ({ORCHESTRATOR}, {COMPUTE}),
    "function/main/fft/call/all": (ENGINEERS, {ORCHESTRATOR}),
    "alarm/main/low/ack/all": (OPERATORS, {ORCHESTRATOR}),
    "alarm/main/low/shelve/all": (OPERATORS, {ORCHESTRATOR}),
    "alarm/main/low/unshelve/all": (OPERATORS, {ORCHESTRATOR}),
    "events/plant/recorder/read/all": ({ORCHESTRATOR, *PEOPLE}, {RECORDER}),
    "events/plant/recorder/audit/all": (PEOPLE, {RECORDER}),
    "events/plant/recorder/replay/all": (PEOPLE, {RECORDER}),
    "events/plant/recorder/verify/all": (PEOPLE, {RECORDER}),
    "history/plant/recorder/query/all": (PEOPLE, {RECORDER}),
    "history/plant/recorder/at/all": (PEOPLE, {RECORDER}),
    "recorder/plant/recorder/audit/all": (PEOPLE, {RECORDER}),
    "recorder/plant/recorder/deadletters/all": (ENGINEERS, {RECORDER}),
    "recorder/plant/recorder/retry/all": (ENGINEERS, {RECORDER}),
    "recorder/plant/recorder/discard/all": (ENGINEERS, {RECORDER}),
    "user/plant/anna/add/all": ({ADMIN}, {IDENTITY}),
    "user/plant/anna/remove/all": ({ADMIN}, {IDENTITY}),
    "user/plant/anna/role/all": ({ADMIN}, {IDENTITY}),
    "user/plant/anna/passwd/all": ({ADMIN}, {IDENTITY}),
    "user/plant/viewer/own-passwd/all": ({VIEWER}, {IDENTITY}),
    "user/plant/admin/own-passwd/all": ({ADMIN}, {IDENTITY}),
    "user/plant/anna/own-passwd/all": (set(), {IDENTITY}),
    "user/plant/all/list/all": ({ADMIN}, {IDENTITY}),
}
# Accounts that send commands, and so read replies to them.
ASKERS = {RECORDER, ORCHESTRATOR, *PEOPLE}
# Nobody's, whole topics: what no line allows is refused.
NOBODYS = (
    *("tag", "test", "dinrail", "dinrail/v1", "dinrail/v1/plant", "dinrail/v1/plant/unheard/of"),
    *("dinrail/v1/plant/tag/plc/level/more", "dinrail/v1/plant/tag/plc", "dinrail/v1/plant/policy/other"),
    *("dinrail/v1/othersite/tag/plc/level", "dinrail/v2/plant/tag/plc/level", "DINRAIL/v1/plant/tag/plc/level"),
    *("/dinrail/v1/plant/tag/plc/level", "dinrail/v1/plant//tag/plc/level", "dinrail/v1/plant/tag/plc/level/"),
    *("dinrail/v1/plant/cmd/engineer/admin/plant/a/read/all", "dinrail/v1/plant/cmd/operator/device/plant/plc/write"),
    *("dinrail/v1/plant/cmd/operator/device/other/plc/write/level", "dinrail/v1/plant/cmd/viewer"),
    *("dinrail/v1/plant/reply/viewer", "dinrail/v1/plant/reply/viewer/a/b"),
)
# Topics of the broker's own, which a filter that begins with a wildcard does not match (MQTT 5.0, 4.7.2).
BROKERS = ("$SYS/broker/uptime", "$SYS/broker/log/N", "$CONTROL/dynamic-security/v1", "$SYS/dinrail")


def matrix() -> dict[str, tuple[set[str], set[str]]]:
    """Whole topic: who may write it and who may read it. Each command under the name of each account and a stranger's.

    Who executes a command may write it too: he wipes one that was sent retained.
    """
    rows = {topic: (writers, readers) for topic, (writers, readers) in SAID.items()}
    for user in (*NAMES, STRANGER):
        rows[f"reply/{user}/a"] = (SERVICES, {user} & ASKERS)
        for command, (senders, executors) in COMMANDED.items():
            rows[f"cmd/{user}/{command}"] = (executors | (senders & {user}), executors)
    return {f"{ROOT}{topic}": access for topic, access in rows.items()} | dict.fromkeys(NOBODYS, (set(), set()))


MATRIX = matrix()


class RunningSite:
    """A broker with the files that `dinrail init` makes, and one account more that may do everything, to test with."""

    def __init__(self, folder: Path, port: int) -> None:
        self.site = Site(folder)
        self.port = port
        make_site(self.site, name="plant", example=None, ports=Ports(broker=port))
        alone = BrokerSettings(port=port, listen=ListenSettings(tls_port=None, websocket_port=None))
        write_broker_files(self.site, name="plant", broker=alone)
        with (self.site.broker / "passwords").open("a") as file:
            file.write(password_file({"tester": "tester"}, present=""))
        # The end mark lets a subscriber know that it has been sent all that it will be sent.
        readers = "".join(f"user {account.name}\ntopic read {END}\n" for account in ACCOUNTS)
        with (self.site.broker / "acl").open("a") as file:
            file.write(f"{readers}user tester\ntopic readwrite #\n")
        self.clients: list[AccountClient] = []

    def login(self, account: str) -> AccountClient:
        """The tester's password is his name."""
        password = account if account == "tester" else self.site.password(account).read_text().strip()
        self.clients.append(AccountClient(self.port, account, password))
        return self.clients[-1]


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
            wait_until(lambda: listens(running.port), DEADLINE_S, what="the broker listens")
            yield running
        finally:
            for client in running.clients:
                client.close()
            process.terminate()


@pytest.fixture(scope="module")
def written(running: RunningSite) -> Mapping[str, tuple[set[str], set[str]]]:
    """Account: the topics of the matrix that the broker took from it, and those that then came to a reader of all."""
    reader = running.login("tester")
    reader.subscribe("#")
    taken = {name: running.login(name).publish([*MATRIX, *BROKERS], name.encode()) for name in NAMES}
    running.login("tester").publish([END])
    arrived: dict[str, set[str]] = {name: set() for name in NAMES}
    for message in reader.receive_until(END):
        arrived[message.payload.decode()].add(message.topic)
    return {name: (taken[name], arrived[name]) for name in NAMES}


@pytest.fixture(scope="module")
def read(running: RunningSite) -> Mapping[str, set[str]]:
    """Account: the topics of the matrix that came to it, which had subscribed to everything in every way there is."""
    readers = {name: running.login(name) for name in NAMES}
    for name, reader in readers.items():
        reader.subscribe("#", "+/#", "$CONTROL/#", f"$share/{name}/#", f"{ROOT}cmd/+/+/+/+/+/+", *NOBODYS, END)
    sender = running.login("tester")
    assert sender.publish([*MATRIX]) == set(MATRIX)
    sender.publish([END])
    return {name: {message.topic for message in reader.receive_until(END)} for name, reader in readers.items()}


def test_every_topic_and_command_of_the_contract_has_a_line_and_every_line_is_in_the_contract() -> None:
    spoken = [topic for topic in MATRIX if topic not in NOBODYS]

    assert {topic.name for topic in TOPICS if not any(map(topic.parse, spoken))} == set()
    assert {line for line in spoken if not any(topic.parse(line) for topic in TOPICS)} == set()
    assert set(NAMES) == {HEALTH, *SERVICES, *PEOPLE}


@pytest.mark.parametrize("account", NAMES)
def test_an_account_writes_what_its_contract_allows_and_nothing_else(
    written: Mapping[str, tuple[set[str], set[str]]], account: str
) -> None:
    taken, arrived = written[account]

    assert taken == {topic for topic, (writers, _) in MATRIX.items() if account in writers}
    assert arrived == taken


@pytest.mark.parametrize("account", NAMES)
def test_an_account_reads_what_its_contract_allows_and_nothing_else(read: Mapping[str, set[str]], account: str) -> None:
    assert read[account] == {topic for topic, (_, readers) in MATRIX.items() if account in readers}


def test_only_health_reads_what_the_broker_tells_of_itself_its_uptime_and_who_is_away(running: RunningSite) -> None:
    health, engineer = running.login("health"), running.login("engineer")
    for client in (health, engineer):
        client.subscribe("$SYS/#", "$SYS/broker/uptime", "$SYS/broker/version", "$SYS/broker/clients/#")

    allowed = {"$SYS/broker/uptime", "$SYS/broker/clients/disconnected"}
    came: set[str] = set()
    while came != allowed:
        came.add(health.received.get(timeout=DEADLINE_S).topic)
        assert came <= allowed
    assert {message.topic for message in list(health.received.queue)} <= allowed
    assert engineer.received.empty()


@pytest.mark.parametrize(("account", "password"), [("viewer", "wrong"), ("nobody", "x"), ("", None), ("viewer", None)])
def test_a_wrong_password_an_unknown_account_and_nobody_are_refused(
    running: RunningSite, account: str, password: str | None
) -> None:
    client = AccountClient(running.port, account, password)
    running.clients.append(client)

    assert client.connected.get(timeout=DEADLINE_S).getName() in {"Not authorized", "Bad user name or password"}


@pytest.mark.parametrize("site", ["", "Plant", "a/b", "+", "#", "a b", "a\ntopic readwrite #", "a\n", "\u0430", "$SYS"])
def test_a_site_name_that_could_widen_a_rule_is_refused(site: str) -> None:
    with pytest.raises(TopicError, match="site"):
        access_file(site)
