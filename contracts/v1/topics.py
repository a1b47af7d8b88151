"""Every topic of version 1, for what looks at all of them: the access rules, the documents, the command line.

A service imports the few modules it speaks instead: to build all models takes a tenth of a second of its start.
"""

from typing import Any

from contracts.topic import Topic
from contracts.v1.alarm import ALARM, ALARM_COMMANDS
from contracts.v1.audit import AUDIT_COMMANDS
from contracts.v1.backfill import BACKFILL
from contracts.v1.command import PLANT_COMMANDS, REPLY, Command
from contracts.v1.dead_letter import DEAD_LETTER_COMMANDS
from contracts.v1.device import DEVICE, DEVICE_STATE
from contracts.v1.event import EVENT
from contracts.v1.event_store import EVENT_STORE_COMMANDS
from contracts.v1.frame import FRAME
from contracts.v1.history import HISTORY_COMMANDS
from contracts.v1.pipeline import PIPELINE, PIPELINE_COMMANDS
from contracts.v1.plugin import PLUGIN
from contracts.v1.policy import POLICY
from contracts.v1.resend import RESEND_COMMANDS
from contracts.v1.run import RUN, RUN_COMMANDS
from contracts.v1.service import SERVICE
from contracts.v1.stored import STORED
from contracts.v1.tag import TAG
from contracts.v1.task import TASK, TASK_COMMANDS
from contracts.v1.user import USER_COMMANDS

COMMANDS: tuple[Command[Any, Any], ...] = (
    *PLANT_COMMANDS,
    *RESEND_COMMANDS,
    *PIPELINE_COMMANDS,
    *RUN_COMMANDS,
    *TASK_COMMANDS,
    *ALARM_COMMANDS,
    *EVENT_STORE_COMMANDS,
    *HISTORY_COMMANDS,
    *DEAD_LETTER_COMMANDS,
    *AUDIT_COMMANDS,
    *USER_COMMANDS,
)
TOPICS: tuple[Topic[Any], ...] = (
    FRAME,
    BACKFILL,
    STORED,
    TAG,
    DEVICE,
    DEVICE_STATE,
    SERVICE,
    EVENT,
    *COMMANDS,
    REPLY,
    PLUGIN,
    PIPELINE,
    RUN,
    TASK,
    ALARM,
    POLICY,
)
