"""What a real Prometheus finds at a whole site of real services: our dashboards' queries, our metrics, our rules."""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from math import isnan
from typing import Any

import pytest
import yaml

from contracts.v1.frame_codec import FrameStruct, encode_frame
from tests.grafana import ROOT, Choice, Query, Series, asked_of_prometheus, label_values, queries
from tests.integration.monitored_site import MONITORING, MonitoredSite, monitored_site
from tests.polling import wait_until

DASHBOARDS = ("devices", "pipelines", "completeness", "services")
WAIT_S = 30
Found = list[Series]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredSite]:
    """At work; of a device that is gone, a frame came late and two never; two messages kept no contract: a frame, and
    what a recorder tells the gateway."""
    with monitored_site(tmp_path_factory.mktemp("monitored")) as running:
        listens = plain('databus_subscribers{job="gateway",class="STORED"} == 1')
        takes = plain('count(dinrail_intake_messages_total{job="recorder"} > 0) == 2')
        for beginning in (listens, takes):
            wait_until(lambda: asked_of_prometheus(running.prometheus, beginning, now()), WAIT_S, what=beginning.text)  # noqa: B023
        for topic, seq in (("frame/ghost/fast", 1), ("frame/ghost/fast", 5), ("backfill/frame/ghost/fast", 2)):
            running.publish(
                "gateway", topic, encode_frame(FrameStruct(epoch=1, seq=seq, rev="r", samples=[]), topic=topic)
            )
        running.publish("gateway", "frame/axis/fast", b"no frame")
        running.publish("recorder", "stored/recorder/frame/axis/fast", b"no marks")
        yield running


def now(**chosen: list[str]) -> Choice:
    """A minute until now; what was counted in it does not fall out while the tests go on."""
    end_s = int(time.time())
    return Choice(end_s - 60, end_s, step_s=1, rate_s=120, chosen=chosen)


def asked(site: MonitoredSite, query: Query, holds: Callable[[Found], bool], **chosen: list[str]) -> None:
    """Returns once the query gives what holds; fails with what it gave last."""
    last: Found = []

    def found() -> bool:
        """Once more."""
        last[:] = asked_of_prometheus(site.prometheus, query, now(**chosen))
        return holds(last)

    try:
        wait_until(found, WAIT_S, what=query.place)
    except pytest.fail.Exception:
        shown = [(labels, list(values.values())[-3:]) for labels, values in last]
        pytest.fail(f"{query.dashboard}: {query.place}: {now(**chosen).put_into(query)}\ngave {shown}")


def plain(text: str) -> Query:
    """One of no dashboard, without variables."""
    return Query("devices", "none", "A", "prometheus", text, {"instant": True})


def named(dashboard: str, place: str) -> Query:
    (query,) = [query for query in queries(dashboard) if query.place == place]
    return query


def latest(found: Found, *labels: str) -> dict[Any, float]:
    """The last value of each series, by these labels; without those that are no number, which Grafana does not draw."""
    last = {tuple(names.get(label, "") for label in labels): list(values.values())[-1] for names, values in found}
    return {key[0] if len(labels) == 1 else key: value for key, value in last.items() if not isnan(value)}


def one(holds: Callable[[float], bool]) -> Callable[[Found], bool]:
    """One number, for which this holds."""
    return lambda found: len(found) == 1 and list(map(holds, latest(found).values())) == [True]


def each(holds: Callable[[float], bool], *keys: Any, by: tuple[str, ...]) -> Callable[[Found], bool]:
    """These series at least, in all of which this holds."""
    return lambda found: latest(found, *by).keys() >= set(keys) and all(map(holds, latest(found, *by).values()))


def exactly(by: tuple[str, ...], **wanted: float) -> Callable[[Found], bool]:
    return lambda found: latest(found, *by) == wanted


def whether(by: tuple[str, ...], **any_: bool) -> Callable[[Found], bool]:
    """Which of the series are more than 0."""
    return lambda found: {key: value > 0 for key, value in latest(found, *by).items()} == any_


def some(value: float) -> bool:
    return value > 0


def none(value: float) -> bool:
    return value == 0


def not_less(value: float) -> bool:
    return value >= 0


def share(value: float) -> bool:
    return 0 <= value <= 1


