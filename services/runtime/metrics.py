"""Every metric of every service, with its name, in one place.

Labels are given in the order written here: metrics.dropped.labels("bus", "full").inc(). On a hot path keep the
result of labels(): looking it up costs ten times what inc() does.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process, registered in its registry. A service uses those that concern it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._bus()
        self._process()
        self._journal()
        self._gateway()
        self._recorder()
        self._compute()
        self._orchestrator()

    def forget_device(self, device: str) -> None:
        """The device is gone: what was measured of it is shown no more."""
        of_devices = (self.frames, self.values, self.polls, self.poll_seconds, self.overruns, self.driver_errors)
        for metric in (*of_devices, self.device_state):
            metric.remove_by_labels({"device": device})

    def _bus(self) -> None:
        self.messages_published = self._counter("messages_published", "Messages the broker has taken", "class")
        self.messages_received = self._counter("messages_received", "Messages received", "class")
        self.publish_refused = self._counter("publish_refused", "Messages the broker refused", "class", "reason")
        self.handler_seconds = self._histogram("handler_seconds", "Time a handler took", "class")
        self.handler_errors = self._counter("handler_errors", "Messages whose handler failed", "class")
        self.bus_connected = self._gauge("bus_connected", "1 while connected to the broker")
        self.bus_reconnects = self._counter("bus_reconnects", "Connections made after the first")

    def _process(self) -> None:
        self.dropped = self._counter("dropped_items", "Items dropped from or refused by a queue", "queue", "reason")
        self.queue_depth = self._gauge("queue_depth_items", "Items waiting", "queue")
        self.clock_steps = self._counter("clock_steps", "Steps of the machine's clock by more than a second")
        self.clock_step_seconds = self._gauge(
            "clock_step_seconds", "The last step of the machine's clock, forward or back"
        )
        self.crashes = self._counter("crashes", "Unforeseen errors that ended a task", "task")

    def _journal(self) -> None:
        self.journal_bytes = self._gauge("journal_bytes", "Bytes of the journal on disk")
        self.journal_records = self._gauge("journal_records", "Records in the journal")
        self.journal_alarm = self._gauge("journal_alarm", "1 while the journal is filled to 80 % of its cap or more")
        self.journal_lost = self._counter("journal_lost_records", "Records that will never be delivered", "reason")
        self.journal_errors = self._counter("journal_errors", "Writes or syncs that the disk refused", "reason")
        self.backfill_sent = self._counter("backfill_sent", "Messages sent out of the journal")
        self.backlog = self._gauge("backlog", "Messages in the journal that are still to be sent or to be stored")
        self.journal_sync_seconds = self._histogram("journal_sync_seconds", "Time an fsync of the journal took")

    def _gateway(self) -> None:
        self.frames = self._counter("frames", "Frames made", "device")
        self.values = self._counter("values", "Values read", "device")
        self.polls = self._counter("polls", "Polls by outcome: good, partial, failed", "device", "outcome")
        self.poll_seconds = self._histogram("poll_seconds", "Time a poll took", "device")
        self.overruns = self._counter("overruns", "Polls that fell due while the one before still ran", "device")
        self.driver_errors = self._counter("driver_errors", "Errors of a device or its driver", "device", "cause")
        self.device_state = self._gauge(
            "device_state", "0 offline, 1 starting, 2 degraded, 3 online, -1 disabled", "device"
        )

    def _recorder(self) -> None:
        self.intake_messages = self._counter("intake_messages", "Messages taken in from the durable session")
        self.intake_commits = self._counter("intake_commits", "Group commits of messages to the spool")
        self.spool_rows = self._gauge("spool_rows", "Messages in the spool")
        self.spool_bytes = self._gauge("spool_bytes", "Bytes of the spool on disk")
        self.stored_values = self._counter("stored_values", "Values the history has taken", "store")
        self.store_errors = self._counter("store_errors", "Writes the history refused", "store", "reason")
        self.history_growth = self._gauge("history_bytes_per_day", "Bytes that a day adds to the history", "part")
        self.dead_letters = self._counter("dead_letters", "Messages set aside for good", "reason")
        self.frame_gaps = self._counter("frame_gaps", "Messages found missing that nobody had announced to come later")
        self.frames_missing = self._gauge("frames_missing", "Messages that are missing now and may still come")
        self.frames_lost = self._counter("frames_lost", "Messages that their owner has said to be gone", "reason")
        self.resend_requests = self._counter("resend_requests", "Requests for missing messages", "outcome")
        self.backfill_stored = self._counter("backfill_stored", "Messages stored that came out of a journal")
        self.event_versions_missing = self._gauge(
            "event_versions_missing", "Versions of aggregates that are not in the event store though later ones are"
        )
        self.event_versions_repeated = self._counter(
            "event_versions_repeated", "Events with a version that their aggregate had already"
        )
        self.frame_duplicates = self._counter("frame_duplicates", "Frames that came more than once")

    def _compute(self) -> None:
        self.compute_tasks = self._counter("compute_pool_tasks", "Tasks by how they ended", "status")
        self.compute_seconds = self._histogram("compute_pool_task_duration_seconds", "Time a function took")
        self.compute_workers_busy = self._gauge("compute_workers_busy", "Workers that compute")
        self.compute_workers_replaced = self._counter(
            "compute_workers_replaced", "Workers that ended and were replaced"
        )
        self.compute_cache_bytes = self._gauge("compute_cache_bytes", "Outputs in the cache, as JSON")

    def _orchestrator(self) -> None:
        self.firings = self._counter(
            "trigger_firings", "What fired, by what became of it", "pipeline", "kind", "outcome"
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"dinrail_{name}_total", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"dinrail_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"dinrail_{name}", about, labels, registry=self.registry, buckets=_SECONDS)
