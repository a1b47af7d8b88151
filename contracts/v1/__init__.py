"""Version 1 of the wire."""

from pydantic import BaseModel

from contracts.topic import Topic
from contracts.v1.command import COMMAND, REPLY
from contracts.v1.device import DEVICE, DEVICE_STATE
from contracts.v1.frame import FRAME
from contracts.v1.plugin import PLUGIN
from contracts.v1.service import SERVICE
from contracts.v1.stored import STORED
from contracts.v1.tag import TAG

TOPICS: tuple[Topic[BaseModel], ...] = (FRAME, STORED, TAG, DEVICE, DEVICE_STATE, SERVICE, COMMAND, REPLY, PLUGIN)  # type: ignore[assignment]
