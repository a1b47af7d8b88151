import gc
import re
from collections import deque
from pathlib import Path
from threading import Thread, current_thread

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from services.runtime.metric_family import MOST_NAMES, OTHER, Family
from services.runtime.metrics import Metrics

FEW = 20
"""Series of one device or pipeline: every outcome, every bucket."""


def series(metrics: Metrics) -> list[tuple[str, dict[str, str]]]:
    return [(sample.name, sample.labels) for family in metrics.registry.collect() for sample in family.samples]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def use_device(metrics: Metrics, name: str) -> None:
    """As a gateway does."""
    metrics.frames.labels(name).inc()
    for outcome in ("good", "partial", "failed"):
        metrics.polls.labels(name, outcome).inc()
    metrics.poll_seconds.labels(name).observe(0.01)
    metrics.actor_errors.labels(name, "comm").inc()
    metrics.device_state.labels(name).set(3)


def use_pipeline(metrics: Metrics, workspace: str, name: str) -> None:
    """As an orchestrator does."""
    metrics.expect_pipeline(workspace, name)
    for status in ("done", "failed", "cancelled"):
        metrics.count_run(workspace, name, status, 0.01)
    metrics.firings.labels(workspace, name, "every", "started").inc()


def test_ten_thousand_devices_and_pipelines_of_hostile_names_make_a_bounded_number_of_series() -> None:
    metrics = Metrics(CollectorRegistry())
    for number in range(10_000):
        use_device(metrics, f"device-{number}")
        use_pipeline(metrics, f"workspace-{number % 100}", f"pipeline-{number}")
        metrics.frames_lost.labels(f"reason {number}\n\\").inc()
        metrics.crashes.labels(f"device.{number}").inc()

    assert len(series(metrics)) < 120 * (MOST_NAMES + 1)
    assert value(metrics, "dinrail_frames_total", device=OTHER) == 10_000 - MOST_NAMES, "none is lost"
    assert value(metrics, "dinrail_polls_total", device=OTHER, outcome="failed") == 10_000 - MOST_NAMES
    executed = value(metrics, "pipeline_executions_total", workspace=OTHER, pipeline=OTHER, status="done")
    assert executed == 10_000 - MOST_NAMES
    assert value(metrics, "dinrail_frames_total", device="device-0") == 1


def test_a_device_that_is_forgotten_leaves_no_series_and_makes_room_for_another() -> None:
    metrics = Metrics(CollectorRegistry())
    for number in range(MOST_NAMES):
        use_device(metrics, f"device-{number}")
    metrics.forget_device("device-7")
    use_device(metrics, "late")

    shown = {name for _, labels in series(metrics) for name in labels.values()}
    assert "device-7" not in shown
    assert "late" in shown
    assert OTHER not in shown


def test_a_deleted_pipeline_leaves_no_series_and_its_namesake_elsewhere_keeps_its_own() -> None:
    metrics = Metrics(CollectorRegistry())
    for workspace in ("main", "lab"):
        use_pipeline(metrics, workspace, "tank")
    metrics.forget_pipeline("lab", "tank")
    metrics.count_run("lab", "tank", "done", 1.0)  # it was under way

    assert {labels["workspace"] for _, labels in series(metrics) if "workspace" in labels} == {"main"}


def test_queues_of_one_name_are_shown_as_what_waits_in_all_of_them() -> None:
    metrics = Metrics(CollectorRegistry())
    first, second = deque([1, 2]), deque([1, 2, 3])
    metrics.watch_depth("bus.WRITE", first)
    metrics.watch_depth("bus.WRITE", second)
    assert value(metrics, "dinrail_queue_depth_items", queue="bus.WRITE") == 5

    del first
    gc.collect()

    assert value(metrics, "dinrail_queue_depth_items", queue="bus.WRITE") == 3, "one that is gone counts no more"
    second.clear()
    assert value(metrics, "dinrail_queue_depth_items", queue="bus.WRITE") == 0


def test_what_the_loop_changes_is_counted_when_it_looks_and_never_by_the_thread_that_scrapes() -> None:
    metrics, waiting = Metrics(CollectorRegistry()), [1, 2, 3]
    counted_by = []

    def count() -> int:
        counted_by.append(current_thread())
        return len(waiting)

    metrics.sample(metrics.backlog, count)
    metrics.look()
    waiting.clear()
    scrape = Thread(target=generate_latest, args=(metrics.registry,))
    scrape.start()
    scrape.join()

    assert value(metrics, "dinrail_backlog") == 3
    assert counted_by == [current_thread()]
    metrics.look()
    assert value(metrics, "dinrail_backlog") == 0


def test_the_disk_of_a_folder_is_shown_and_no_number_where_there_is_none(tmp_path: Path) -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.watch_disk(tmp_path)
    free, size = value(metrics, "dinrail_disk_free_bytes"), value(metrics, "dinrail_disk_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free < size

    metrics.watch_disk(tmp_path / "none")
    assert value(metrics, "dinrail_disk_free_bytes") != value(metrics, "dinrail_disk_free_bytes"), "NaN"


def test_the_table_of_the_documents_is_what_the_code_has() -> None:
    rows = []
    for one in vars(Metrics(CollectorRegistry())).values():
        metric, labels = (one.metric, one.label_names) if isinstance(one, Family) else (one, ())
        if not isinstance(metric, MetricWrapperBase):
            continue
        (shown,) = metric.describe()
        name = shown.name + ("_total" if shown.type == "counter" else "")
        named = "{" + ", ".join(labels) + "}" if labels else ""
        rows.append((f"`{name}{named}`", shown.type, shown.documentation))
    text = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text()
    told = re.findall(r"^\| (`[a-z_]+(?:\{[a-z_, ]+\})?`) \| (\w+) \| [^|]+ \| (.+) \|$", text, re.MULTILINE)

    assert sorted(told) == sorted(rows)


def test_each_metric_that_the_handbook_of_incidents_says_to_look_at_is_there() -> None:
    page = (Path(__file__).parents[3] / "docs" / "incidents.md").read_text()
    named = set(re.findall(r"`((?:dinrail|compute_pool|databus|actor|pipeline)_[a-z_]+)`", page))
    there = set()
    for family in Metrics(CollectorRegistry()).registry.collect():
        there.add(family.name + ("_total" if family.type == "counter" else ""))

    assert len(named) > 5
    assert named <= there


def test_names_and_labels_are_those_that_the_design_asks_for_and_all_others_begin_with_dinrail() -> None:
    metrics = Metrics(CollectorRegistry())
    use_device(metrics, "pump")
    use_pipeline(metrics, "main", "tank")
    metrics.databus_messages.labels("sent", "FRAME").inc()
    metrics.databus_subscribers.labels("TAG").inc()
    metrics.compute_tasks.labels("done").inc()
    asked = {
        "pipeline_executions_total": {"workspace", "pipeline", "status"},
        "active_pipelines": set(),
        "pipeline_duration_seconds_count": {"workspace", "pipeline"},
        "databus_messages_total": {"direction", "class"},
        "databus_subscribers": {"class"},
        "actor_errors_total": {"actor_id", "error_type"},
        "compute_pool_tasks_total": {"status"},
        "compute_pool_task_duration_seconds_count": set(),
    }

    found = {name: set(labels) for name, labels in series(metrics)}
    assert {name: found[name] for name in asked} == asked
    bare = {name for name in found if not name.startswith("dinrail_")}
    assert {re.sub("_(created|bucket|sum)$", "", name) for name in bare} <= {
        re.sub("_(total|count)$", "", name) for name in asked
    } | asked.keys()
