"""Dashboards of what Prometheus gathers: devices, pipelines, completeness, processes."""

from monitoring.forms import BAD, DOUBTFUL, GOOD, METRICS, NONE, Json, columns, dashboard, metrics, panel, variable

DEVICE_STATE = {
    3: ("online", GOOD),
    2: ("degraded", DOUBTFUL),
    1: ("starting", "blue"),
    0: ("offline", BAD),
    -1: ("disabled", NONE),
}
UP = {1: ("up", GOOD), 0: ("down", BAD)}


def devices() -> Json:
    """How the gateways get on with the machines."""
    of = 'device=~"$device"'
    rate = "[$__rate_interval]"
    return dashboard(
        "dinrail-devices",
        "Device health",
        "Whether each device answers, how fast, and what goes wrong.",
        [
            panel("stat", "Online", metrics(f"count(dinrail_device_state{{{of}}} == 3) or vector(0)", at_once=True),
                  about="Devices that answer, with all their tags.", wide=4, high=4),
            panel("stat", "Degraded", metrics(f"count(dinrail_device_state{{{of}}} == 2) or vector(0)", at_once=True),
                  about="Devices that answer, but not for all tags.", wide=4, high=4, bound=(1, DOUBTFUL)),
            panel("stat", "Offline", metrics(f"count(dinrail_device_state{{{of}}} == 0) or vector(0)", at_once=True),
                  about="Devices that do not answer: all their tags are bad.", wide=4, high=4, bound=(1, BAD)),
            panel("stat", "Polls too late", metrics(
                f"sum(increase(dinrail_overruns_total{{{of}}}[$__range])) or vector(0)", at_once=True),
                about="Polls in the time shown that fell due while the one before still ran.", wide=4, high=4,
                bound=(1, DOUBTFUL)),
            panel("stat", "Errors", metrics(
                'sum(increase(actor_errors_total{actor_id=~"$device"}[$__range])) or vector(0)', at_once=True),
                about="Errors of devices and drivers in the time shown.", wide=4, high=4, bound=(1, DOUBTFUL)),
            panel("stat", "Values per second", metrics(f"sum(rate(dinrail_values_total{{{of}}}{rate}))"),
                  about="Values read, of all devices chosen.", wide=4, high=4),
            panel("state-timeline", "State", metrics(f"dinrail_device_state{{{of}}}", "{{device}}"), about="What each "
                  "device was when. A gap: its gateway was not there.", wide=24, states=DEVICE_STATE),
            panel("timeseries", "Time of a poll (95 of 100)", metrics(
                f"histogram_quantile(0.95, sum by (device, le) (rate(dinrail_poll_seconds_bucket{{{of}}}{rate})))",
                "{{device}}"), about="Most polls are faster than this. Near the group's interval, overruns follow.",
                unit="s", minimum=0),
            panel("timeseries", "Polls by outcome", metrics(
                f"sum by (device, outcome) (rate(dinrail_polls_total{{{of}}}{rate}))", "{{device}} {{outcome}}"),
                about="good: all values came. partial: some are bad. failed: none came.", unit="reqps", minimum=0),
            panel("timeseries", "Polls too late, share", metrics(
                f"sum by (device) (rate(dinrail_overruns_total{{{of}}}{rate})) "
                f"/ sum by (device) (rate(dinrail_polls_total{{{of}}}{rate}))", "{{device}}"),
                about="From 5 % on the device does not reach the rate that its file asks for.", unit="percentunit",
                bound=(0.05, DOUBTFUL), minimum=0),
            panel("timeseries", "Errors by cause", metrics(
                f'sum by (actor_id, error_type) (rate(actor_errors_total{{actor_id=~"$device"}}{rate}))',
                "{{actor_id}} {{error_type}}"), about="comm: no answer. config: the device refuses what its file asks "
                "for. Others are told in docs/devices.md.", unit="eps", minimum=0),
        ],
        [variable("device", "label_values(dinrail_device_state, device)", METRICS, label="device")],
    )  # fmt: skip


