"""Every metric of every service, with its name, in one place; docs/monitoring.md has the table of them.

Labels are given in the order written here: metrics.dropped.labels("bus", "full").inc(). On a hot path keep the
result of labels(): looking it up costs ten times what inc() does.
"""

import shutil
from collections.abc import Callable, Sized
from math import nan
from pathlib import Path
from weakref import ref

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.runtime.metric_family import Family

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RUN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_LOSSES = ("cap_bytes", "cap_age", "store_replaced", "disk_full", "damaged", "skipped")
_ENDS_OF_RUNS = ("done", "failed", "cancelled")


class Metrics:
    """The metrics of one process, registered in its registry. A service uses those that concern it.

    Losses and failures that have a name beforehand begin at 0: Prometheus sees no increase in a series whose first
    value is 1.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._waiting: dict[str, list[ref[Sized]]] = {}
        self._pipelines: set[tuple[str, str]] = set()
        self._sampled: list[tuple[Gauge, Callable[[], int]]] = []
        self._bus()
        self._process()
        self._journal()
        self._gateway()
        self._recorder()
        self._compute()
        self._orchestrator()

    def forget_device(self, device: str) -> None:
        """The device is gone: what was measured of it is shown no more."""
        for family in (self.frames, self.values, self.polls, self.overruns):
            family.forget(device=device)
        self.poll_seconds.forget(device=device)
        self.device_state.forget(device=device)
        self.actor_errors.forget(actor_id=device)

    def forget_pipeline(self, workspace: str, pipeline: str) -> None:
        """The pipeline is deleted: what was measured of it is shown no more."""
        self._pipelines.discard((workspace, pipeline))
        self.pipeline_executions.forget(workspace=workspace, pipeline=pipeline)
        self.pipeline_seconds.forget(workspace=workspace, pipeline=pipeline)
        self.firings.forget(workspace=workspace, pipeline=pipeline)

    def expect_pipeline(self, workspace: str, pipeline: str) -> None:
        """The pipeline may run from now on: what ends first is an increase from 0."""
        self._pipelines.add((workspace, pipeline))
        for status in _ENDS_OF_RUNS:
            self.pipeline_executions.labels(workspace, pipeline, status)

    def count_run(self, workspace: str, pipeline: str, status: str, seconds: float | None) -> None:
        """A run has ended. seconds: since its begin, if it had one. One of a deleted pipeline is not counted."""
        if (workspace, pipeline) in self._pipelines:
            self.pipeline_executions.labels(workspace, pipeline, status).inc()
            if seconds is not None:
                self.pipeline_seconds.labels(workspace, pipeline).observe(seconds)

    def watch_depth(self, queue: str, items: Sized) -> None:
        """Shows how many items wait in the queues of this name together. The items are not kept alive."""
        waiting = self._waiting.setdefault(queue, [])
        waiting.append(ref(items, waiting.remove))
        self.queue_depth.labels(queue).set_function(lambda: float(sum(len(held() or ()) for held in tuple(waiting))))

    def sample(self, gauge: Gauge, count: Callable[[], int]) -> None:
        """Shows what count() gave at the last look(). /metrics is answered in a thread of its own, which must not walk
        through what the event loop changes."""
        self._sampled.append((gauge, count))

    def look(self) -> None:
        """Counts all that is sampled. In the event loop, about once a second."""
        for gauge, count in self._sampled:
            gauge.set(count())

    def watch_disk(self, folder: Path) -> None:
        """Shows how full the disk is that holds the folder; NaN while it cannot be asked."""
        self.disk_free.set_function(lambda: _disk(folder)[0])
        self.disk_size.set_function(lambda: _disk(folder)[1])

    def _bus(self) -> None:
        self.databus_messages = self._counters(
            "databus_messages_total", "Messages the broker has taken from us, or sent to us", "direction", "class"
        )
        self.databus_subscribers = self._gauges("databus_subscribers", "Subscriptions to the bus", "class")
        self.publish_refused = self._counters(
            "dinrail_publish_refused_total", "Messages the broker refused", "class", "reason"
        )
        self.handler_seconds = self._histograms("dinrail_handler_seconds", "Time a handler took", "class")
        self.handler_errors = self._counters("dinrail_handler_errors_total", "Messages whose handler failed", "class")
        self.bus_connected = self._gauge("dinrail_bus_connected", "1 while connected to the broker")
        self.bus_reconnects = self._counter("dinrail_bus_reconnects_total", "Connections made after the first")

    def _process(self) -> None:
        self.dropped = self._counters(
            "dinrail_dropped_items_total", "Items dropped from or refused by a queue", "queue", "reason"
        )
        self.queue_depth = self._gauges("dinrail_queue_depth_items", "Items waiting", "queue")
        self.crashes = self._counters("dinrail_crashes_total", "Unforeseen errors that ended a task", "task")
        self.build = self._gauges("dinrail_build_info", "1; the labels say which release runs", "service", "version")
        self.disk_free = self._gauge("dinrail_disk_free_bytes", "Bytes free on the disk of the service's data")
        self.disk_size = self._gauge("dinrail_disk_size_bytes", "Bytes of the disk of the service's data")
        self.clock_steps = self._counter(
            "dinrail_clock_steps_total", "Steps of the machine's clock by more than a second"
        )
        self.clock_step_seconds = self._gauge(
            "dinrail_clock_step_seconds", "The last step of the machine's clock, forward or back"
        )

    def _journal(self) -> None:
        self.journal_bytes = self._gauge("dinrail_journal_bytes", "Bytes of the journal on disk")
        self.journal_records = self._gauge("dinrail_journal_records", "Records in the journal")
        self.journal_alarm = self._gauge(
            "dinrail_journal_alarm", "1 while the journal is filled to 80 % of its cap or more"
        )
        self.journal_lost = self._counters(
            "dinrail_journal_lost_records_total", "Records that will never be delivered", "reason"
        )
        for reason in _LOSSES:
            self.journal_lost.labels(reason)
        self.journal_errors = self._counters(
            "dinrail_journal_errors_total", "Writes or syncs that the disk refused", "reason"
        )
        self.backfill_sent = self._counter("dinrail_backfill_sent_total", "Messages sent out of the journal")
        self.backlog = self._gauge(
            "dinrail_backlog", "Messages in the journal that are still to be sent or to be stored"
        )
        self.journal_sync_seconds = self._histogram("dinrail_journal_sync_seconds", "Time an fsync of the journal took")

    def _gateway(self) -> None:
        self.frames = self._counters("dinrail_frames_total", "Frames made", "device")
        self.values = self._counters("dinrail_values_total", "Values read", "device")
        self.polls = self._counters(
            "dinrail_polls_total", "Polls by outcome: good, partial, failed", "device", "outcome"
        )
        self.poll_seconds = self._histograms("dinrail_poll_seconds", "Time a poll took", "device")
        self.overruns = self._counters(
            "dinrail_overruns_total", "Polls that fell due while the one before still ran", "device"
        )
        self.actor_errors = self._counters(
            "actor_errors_total", "Errors of a device or its driver, by cause", "actor_id", "error_type"
        )
        self.device_state = self._gauges(
            "dinrail_device_state", "0 offline, 1 starting, 2 degraded, 3 online, -1 disabled", "device"
        )

    def _recorder(self) -> None:
        self.intake_messages = self._counter(
            "dinrail_intake_messages_total", "Messages taken in from a durable session"
        )
        self.intake_commits = self._counter("dinrail_intake_commits_total", "Group commits of messages to the spool")
        self.spool_rows = self._gauge("dinrail_spool_rows", "Messages in the spool")
        self.spool_bytes = self._gauge("dinrail_spool_bytes", "Bytes of the spool on disk")
        self.spool_limit = self._gauge("dinrail_spool_limit_bytes", "Bytes from which on the spool is full")
        self.stored_values = self._counters("dinrail_stored_values_total", "Values the history has taken", "store")
        self.store_errors = self._counters(
            "dinrail_store_errors_total", "Writes the history refused", "store", "reason"
        )
        self.history_growth = self._gauges(
            "dinrail_history_bytes_per_day", "Bytes that a day adds to the history", "part"
        )
        self.dead_letters = self._counters("dinrail_dead_letters_total", "Messages set aside for good", "reason")
        for reason in ("contract", "refused"):
            self.dead_letters.labels(reason)
        self.frame_gaps = self._counter(
            "dinrail_frame_gaps_total", "Messages found missing that nobody had announced to come later"
        )
        self.frames_missing = self._gauge("dinrail_frames_missing", "Messages that are missing now and may still come")
        self.frames_lost = self._counters(
            "dinrail_frames_lost_total", "Messages that their owner has said to be gone", "reason"
        )
        for reason in (*_LOSSES, "contract", "unknown"):
            self.frames_lost.labels(reason)
        self.resend_requests = self._counters(
            "dinrail_resend_requests_total", "Requests for missing messages", "outcome"
        )
        self.backfill_stored = self._counter(
            "dinrail_backfill_stored_total", "Messages stored that came out of a journal"
        )
        self.event_versions_missing = self._gauge(
            "dinrail_event_versions_missing",
            "Versions of aggregates that are not in the event store though later ones are",
        )
        self.event_versions_repeated = self._counter(
            "dinrail_event_versions_repeated_total", "Events with a version that their aggregate had already"
        )
        self.events_removed = self._counters(
            "dinrail_events_removed_total", "Events that retention has removed from the event store", "reason"
        )
        for reason in ("age", "size"):
            self.events_removed.labels(reason)
        self.frame_duplicates = self._counter("dinrail_frame_duplicates_total", "Frames that came more than once")

    def _compute(self) -> None:
        self.compute_tasks = self._counters("compute_pool_tasks_total", "Tasks by how they ended", "status")
        for status in ("done", "failed", "cancelled", "unavailable"):
            self.compute_tasks.labels(status)
        self.compute_seconds = self._histogram("compute_pool_task_duration_seconds", "Time a function took")
        self.compute_workers_busy = self._gauge("dinrail_compute_workers_busy", "Workers that compute")
        self.compute_workers_replaced = self._counter(
            "dinrail_compute_workers_replaced_total", "Workers that ended and were replaced"
        )
        self.compute_cache_bytes = self._gauge("dinrail_compute_cache_bytes", "Outputs in the cache, as JSON")

    def _orchestrator(self) -> None:
        pipeline = ("workspace", "pipeline")
        self.pipeline_executions = self._counters(
            "pipeline_executions_total", "Runs by how they ended: done, failed, cancelled", *pipeline, "status"
        )
        self.pipeline_seconds = self._histograms(
            "pipeline_duration_seconds", "Time from a run's begin to its end", *pipeline, buckets=_RUN_SECONDS
        )
        self.active_pipelines = self._gauge("active_pipelines", "Runs that have begun and not ended")
        self.runs_queued = self._gauge("dinrail_runs_queued", "Runs that wait for a place")
        self.firings = self._counters(
            "dinrail_trigger_firings_total", "What fired, by what became of it", *pipeline, "kind", "outcome"
        )

    def _counter(self, name: str, about: str) -> Counter:
        return Counter(name, about, registry=self.registry)

    def _counters(self, name: str, about: str, *labels: str) -> Family[Counter]:
        return Family(Counter(name, about, labels, registry=self.registry), labels)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(name, about, registry=self.registry)

    def _gauges(self, name: str, about: str, *labels: str) -> Family[Gauge]:
        return Family(Gauge(name, about, labels, registry=self.registry), labels)

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, registry=self.registry, buckets=_SECONDS)

    def _histograms(
        self, name: str, about: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Family[Histogram]:
        return Family(Histogram(name, about, labels, registry=self.registry, buckets=buckets), labels)


def _disk(folder: Path) -> tuple[float, float]:
    """Bytes that are free for us, and all."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return nan, nan
    return float(usage.free), float(usage.total)
