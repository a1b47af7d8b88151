"""`dinrail alarm`: what is wrong in the plant, and who has seen it."""

import json
from functools import partial
from typing import Annotated

import typer
from rich.table import Column

from contracts.acl import OPERATOR
from contracts.v1.alarm import (
    ACK_ALARM,
    ALARM,
    LONGEST_SHELVING_S,
    SHELVE_ALARM,
    UNSHELVE_ALARM,
    AckAlarm,
    Alarm,
    AlarmStatus,
    ShelveAlarm,
    UnshelveAlarm,
)
from contracts.v1.pipeline import WORKSPACE
from plugins.api.duration import parse_duration
from services.cli import asking
from services.cli.options import HERE, AsJson, Folder, Scope, fail
from services.cli.retained import retained
from services.cli.table import filled, print_table, state_text, time_text, value_text

ask = partial(asking.ask, account=OPERATOR.name, hint="is an orchestrator running? its logs tell")

alarm_app = typer.Typer(no_args_is_help=True, help="Show, acknowledge and shelve alarms.")

Name = Annotated[str, typer.Argument(help="The alarm.")]
Comment = Annotated[str, typer.Option(help="For the log.")]


@alarm_app.command("list")
def list_alarms(
    everything: Annotated[bool, typer.Option("--all", help="Those at rest, too.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the alarms that are raised, shelved, or not yet acknowledged; the most urgent first."""
    alarms = retained(folder, ALARM)
    shown = [one for one in alarms if everything or one.shelved_until or one.state is not AlarmStatus.NORMAL]
    shown.sort(key=lambda one: (one.priority, one.since))
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in shown], ensure_ascii=False))
        return
    name, day = Column("alarm", no_wrap=True), Column("since", min_width=len("2026-11-22"))
    heads = ("priority", name, "state", day, "text", "raised with", "limit", "acked by")
    rows: list[tuple[str, ...]] = []
    for one in shown:
        value, limit = ("" if each is None else value_text(each) for each in (one.value, one.limit))
        until = time_text(one.shelved_until) if one.shelved_until else ""
        state, since = state_text(one), time_text(one.since)
        who = one.acked_by or ""
        rows.append((str(one.priority), one.alarm, state, since, one.text, value, limit, who, one.source, until))
    table = filled((*heads, Column("pipeline", overflow="fold"), "shelved until"), rows)
    print_table(table, nothing="no alarms" if everything else "no alarm is raised; --all shows those at rest, too")


@alarm_app.command()
def ack(name: Name, comment: Comment = "", scope: Scope = WORKSPACE, folder: Folder = HERE) -> None:
    """Acknowledge an alarm: you have seen it."""
    asked = asking.question(AckAlarm, {"comment": comment})
    _told(ask(folder, ACK_ALARM, asked, scope=scope, id=name))


@alarm_app.command()
def shelve(
    name: Name,
    duration: Annotated[str, typer.Argument(help="For how long, such as 30m or 2h.")],
    comment: Comment = "",
    scope: Scope = WORKSPACE,
    folder: Folder = HERE,
) -> None:
    """Put an alarm aside for a while."""
    try:
        for_s = parse_duration(duration)
    except ValueError as error:
        fail(f"{duration}: {error}")
    if not 0 < for_s <= LONGEST_SHELVING_S:
        fail(f"{duration}: an alarm is put aside for 7d at the most, and not for no time")
    asked = asking.question(ShelveAlarm, {"for_s": for_s, "comment": comment})
    _told(ask(folder, SHELVE_ALARM, asked, scope=scope, id=name))


@alarm_app.command()
def unshelve(name: Name, scope: Scope = WORKSPACE, folder: Folder = HERE) -> None:
    """Let an alarm count again."""
    _told(ask(folder, UNSHELVE_ALARM, UnshelveAlarm(), scope=scope, id=name))


def _told(alarm: Alarm) -> None:
    shelved = f", shelved until {time_text(alarm.shelved_until)}" if alarm.shelved_until else ""
    typer.echo(f"{alarm.alarm}: {state_text(alarm)}{shelved}")