def _runs_in_short(of: str) -> list[Json]:
    """The row of single figures above the pipelines' curves. of: selects series of runs."""
    return [
        panel("stat", "Running", metrics("sum(active_pipelines)", at_once=True), about="Runs that have begun and "
              "not ended.", wide=4, high=4),
        panel("stat", "Waiting", metrics("sum(dinrail_runs_queued)", at_once=True), about="Runs that wait for a "
              "place; see the setting `orchestrator.runs`.", wide=4, high=4, bound=(1, DOUBTFUL)),
        panel("stat", "Failed", metrics(
            f'sum(increase(pipeline_executions_total{{{of},status="failed"}}[$__range])) or vector(0)',
            at_once=True), about="Runs that failed in the time shown.", wide=4, high=4, bound=(1, BAD)),
        panel("stat", "Firings without a run", metrics(
            f'sum(increase(dinrail_trigger_firings_total{{{of},outcome!~"started|held"}}[$__range])) or vector(0)',
            at_once=True), about="Triggers that fired and made no run: replaced by a newer one, missed, refused, "
            "lost.", wide=4, high=4, bound=(1, DOUBTFUL)),
        panel("stat", "Compute workers busy", metrics("sum(dinrail_compute_workers_busy)", at_once=True),
              about="Processes that compute now, of all compute services.", wide=4, high=4),
        panel("stat", "Compute services", metrics('count(up{job="compute"} == 1) or vector(0)', at_once=True),
              about="That answer. Without one, nodes of type compute fail.", wide=4, high=4),
    ]  # fmt: skip


def pipelines() -> Json:
    """What the orchestrator and the compute services do."""
    of = 'workspace=~"$workspace",pipeline=~"$pipeline"'
    rate = "[$__rate_interval]"

    def ended(status: str) -> Json:
        return metrics(f'sum by (workspace, pipeline) (increase(pipeline_executions_total{{{of},status="{status}"}}'
                       "[$__range]))", at_once=True)  # fmt: skip

    took = f"rate(pipeline_duration_seconds_bucket{{{of}}}{rate})"
    slow = f"histogram_quantile(0.95, sum by (workspace, pipeline, le) (rate(pipeline_duration_seconds_bucket{{{of}}}"
    table = {"workspace": "workspace", "pipeline": "pipeline", "Value #A": "done", "Value #B": "failed",
             "Value #C": "cancelled", "Value #D": "95 of 100 took less, s"}  # fmt: skip
    return dashboard(
        "dinrail-pipelines",
        "Pipelines",
        "Which pipelines run, how long they take, and which fail.",
        [
            *_runs_in_short(of),
            panel("timeseries", "Runs per second", metrics(
                f"sum by (pipeline, status) (rate(pipeline_executions_total{{{of}}}{rate}))",
                "{{pipeline}} {{status}}"), about="By how they ended: done, failed, cancelled.", unit="ops",
                minimum=0),
            panel("timeseries", "Time of a run", metrics(
                f"histogram_quantile(0.5, sum by (pipeline, le) ({took}))", "{{pipeline}} half"), metrics(
                f"histogram_quantile(0.95, sum by (pipeline, le) ({took}))", "{{pipeline}} 95 of 100"),
                about="Half of the runs, and 95 of 100, take less.", unit="s", minimum=0),
            panel("table", "By pipeline", ended("done"), ended("failed"), ended("cancelled"),
                  metrics(f"{slow}[$__range])))", at_once=True), about="In the time shown.", wide=24, high=8,
                  transformations=columns(table)),
            panel("timeseries", "Firings", metrics(
                f"sum by (pipeline, outcome) (rate(dinrail_trigger_firings_total{{{of}}}{rate}))",
                "{{pipeline}} {{outcome}}"), about="What triggers have done; docs/pipelines.md tells the outcomes.",
                unit="ops", minimum=0),
            panel("timeseries", "Compute tasks", metrics(f"sum by (status) (rate(compute_pool_tasks_total{rate}))",
                  "{{status}}"), metrics(
                f"histogram_quantile(0.95, sum by (le) (rate(compute_pool_task_duration_seconds_bucket{rate})))",
                "seconds, 95 of 100"), about="By how they ended, per second; unavailable: all workers were busy.",
                minimum=0),
        ],
        [
            variable("workspace", "label_values(pipeline_executions_total, workspace)", METRICS, label="workspace"),
            variable("pipeline", 'label_values(pipeline_executions_total{workspace=~"$workspace"}, pipeline)', METRICS,
                     label="pipeline"),
        ],
    )  # fmt: skip


