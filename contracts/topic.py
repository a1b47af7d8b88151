"""A topic contract: one frozen value that says where a message goes, what it holds and how it is delivered."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from pydantic import BaseModel

P = TypeVar("P", bound=BaseModel)

ROOT = "dinrail/v1/{site}"
LEVEL_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
_LEVEL = re.compile(LEVEL_PATTERN)


class TopicError(ValueError):
    """A level does not match the grammar, or a pattern's levels were not all given."""


def check_level(name: str, value: str) -> str:
    """The value itself, if it may stand as one level of a topic.

    The grammar is narrower than MQTT's (4.7.1.1): SCADA tools choke on dots, blanks and upper case in topic levels.
    Raises TopicError naming the level.
    """
    if not _LEVEL.fullmatch(value):
        raise TopicError(
            f"{name}: {value!r} cannot stand in a topic; use 1 to 63 of a-z 0-9 _ - and begin with a letter or digit"
        )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic(Generic[P]):
    """One class of messages on the bus.

    pattern: levels below the root; a level in braces is named by the caller of build().
    expiry_s: MQTT message expiry in seconds; None means the message never expires, or that each message says its own.
    writers: the services whose account may publish here.
    """

    name: str
    pattern: str
    payload: type[P]
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    writers: tuple[str, ...]
    about: str
    levels: tuple[str, ...] = field(init=False)
    """The names of the levels that build() needs, `site` first."""

    def __post_init__(self) -> None:
        # Kept, not computed at each build(): a gateway builds thousands of topics a second.
        names = (part[1:-1] for part in f"{ROOT}/{self.pattern}".split("/") if part.startswith("{"))
        object.__setattr__(self, "levels", tuple(names))

    def build(self, **levels: str) -> str:
        """The topic for these levels, `site` among them. Raises TopicError on a missing, unknown or malformed level."""
        if levels.keys() != set(self.levels):
            self._refuse_unknown(levels)
            raise TopicError(f"{self.name}: missing {', '.join(name for name in self.levels if name not in levels)}")
        for name, value in levels.items():
            check_level(name, value)
        return f"{ROOT}/{self.pattern}".format_map(levels)

    def filter(self, **levels: str) -> str:
        """The subscription filter that matches every topic with these levels; a level not given matches anything."""
        self._refuse_unknown(levels)
        wanted = {name: check_level(name, levels[name]) if name in levels else "+" for name in self.levels}
        return f"{ROOT}/{self.pattern}".format_map(wanted)

    def parse(self, topic: str) -> dict[str, str] | None:
        """The named levels of a topic of this class, or None if it is not one."""
        found = _form(self.pattern).fullmatch(topic)
        return None if found is None else found.groupdict()

    def _refuse_unknown(self, levels: Mapping[str, str]) -> None:
        unknown = sorted(set(levels) - set(self.levels))
        if unknown:
            raise TopicError(f"{self.name}: no level named {', '.join(unknown)}; it has {', '.join(self.levels)}")


@cache
def _form(pattern: str) -> re.Pattern[str]:
    """What a topic of this pattern looks like; made when the first one comes: of forty, a service reads a few."""
    parts = f"{ROOT}/{pattern}".split("/")
    form = (f"(?P<{part[1:-1]}>{LEVEL_PATTERN})" if part.startswith("{") else re.escape(part) for part in parts)
    return re.compile("/".join(form))
