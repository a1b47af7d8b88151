"""`dinrail check`: every fault of a site's files, and what the site will ask of its buses, broker and disks."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from plugins.api.document import DocumentError
from plugins.api.duration import parse_duration
from plugins.api.registry import plugin_folders
from services.cli.check import Findings, check
from services.cli.counted import counted
from services.cli.doctor.broker import queue_of
from services.cli.doctor.own_files import size, space_of
from services.cli.fault_lines import shown
from services.cli.options import AsJson
from services.cli.preflight import Means, Preflight, milliseconds, preflight
from services.cli.settings import SiteSettings, read_settings
from services.cli.site import Site
from services.cli.table import console
from services.cli.viewer import MOST_TOPICS
from services.compute.settings import SHIPPED_FUNCTIONS
from services.recorder.settings import EmbeddedSettings


def check_path(
    path: Annotated[
        Path, typer.Argument(help="A site, a folder of device files, or one file of a device or pipeline.")
    ],
    answer: Annotated[str, typer.Option(help="How long a device takes to answer a request.")] = "10ms",
    as_json: AsJson = False,
) -> None:
    """Check settings, devices and pipelines, without starting anything: every fault with its place and its mend; and
    compute what they will ask of buses, broker and disks."""
    try:
        answer_s = parse_duration(answer)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--answer") from None
    if not answer_s:
        raise typer.BadParameter("no device answers in no time; write such as 1ms", param_hint="--answer")
    findings = check(path)
    load = preflight(findings.devices, findings.pipelines, _means(path, answer_s))
    if as_json:
        typer.echo(json.dumps(_told(findings, load)))
    else:
        _print(path, findings, load)
    if findings.faults:
        raise typer.Exit(1)


def _print(path: Path, findings: Findings, load: Preflight) -> None:
    for line in shown(findings.faults):
        typer.echo(line)
    if findings.faults:
        typer.echo(f"\n{path}: {counted(len(findings.faults), 'fault')}; without fault: {findings.summary}")
        return
    if findings.devices:
        _print_load(load)
    typer.echo(f"{path}: {findings.summary}; no faults")


def _print_load(load: Preflight) -> None:
    if load.buses:
        table = Table("bus", "gateway", "groups", "requests per cycle", "cycle", "requests/s", "busy", box=None)
        for bus in load.buses:
            numbers = (str(len(bus.groups)), str(bus.requests), milliseconds(bus.cycle_s))
            table.add_row(bus.place, bus.gateway, *numbers, f"{bus.requests_per_s:.3g}", f"{bus.share:.0%}")
        console().print(table)
    tags = f"{load.tag_messages_at_least_per_s:.3g} to {load.tag_messages_per_s:.3g} of tags"
    typer.echo(f"messages/s: {load.frames_per_s:.3g} frames with {load.values_per_s:.3g} values, {tags}")
    sizes = (load.history_bytes_per_day, load.minutes_bytes_per_day, load.event_bytes_per_day, load.disk_bytes)
    values, minutes, events, in_the_end = (size(round(one)) for one in sizes)
    typer.echo(f"a day: {values} of values, {minutes} of minutes, {events} of events; {in_the_end} on disk in the end")
    if load.events_days is not None:
        typer.echo(f"events of the last {load.events_days:.0f} days stay: more is beyond recorder.events_max_bytes")
    typer.echo(f"{load.series} series, at most {load.retained_in_all} retained topics")
    for warning in load.warnings:
        typer.echo(f"warning: {warning}")


def _told(findings: Findings, load: Preflight) -> dict[str, Any]:
    """The answer for programs."""
    buses = [
        {**asdict(bus), "requests": bus.requests, "requests_per_s": bus.requests_per_s}
        | {"cycle_s": bus.cycle_s, "share": bus.share}
        for bus in load.buses
    ]
    faults = [asdict(fault) for fault in findings.faults]
    return {"ok": not faults, "faults": faults, "summary": findings.summary, **asdict(load), "buses": buses}


def _means(path: Path, answer_s: float) -> Means:
    """What the settings of a site, and its machine, give; else what is usual."""
    site = Site(path)
    try:
        settings = read_settings(site) if site.settings_file.is_file() else None
    except DocumentError:
        settings = None  # told as faults
    queue = queue_of(site.broker / "mosquitto.conf") or MOST_TOPICS
    if settings is None:
        return Means(queue, answer_s=answer_s, plugins=len(list(plugin_folders([SHIPPED_FUNCTIONS]))))
    return _site_means(settings, queue, answer_s)


def _site_means(settings: SiteSettings, queue: int, answer_s: float) -> Means:
    recorder = settings.recorder
    store = recorder.store if isinstance(recorder.store, EmbeddedSettings) else None
    return Means(
        queue,
        free_bytes=_free(recorder.data),
        keep_s=store.keep if store else math.inf,
        keep_minutes_s=store.keep_minutes if store else math.inf,
        events_s=math.inf if recorder.events_keep is None else recorder.events_keep,
        events_bytes=math.inf if recorder.events_max_bytes is None else recorder.events_max_bytes,
        minutes=store is not None,
        tag_topics=settings.gateway.tag_topics,
        answer_s=answer_s,
        plugins=len(list(plugin_folders(settings.compute.function_folders))),
        recorder=recorder.instance,
        required={
            name: getattr(settings, name).required_recorders
            for name in ("gateway", "recorder", "orchestrator", "identity")
        },
    )


def _free(folder: Path) -> int | None:
    """Of the disk that the folder is, or will be, on."""
    there = next((one for one in (folder, *folder.parents) if one.is_dir()), None)
    try:
        return None if there is None else space_of(there).free
    except OSError:
        return None