SERVICES = {"gateway", "orchestrator", "recorder", "compute", "identity"}
OF_PIPELINE = ("workspace", "pipeline")
EXPECTED: dict[str, dict[str, Callable[[Found], bool]]] = {
    "devices": {
        "Online A": one(lambda value: value == 1),
        "Degraded A": one(none),
        "Offline A": one(lambda value: value == 1),
        "Polls too late A": one(not_less),
        "Errors A": one(some),
        "Values per second A": one(lambda value: 0 < value <= 6),
        "State A": exactly(("device",), axis=3, gone=0),
        "Time of a poll (95 of 100) A": each(lambda value: 0 < value <= 10, "axis", by=("device",)),
        "Polls by outcome A": lambda found: some(latest(found, "device", "outcome").get(("axis", "good"), 0)),
        "Polls too late, share A": each(share, "axis", by=("device",)),
        "Errors by cause A": each(some, ("gone", "comm"), by=("actor_id", "error_type")),
    },
    "pipelines": {
        "Running A": one(lambda value: 0 <= value <= 2),
        "Waiting A": one(not_less),
        "Failed A": one(some),
        "Firings without a run A": one(not_less),
        "Compute workers busy A": one(not_less),
        "Compute services A": one(lambda value: value == 1),
        "Runs per second A": lambda found: {key for key, value in latest(found, "pipeline", "status").items() if value}
        >= {("mean", "done"), ("broken", "failed")},
        "Time of a run A": each(some, "mean", "broken", by=("pipeline",)),
        "Time of a run B": each(some, "mean", "broken", by=("pipeline",)),
        "By pipeline A": lambda found: {key for key, value in latest(found, *OF_PIPELINE).items() if value}
        == {("main", "mean")},
        "By pipeline B": lambda found: {key for key, value in latest(found, *OF_PIPELINE).items() if value}
        >= {("main", "broken")},
        "By pipeline C": each(none, ("main", "mean"), ("main", "broken"), by=OF_PIPELINE),
        "By pipeline D": each(some, ("main", "mean"), ("main", "broken"), by=OF_PIPELINE),
        "Firings A": lambda found: {key for key, value in latest(found, "pipeline", "outcome").items() if value}
        >= {("mean", "started"), ("broken", "started")},
        "Compute tasks A": lambda found: {key for key, value in latest(found, "status").items() if value} >= {"done"},
        "Compute tasks B": one(some),
    },
    "completeness": {
        "Missing now A": one(not_less),
        "Lost A": one(none),
        "Dead letters A": one(lambda value: 0 < value < 4),
        "Spool A": one(lambda value: 0 < value < 0.5),
        "Backlog A": one(not_less),
        "Events missing A": one(not_less),
        "From the broker to the history A": one(some),
        "From the broker to the history B": whether(("store",), embedded=True, influxdb=False),
        "Gaps A": one(some),
        "Gaps B": one(some),
        "Gaps C": one(not_less),
        "Gaps D": each(not_less, "answered", by=("outcome",)),
        "What the history refuses A": lambda found: latest(found, "store", "reason").keys()
        == {("influxdb", "connection")},
        "What the history refuses B": whether(("reason",), contract=True, refused=False),
        "Waiting A": lambda found: max(latest(found, "instance").values(), default=0) > 0,
        "Waiting B": each(not_less, "gateway", "orchestrator", "recorder", by=("job",)),
        "Journals A": each(some, "gateway", "orchestrator", by=("job",)),
        "Growth of the history A": lambda found: found == [],  # it is known after the first full hour
    },
    "services": {
        "Up A": lambda found: {labels["job"] for labels, _ in found} == SERVICES
        and set(latest(found, "instance").values()) == {1},
        "Connected to the broker A": each(lambda value: value == 1, *SERVICES, by=("job",)),
        "Alerts A": lambda found: ("DeadLetters", "warning", "recorder", "contract")
        in latest(found, "alertname", "severity", "job", "reason"),
        "Releases A": lambda found: {(labels["job"], labels["service"]) for labels, _ in found}
        == {(name, name) for name in SERVICES} and all(re.match(r"\d+\.\d+", labels["version"]) for labels, _ in found),
        "Processor A": each(some, *SERVICES, by=("job",)),
        "Memory A": each(lambda value: 1e7 < value < 1e9, *SERVICES, by=("job",)),
        "Messages A": lambda found: some(
            latest(found, "job", "direction", "class").get(("gateway", "sent", "FRAME"), 0))
        and some(latest(found, "job", "direction", "class").get(("compute", "received", "TASK"), 0)),
        "Subscriptions A": each(some, *SERVICES, by=("job",)),
        "Time of a handler (95 of 100) A": each(some, ("compute", "TASK"), by=("job", "class")),
        "Queues A": lambda found: all(map(some, latest(found, "job", "queue").values())),  # mostly none waits
        "Dropped and refused A": lambda found: some(
            latest(found, "job", "queue", "reason").get(("gateway", "bus.STORED", "malformed"), 0)),
        "Disk left A": each(share, *SERVICES, by=("job",)),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("dashboard", "place"),
    [(name, query.place) for name in DASHBOARDS for query in queries(name) if query.panel != "variable"],
)
def test_prometheus_gives_each_panel_what_the_services_do(site: MonitoredSite, dashboard: str, place: str) -> None:
    asked(site, named(dashboard, place), EXPECTED[dashboard][place])


def test_variables_offer_what_is_there_and_what_is_chosen_alone_is_shown(site: MonitoredSite) -> None:
    def offered(dashboard: str, name: str) -> list[str]:
        choice = now()
        return label_values(site.prometheus, choice.put_into(named(dashboard, f"variable {name}")), choice)

    wait_until(lambda: offered("pipelines", "pipeline") == ["broken", "mean"], WAIT_S, what="the pipelines")
    assert offered("devices", "device") == ["axis", "gone"]
    assert offered("pipelines", "workspace") == ["main"]
    assert set(offered("services", "job")) == {*SERVICES, "prometheus"}
    asked(site, named("devices", "State A"), exactly(("device",), gone=0), device=["gone"])
    asked(
        site,
        named("pipelines", "By pipeline A"),
        lambda found: latest(found, "pipeline").keys() == {"mean"},
        pipeline=["mean"],
    )
    asked(site, named("services", "Up A"), lambda found: len(found) == 2, job=["recorder"])


WRONG = {"DeviceOffline", "HistoryErrors", "DeadLetters", "PipelinesFailing"}
"""What fires here, or soon would."""


def documented() -> dict[str, str]:
    """Names of metrics, and their labels, in docs/monitoring.md."""
    text = (ROOT / "docs" / "monitoring.md").read_text()
    return dict(re.findall(r"^\| `([a-z_]+)(?:\{([a-z_, ]+)\})?` \|", text, re.MULTILINE))


def test_each_service_shows_every_metric_of_the_documents_and_no_other(site: MonitoredSite) -> None:
    families = re.compile(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", re.MULTILINE)
    for service, ports in site.ports.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/metrics", timeout=5) as answer:
            shown = set(families.findall(answer.read().decode()))
        ours = {name for name in shown if not name.startswith("process_")}
        assert ours == documented().keys(), service


def test_documented_labels_are_those_that_prometheus_has(site: MonitoredSite) -> None:
    names = {name: set(labels.split(", ")) for name, labels in documented().items() if labels}
    own = {"__name__", "job", "instance", "le"}
    seen = 0
    for name, labels in names.items():
        for found, _ in asked_of_prometheus(site.prometheus, plain(f'{{__name__=~"{name}(_count)?"}}'), now()):
            assert found.keys() - own == labels, name
            seen += 1
    assert seen > 50


def test_what_grafana_tells_people_is_each_alert_that_fires_by_its_name(site: MonitoredSite) -> None:
    file = ROOT / "monitoring" / "grafana" / "provisioning" / "alerting" / "dinrail.yml"
    (rule,) = yaml.safe_load(file.read_text())["groups"][0]["rules"]
    (query,) = [one["model"]["expr"] for one in rule["data"]]
    asked(site, plain(query), each(lambda value: value == 1, "DeadLetters", by=("alert",)))


def test_every_rule_is_evaluated_and_none_fires_but_for_what_is_wrong_here(site: MonitoredSite) -> None:
    def rules() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{site.prometheus}/api/v1/rules", timeout=5) as answer:
            return [rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]

    written = yaml.safe_load((MONITORING / "rules" / "dinrail.yml").read_text())["groups"]
    names = {rule["alert"] for group in written for rule in group["rules"]}

    def states() -> dict[str, str]:
        return {rule["name"]: rule["state"] for rule in rules() if rule["health"] == "ok"}

    wait_until(lambda: states().keys() == names, WAIT_S, what="all rules have been evaluated")
    wait_until(lambda: all(states()[name] != "inactive" for name in WRONG), WAIT_S, what=f"{WRONG} are seen")
    assert {name for name, state in states().items() if state == "firing"} <= {*WRONG, "TriggersMissed"}
    assert [rule["lastError"] for rule in rules() if rule.get("lastError")] == []
