"""Alarms: raised, acknowledged, cleared, shelved, after the alarm states of ISA-18.2 (IEC 62682)."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.command import ANY_SCOPE, Command, command
from contracts.v1.message import CommandMessage, Level, Message, Millis, Value, is_absent
from contracts.v1.policy import Role

LONGEST_SHELVING_S = 7 * 86400


class AlarmStatus(StrEnum):
    """Where an alarm is: raised or cleared, acknowledged or not. A cleared one that nobody has acknowledged stays."""

    ACTIVE_UNACKED = "active_unacked"
    ACTIVE_ACKED = "active_acked"
    CLEARED_UNACKED = "cleared_unacked"
    NORMAL = "normal"


class Alarm(Message):
    """An alarm. source: the pipeline that raises it. priority: 1 (act at once) to 4 (to know).

    since: when the present state began. shelved_until: nobody is to be troubled by it before. value: what raised it;
    limit: to show beside it.
    """

    alarm: Level
    source: Level
    scope: Level
    state: AlarmStatus
    priority: Annotated[int, Field(ge=1, le=4)]
    since: Millis
    text: str
    title: str | None = Field(default=None, exclude_if=is_absent)
    acked_by: Level | None = Field(default=None, exclude_if=is_absent)
    acked_at: Millis | None = Field(default=None, exclude_if=is_absent)
    shelved_until: Millis | None = Field(default=None, exclude_if=is_absent)
    shelved_by: Level | None = Field(default=None, exclude_if=is_absent)
    value: Value = Field(default=None, exclude_if=is_absent)
    limit: Value = Field(default=None, exclude_if=is_absent)


class AckAlarm(CommandMessage):
    """Verb `ack` of an alarm: somebody has seen it. comment: for the log."""

    comment: Annotated[str, Field(max_length=200)] = ""


class ShelveAlarm(CommandMessage):
    """Verb `shelve` of an alarm: nobody is to be troubled by it for so many seconds. comment: why."""

    for_s: Annotated[float, Field(gt=0, le=LONGEST_SHELVING_S)]
    comment: Annotated[str, Field(max_length=200)] = ""


class UnshelveAlarm(CommandMessage):
    """Verb `unshelve` of an alarm: it counts again."""


ACK_ALARM = command(
    "ack",
    AckAlarm,
    Alarm,
    target="alarm",
    scope=ANY_SCOPE,
    name="ACK_ALARM",
    role=Role.OPERATOR,
    about="Acknowledges an alarm.",
)
SHELVE_ALARM = command(
    "shelve",
    ShelveAlarm,
    Alarm,
    target="alarm",
    scope=ANY_SCOPE,
    name="SHELVE_ALARM",
    role=Role.OPERATOR,
    about="Puts an alarm aside.",
)
UNSHELVE_ALARM = command(
    "unshelve",
    UnshelveAlarm,
    Alarm,
    target="alarm",
    scope=ANY_SCOPE,
    name="UNSHELVE_ALARM",
    role=Role.OPERATOR,
    about="Takes it back.",
)
ALARM_COMMANDS: tuple[Command[Any, Any], ...] = (ACK_ALARM, SHELVE_ALARM, UNSHELVE_ALARM)

ALARM = Topic(
    name="ALARM",
    pattern="alarm/{scope}/{source}/{alarm}",
    payload=Alarm,
    retain=True,
    writers=("orchestrator",),
    about="The state of an alarm that has been evaluated; cleared when no pipeline has it any more.",
)
