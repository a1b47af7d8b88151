"""Our files for Grafana and Prometheus are such as these programs take, and each alert fires at its own fault."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.make_dashboards import main as make_dashboards
from tests.grafana import DASHBOARDS, ROOT, dashboard
from tests.servers import program

PROMETHEUS = ROOT / "monitoring" / "prometheus"
GRAFANA = ROOT / "monitoring" / "grafana" / "provisioning"
RULES = PROMETHEUS / "rules" / "dinrail.yml"
NAMES = sorted(path.stem for path in DASHBOARDS.glob("*.json"))
ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}  # fmt: skip


def promtool(*arguments: str) -> None:
    tool = program("promtool", package="prometheus")
    ended = subprocess.run([str(tool), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_takes_our_settings_and_rules() -> None:
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_prometheus_scrapes_every_service_of_the_stack_where_it_listens() -> None:
    jobs = {
        job["job_name"]: job for job in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    }
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    services = {name for name, one in stack.items() if one.get("command", [""])[:2] == ["python", "-m"]} | {"compute"}
    assert jobs.keys() == {*services, "prometheus"}
    for service in services:
        port = stack[service]["environment"][f"DINRAIL_{service.upper()}__HTTP_PORT"]
        (asked,) = jobs[service].get("static_configs") or jobs[service]["dns_sd_configs"]
        asked = asked if "targets" in asked else {"targets": [f"{name}:{asked['port']}" for name in asked["names"]]}
        assert asked == {"targets": [f"{service}:{port}"]}


def test_dashboards_are_as_they_are_made(tmp_path: Path) -> None:
    make_dashboards(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in DASHBOARDS.iterdir()
    }, "python -m monitoring.make_dashboards"


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_what_grafana_asks_for_and_says_what_it_is_for(name: str) -> None:
    made = dashboard(name)
    sources = yaml.safe_load((GRAFANA / "datasources" / "dinrail.yml").read_text())["datasources"]
    known = [{"type": source["type"], "uid": source["uid"]} for source in sources]
    assert made["uid"] == f"dinrail-{name}"
    assert made["schemaVersion"] >= 39
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        assert panel["description"].endswith((".", "stored.")), panel["title"]
        assert {one["refId"] for one in panel["targets"]} == set("ABCD"[: len(panel["targets"])])
        assert all(one["datasource"] in known for one in (panel, *panel["targets"]))
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies over another"
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in made["panels"]}) == len({panel["title"] for panel in made["panels"]})
    assert len(made["panels"]) == len({panel["title"] for panel in made["panels"]})


def test_provisioned_files_name_one_another_rightly() -> None:
    providers = yaml.safe_load((GRAFANA / "dashboards" / "dinrail.yml").read_text())["providers"]
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = {"./monitoring/grafana/dashboards": "/var/lib/grafana/dashboards"}
    if "grafana" in stack:
        mounts = dict(mount.split(":")[:2] for mount in stack["grafana"]["volumes"])
        assert mounts["./monitoring/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./monitoring/grafana/dashboards"] == providers[0]["options"]["path"]
    (group,) = yaml.safe_load((GRAFANA / "alerting" / "dinrail.yml").read_text())["groups"]
    (rule,) = group["rules"]
    assert rule["condition"] in {query["refId"] for query in rule["data"]}
    example = yaml.safe_load((GRAFANA / "alerting" / "contact-points.yml.example").read_text())
    assert example["policies"][0]["receiver"] in {point["name"] for point in example["contactPoints"]}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_the_mend_is_written(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["runbook"] == f"docs/incidents.md#{name.lower()}"
    assert f"\n## {name}\n" in (ROOT / "docs" / "incidents.md").read_text()


NONE, LOST = "0+0x60", "0x20 1x40"
"""Samples of a minute each, as promtool writes them."""
GATEWAY = 'job="gateway",instance="g"'
RECORDER = 'job="recorder",instance="r"'
COMPUTE = {'up{job="compute",instance="c"}': "1+0x60"}


def first(series: str) -> dict[str, str]:
    """A counter that is there for the first time after half an hour, with 1: it has no increase."""
    return {series: "_x30 1x30"}


FAULTS: dict[str, dict[str, str]] = {
    "GatewayDown": {f"up{{{GATEWAY}}}": "1x28 0x32"},
    "ServiceDown": {f"up{{{RECORDER}}}": "1x28 0x32"},
    "ComputeUnavailable": {'up{job="compute",instance="c"}': "1x28 0x32"},
    "ServiceRestarting": {f"process_start_time_seconds{{{GATEWAY}}}": "1x24 2 3 4x34"},
    "TaskCrashed": first(f'dinrail_crashes_total{{{GATEWAY},task="bus"}}'),
    "DiskNearlyFull": {f"dinrail_disk_free_bytes{{{GATEWAY}}}": "50x20 5x40",
                       f"dinrail_disk_size_bytes{{{GATEWAY}}}": "100x60"},
    "ClockStepped": {f"dinrail_clock_steps_total{{{GATEWAY}}}": "0x28 1x32",
                     f"dinrail_clock_step_seconds{{{GATEWAY}}}": "0x28 -7x32"},
    "BrokerUnreachable": {f"dinrail_bus_connected{{{GATEWAY}}}": "1x28 0x32"},
    "BrokerConnectionUnsteady": {f"dinrail_bus_reconnects_total{{{GATEWAY}}}": "0x20 1 2 3 4 5x36"},
    "MessagesRefused": first(f'dinrail_publish_refused_total{{{GATEWAY},class="TAG",reason="0x87"}}'),
    "QueueDrops": {f'dinrail_dropped_items_total{{{GATEWAY},queue="publisher",reason="oldest"}}': "0x28 5x32"},
    "CommandsRefused": {f'dinrail_dropped_items_total{{{GATEWAY},queue="bus.WRITE",reason="forbidden"}}': "0x27 90x33"},
    "HandlersFailing": {f'dinrail_handler_errors_total{{{GATEWAY},class="TAG"}}': "0+60x60"},
    "DeviceOffline": {f'dinrail_device_state{{{GATEWAY},device="press"}}': "3x28 0x32"},
    "DeviceDegraded": {f'dinrail_device_state{{{GATEWAY},device="press"}}': "3x20 2x40"},
    "PollOverruns": {f'dinrail_overruns_total{{{GATEWAY},device="press"}}': "0+10x60",
                     f'dinrail_polls_total{{{GATEWAY},device="press",outcome="good"}}': "0+90x60",
                     f'dinrail_polls_total{{{GATEWAY},device="press",outcome="failed"}}': "0+10x60"},
    "JournalFilling": {f"dinrail_journal_alarm{{{GATEWAY}}}": "0x28 1x32"},
    "JournalLost": {f'dinrail_journal_lost_records_total{{{GATEWAY},reason="cap_bytes"}}': "0x28 4x32"},
    "JournalErrors": first(f'dinrail_journal_errors_total{{{GATEWAY},reason="enospc"}}'),
    "BacklogNotShrinking": {f"dinrail_backlog{{{GATEWAY}}}": "2000+10x60"},
    "SpoolFilling": {f"dinrail_spool_bytes{{{RECORDER}}}": "0x28 60x32",
                     f"dinrail_spool_limit_bytes{{{RECORDER}}}": "100x60"},
    "SpoolFull": {f"dinrail_spool_bytes{{{RECORDER}}}": "0x28 100x32",
                  f"dinrail_spool_limit_bytes{{{RECORDER}}}": "100x60"},
    "HistoryErrors": {f'dinrail_store_errors_total{{{RECORDER},store="influxdb",reason="503"}}': "0+1x60"},
    "HistorySilent": {f"dinrail_intake_messages_total{{{RECORDER}}}": "0+9x60",
                      f'dinrail_values_total{{{GATEWAY},device="oven"}}': "0+90x60",
                      f'dinrail_stored_values_total{{{RECORDER},store="influxdb"}}': "50x60"},
    "DeadLetters": first(f'dinrail_dead_letters_total{{{RECORDER},reason="refused"}}'),
    "GapsNotMended": {f"dinrail_frames_missing{{{RECORDER}}}": "0x10 3x50"},
    "FramesLost": {f'dinrail_frames_lost_total{{{RECORDER},reason="cap_bytes"}}': "0x28 4x32"},
    "EventsMissing": {f"dinrail_event_versions_missing{{{RECORDER}}}": "0x10 1x50"},
    "EventsRemovedEarly": {f'dinrail_events_removed_total{{{RECORDER},reason="size"}}': "0x28 400x32"},
    "PipelinesFailing": {'pipeline_executions_total{job="orchestrator",instance="o",workspace="main",pipeline="tank",'
                         'status="failed"}': "0x28 2x32"},
    "RunsWaiting": {'dinrail_runs_queued{job="orchestrator",instance="o"}': "0x10 4x50"},
    "TriggersMissed": {'dinrail_trigger_firings_total{job="orchestrator",instance="o",workspace="main",'
                       'pipeline="tank",kind="cron",outcome="missed"}': "0x28 1x32"},
}  # fmt: skip
SEEN_MINUTES = 31
WELL: dict[str, str] = {
    **{f'up{{job="{job}",instance="x"}}': "1+0x60" for job in ("gateway", "recorder", "orchestrator", "identity")},
    f"process_start_time_seconds{{{GATEWAY}}}": "1x60",
    f"dinrail_bus_connected{{{GATEWAY}}}": "1x60",
    f"dinrail_bus_reconnects_total{{{GATEWAY}}}": "1x60",
    f'dinrail_crashes_total{{{GATEWAY},task="bus"}}': "2x60",
    f'dinrail_device_state{{{GATEWAY},device="oven"}}': "3x60",
    f'dinrail_device_state{{{GATEWAY},device="old"}}': "-1x60",
    f'dinrail_overruns_total{{{GATEWAY},device="oven"}}': "0x20 1x40",
    f'dinrail_polls_total{{{GATEWAY},device="oven",outcome="good"}}': "0+90x60",
    f'dinrail_dropped_items_total{{{GATEWAY},queue="bus.WRITE",reason="forbidden"}}': "0x28 3x32",
    f"dinrail_backlog{{{GATEWAY}}}": "90000-1000x60",
    f'dinrail_values_total{{{GATEWAY},device="oven"}}': "0+90x60",
    f"dinrail_spool_bytes{{{GATEWAY}}}": "0x60",
    f"dinrail_spool_limit_bytes{{{GATEWAY}}}": "0x60",
    f"dinrail_frames_missing{{{RECORDER}}}": "0x20 3x5 0x35",
    f"dinrail_intake_messages_total{{{RECORDER}}}": "0+9x60",
    'dinrail_intake_messages_total{job="orchestrator",instance="o"}': "0+9x60",
    f'dinrail_events_removed_total{{{RECORDER},reason="age"}}': "0x20 400x40",
    f'dinrail_stored_values_total{{{RECORDER},store="embedded"}}': "0x5 30x5 60x5 90x5 120x5 150x5 180x30",
    'pipeline_executions_total{job="orchestrator",workspace="main",pipeline="tank",status="done"}': "0+9x60",
}


def checked(tmp_path: Path, series: dict[str, str], firing: str | None) -> None:
    """promtool plays these series, a minute from sample to sample, and asks what fires after half an hour."""
    may = {firing, "SpoolFilling" if firing == "SpoolFull" else firing}  # a full spool is filled, too
    tests = [
        {"eval_time": f"{SEEN_MINUTES}m", "alertname": name, "exp_alerts": []} for name in ALERTS if name not in may
    ]
    played: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": tests,
    }
    if firing is not None:
        played["promql_expr_test"] = [
            {
                "expr": f'count(ALERTS{{alertname="{firing}",alertstate="firing"}})',
                "eval_time": f"{SEEN_MINUTES}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ]
    path = tmp_path / "test.yml"
    content = {"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [played]}
    path.write_text(json.dumps(content))
    promtool("test", "rules", str(path))


def test_a_history_is_not_silent_because_no_device_gives_it_a_value(tmp_path: Path) -> None:
    away = {f'dinrail_values_total{{{GATEWAY},device="oven"}}': "90x60"}
    checked(tmp_path, {**COMPUTE, **FAULTS["HistorySilent"], **away}, firing=None)


def test_every_alert_has_its_fault_and_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    assert FAULTS.keys() == ALERTS.keys()
    checked(tmp_path, {**COMPUTE, **WELL}, firing=None)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_at_its_own_fault_alone(tmp_path: Path, name: str) -> None:
    checked(tmp_path, {**COMPUTE, **FAULTS[name]}, firing=name)
