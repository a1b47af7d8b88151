"""Which plugins a service has loaded."""

from typing import Literal

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.function import FunctionInfo
from contracts.v1.message import Level, Message, Millis, is_absent


class PluginInfo(Message):
    """A plugin as one service instance has loaded it. error: why the folder's present content could not be loaded.

    functions: those of a compute plugin, with their ports.
    """

    id: Level
    kind: Literal["driver", "function"]
    version: str
    title: str
    instance: Level
    since: Millis
    error: str | None = Field(default=None, exclude_if=is_absent)
    functions: dict[Level, FunctionInfo] | None = Field(default=None, exclude_if=is_absent)


PLUGIN = Topic(
    name="PLUGIN",
    pattern="plugin/{kind}/{id}/{instance}",
    payload=PluginInfo,
    retain=True,
    expiry_s=600,
    writers=("gateway", "compute"),
    about="A loaded plugin; refreshed while its service lives.",
)