def _missing_in_short() -> list[Json]:
    """The row of single figures above the recorder's curves."""

    def lately(metric: str) -> Json:
        return metrics(f"sum(increase({metric}[$__range])) or vector(0)", at_once=True)

    return [
        panel("stat", "Missing now", metrics("sum(dinrail_frames_missing)", at_once=True), about="Messages that "
              "were never heard and are asked for again.", wide=4, high=4, bound=(1, DOUBTFUL)),
        panel("stat", "Lost", lately("dinrail_frames_lost_total"), about="Messages that their owner no longer has, "
              "in the time shown.", wide=4, high=4, bound=(1, BAD)),
        panel("stat", "Dead letters", lately("dinrail_dead_letters_total"), about="Messages and values set aside "
              "in the time shown: `dinrail recorder deadletters`.", wide=4, high=4, bound=(1, BAD)),
        panel("stat", "Spool", metrics("max(dinrail_spool_bytes / (dinrail_spool_limit_bytes > 0))", at_once=True),
              about="How full the recorder's spool is. Full: it takes nothing more from the broker.", wide=4,
              high=4, unit="percentunit", bound=(0.5, DOUBTFUL)),
        panel("stat", "Backlog", metrics("sum(dinrail_backlog)", at_once=True), about="Messages that wait in "
              "journals.", wide=4, high=4, bound=(1000, DOUBTFUL)),
        panel("stat", "Events missing", metrics("sum(dinrail_event_versions_missing)", at_once=True),
              about="Events that the event store lacks though later ones are there.", wide=4, high=4,
              bound=(1, DOUBTFUL)),
    ]  # fmt: skip


def completeness() -> Json:
    """Whether everything that was measured is, or will be, in the history."""
    rate = "[$__rate_interval]"
    return dashboard(
        "dinrail-completeness",
        "Recorder completeness",
        "Whether everything that was measured is in the history, or still on its way.",
        [
            *_missing_in_short(),
            panel("timeseries", "From the broker to the history", metrics(
                f'sum(rate(dinrail_intake_messages_total{{job="recorder"}}{rate}))', "messages taken in"), metrics(
                f"sum by (store) (rate(dinrail_stored_values_total{rate}))", "values stored, {{store}}"),
                about="Both lines go on together; values stay behind while the history is away, and go above when it "
                "catches up.", unit="ops", minimum=0),
            panel("timeseries", "Gaps", metrics(f"sum(rate(dinrail_frame_gaps_total{rate}))", "found"), metrics(
                f"sum(rate(dinrail_backfill_stored_total{rate}))", "came late"), metrics(
                f"sum(rate(dinrail_frame_duplicates_total{rate}))", "came twice"), metrics(
                f"sum by (outcome) (rate(dinrail_resend_requests_total{rate}))", "asked for: {{outcome}}"),
                about="After an outage: found, asked for, came late. Duplicates are kept once.", unit="ops",
                minimum=0),
            panel("timeseries", "What the history refuses", metrics(
                f"sum by (store, reason) (rate(dinrail_store_errors_total{rate}))", "{{store}} {{reason}}"), metrics(
                f"sum by (reason) (rate(dinrail_dead_letters_total{rate}))", "dead letter: {{reason}}"),
                about="Writes that failed and are tried again, and what was set aside for good.", unit="ops",
                minimum=0),
            panel("timeseries", "Waiting", metrics('dinrail_spool_rows{job="recorder"}',
                  "spool, messages"), metrics("dinrail_backlog", "backlog of {{job}}"), about="Messages that wait for "
                  "the history, and in journals for the recorder.", minimum=0),
            panel("timeseries", "Journals", metrics("dinrail_journal_bytes > 0", "{{job}} {{instance}}"), about="Bytes "
                  "on disk. They grow while a recorder is away, and shrink when it has stored.", unit="bytes",
                  minimum=0),
            panel("timeseries", "Growth of the history", metrics("dinrail_history_bytes_per_day", "{{part}}"),
                  about="Bytes that a day adds (embedded history alone).", unit="bytes", minimum=0),
        ],
    )  # fmt: skip


