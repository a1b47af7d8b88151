"""`dinrail alarm`: what is wrong in the plant, and who has seen it."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from contracts.acl import OPERATOR
from contracts.v1.alarm import (
    ACK_ALARM,
    ALARM,
    SHELVE_ALARM,
    UNSHELVE_ALARM,
    AckAlarm,
    Alarm,
    AlarmStatus,
    ShelveAlarm,
    UnshelveAlarm,
)
from contracts.v1.pipeline import WORKSPACE
from plugins.api.document import DocumentError
from plugins.api.duration import parse_duration
from services.cli import asking
from services.cli.connection import ConnectionFailed, connected, viewer_access
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.pipeline import Scope
from services.cli.site import Site
from services.cli.table import console, state_text, value_text
from services.runtime.bus.bus import Delivery

QUIET_S = 0.3
"""Retained topics come in one go; this long after the last of them all are there."""

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
    try:
        alarms = asyncio.run(_look(folder))
    except (ConnectionFailed, DocumentError) as error:
        fail(str(error))
    shown = [one for one in alarms if everything or one.shelved_until or one.state is not AlarmStatus.NORMAL]
    shown.sort(key=lambda one: (one.priority, one.since))
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in shown], ensure_ascii=False))
        return
    table = Table("priority", "alarm", "state", "since", "text", "value", "pipeline", "shelved until", box=None)
    for one in shown:
        value = "" if one.value is None else value_text(one.value)
        until = _time(one.shelved_until) if one.shelved_until else ""
        table.add_row(
            str(one.priority), one.alarm, state_text(one), _time(one.since), one.text, value, one.source, until
        )
    console().print(table)


@alarm_app.command()
def ack(name: Name, comment: Comment = "", scope: Scope = WORKSPACE, folder: Folder = HERE) -> None:
    """Acknowledge an alarm: you have seen it."""
    _told(ask(folder, ACK_ALARM, AckAlarm(comment=comment), scope=scope, id=name))


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
        asked = ShelveAlarm(for_s=parse_duration(duration), comment=comment)
    except ValueError as error:
        fail(f"{duration}: {error}")
    _told(ask(folder, SHELVE_ALARM, asked, scope=scope, id=name))


@alarm_app.command()
def unshelve(name: Name, scope: Scope = WORKSPACE, folder: Folder = HERE) -> None:
    """Let an alarm count again."""
    _told(ask(folder, UNSHELVE_ALARM, UnshelveAlarm(), scope=scope, id=name))


@dataclass(slots=True)
class _Seen:
    """The alarms that have come."""

    alarms: dict[str, Alarm] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, delivery: Delivery[Alarm]) -> None:
        """Keeps the alarm."""
        self.alarms[delivery.topic] = delivery.payload
        self.news.set()


async def _look(folder: Path) -> list[Alarm]:
    seen = _Seen()
    async with connected(viewer_access(Site(folder)), lambda bus: bus.subscribe(ALARM, seen.take)):
        with suppress(TimeoutError):
            while True:
                seen.news.clear()
                async with asyncio.timeout(QUIET_S):
                    await seen.news.wait()
    return list(seen.alarms.values())


def _told(alarm: Alarm) -> None:
    shelved = f", shelved until {_time(alarm.shelved_until)}" if alarm.shelved_until else ""
    typer.echo(f"{alarm.alarm}: {state_text(alarm)}{shelved}")


def _time(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
