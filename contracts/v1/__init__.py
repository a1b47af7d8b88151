"""Version 1 of the wire."""

from typing import Any

from contracts.topic import Topic
from contracts.v1.backfill import BACKFILL
from contracts.v1.command import COMMANDS, REPLY
from contracts.v1.device import DEVICE, DEVICE_STATE
from contracts.v1.event import EVENT
from contracts.v1.frame import FRAME
from contracts.v1.plugin import PLUGIN
from contracts.v1.service import SERVICE
from contracts.v1.stored import STORED
from contracts.v1.tag import TAG

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
)