def services() -> Json:
    """How the processes are."""
    of = 'job=~"$job"'
    rate = "[$__rate_interval]"
    alerts = {"alertname": "alert", "severity": "severity", "job": "service", "device": "device",
              "pipeline": "pipeline", "reason": "reason"}  # fmt: skip
    return dashboard(
        "dinrail-services",
        "Services",
        "How the processes are: up, connected, busy; what waits and what was dropped.",
        [
            panel("state-timeline", "Up", metrics(f'up{{{of},job!="prometheus"}}', "{{job}} {{instance}}"),
                  about="Whether each service answers.", wide=12, high=7, states=UP),
            panel("state-timeline", "Connected to the broker", metrics(f"dinrail_bus_connected{{{of}}}",
                  "{{job}} {{instance}}"), about="1 while connected.", wide=12, high=7, states=UP),
            panel("table", "Alerts", metrics('ALERTS{alertstate="firing"}', at_once=True), about="What fires now; "
                  "docs/incidents.md says what to do.", wide=12, high=7, transformations=columns(alerts)),
            panel("table", "Releases", metrics(f"dinrail_build_info{{{of}}}", at_once=True), about="Which release runs "
                  "where.", wide=12, high=7, transformations=columns(
                      {"job": "job", "instance": "instance", "version": "version"})),
            panel("timeseries", "Processor", metrics(f"rate(process_cpu_seconds_total{{{of}}}{rate})",
                  "{{job}} {{instance}}"), about="Share of one core.", unit="percentunit", minimum=0),
            panel("timeseries", "Memory", metrics(f"process_resident_memory_bytes{{{of}}}", "{{job}} {{instance}}"),
                  about="Resident. compute's workers are not in it.", unit="bytes", minimum=0),
            panel("timeseries", "Messages", metrics(
                f"sum by (job, direction, class) (rate(databus_messages_total{{{of}}}{rate}))",
                "{{job}} {{direction}} {{class}}"), about="Per second, by kind. What a recorder takes in is on "
                "Recorder completeness.", unit="ops", minimum=0),
            panel("timeseries", "Subscriptions", metrics(f"sum by (job) (databus_subscribers{{{of}}})", "{{job}}"),
                  about="Handlers of each service that listen on the bus.", minimum=0),
            panel("timeseries", "Time of a handler (95 of 100)", metrics(
                f"histogram_quantile(0.95, sum by (job, class, le) (rate(dinrail_handler_seconds_bucket{{{of}}}"
                f"{rate})))", "{{job}} {{class}}"), about="How long a service takes for a message.", unit="s",
                minimum=0),
            panel("timeseries", "Queues", metrics(f"dinrail_queue_depth_items{{{of}}} > 0",
                  "{{job}} {{queue}}"), about="Items that wait; empty queues are not shown.", minimum=0),
            panel("timeseries", "Dropped and refused", metrics(
                f"sum by (job, queue, reason) (rate(dinrail_dropped_items_total{{{of}}}{rate})) > 0",
                "{{job}} {{queue}} {{reason}}"), about="full, oldest, overflow: a queue was full. Others are commands "
                "that were refused.", unit="ops", minimum=0),
            panel("timeseries", "Disk left", metrics(
                f"dinrail_disk_free_bytes{{{of}}} / dinrail_disk_size_bytes{{{of}}}", "{{job}} {{instance}}"),
                about="Of the disk with the service's data.", unit="percentunit",
                  minimum=0),
        ],
        [variable("job", "label_values(up, job)", METRICS, label="service")],
    )  # fmt: skip
