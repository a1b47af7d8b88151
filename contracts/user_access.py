"""What the broker lets a user do: what his role may, narrowed to his devices, tags and workspaces where topics tell.

What a topic does not tell, such as which values a question about the history is for, or a pattern of tags, is wider
here than his rights are; the service that executes the command checks it (contracts/v1/policy.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.acl import ADMIN, ENGINEER, OPERATOR, VIEWER, Account, Rule
from contracts.policy import filters, sees_all
from contracts.topic import Topic, check_level
from contracts.v1.backfill import BACKFILL
from contracts.v1.command import PLANT, REPLY
from contracts.v1.event import EVENT
from contracts.v1.policy import Rights, Role
from contracts.v1.stored import STORED

ROLES: Mapping[Role, Account] = {
    Role.VIEWER: VIEWER,
    Role.OPERATOR: OPERATOR,
    Role.ENGINEER: ENGINEER,
    Role.ADMIN: ADMIN,
}
"""What each role may, unless it is narrowed."""

_Levels = dict[str, str]
"""Those levels of a topic that are fixed."""
_PLANT_AGGREGATES = ("event-store", "gateway", "plugin", "recorder", "service")
"""What events happen to in the scope `plant`, beside devices and users."""
_WORKSPACE_AGGREGATES = ("alarm", "pipeline", "run", "service")
"""In a workspace; a service tells there which commands to the workspace it has refused."""
_EVENTS, _FRAMES = {"kind": "event"}, {"kind": "frame"}


@dataclass(frozen=True, slots=True)
class UserAccount:
    """A user's login: his name, and his rights as lines of the access file, none of which refuses anything."""

    name: str
    rights: Rights

    def rules(self, site: str) -> tuple[Rule, ...]:
        """What he may do on a site's topics; commands go out under his own name, answers come to it.

        Raises TopicError if a name cannot stand in a topic.
        """
        check_level("site", site)
        role = ROLES[self.rights.role]
        rules = [Rule("read", topic.filter(site=site, **at)) for topic in role.reads for at in self._seen(topic)]
        for command in role.sends:
            rules += [Rule("write", name) for name in filters(self.rights, command, site=site, user=self.name)]
        rules.append(Rule("read", REPLY.filter(site=site, user=self.name)))
        return tuple(dict.fromkeys(rules))

    def _seen(self, topic: Topic[Any]) -> Iterable[_Levels]:
        devices, workspaces = self.rights.devices, self.rights.workspaces
        if topic is EVENT:
            return self._events()
        if topic is BACKFILL and (devices is not None or workspaces is not None):
            # A message of events may hold any of them.
            return [_FRAMES] if devices is None else [{**_FRAMES, "owner": device} for device in devices]
        if topic is STORED and devices is not None:
            return [_EVENTS, *({**_FRAMES, "owner": device} for device in devices)]
        if "device" in topic.levels and devices is not None:
            return [{"device": device} for device in devices]
        return self._workspaces() if "scope" in topic.levels else [{}]

    def _events(self) -> Iterator[_Levels]:
        devices = self.rights.devices
        if sees_all(self.rights):
            yield {}
            return
        if self.rights.workspaces is None:
            yield from ({"aggregate": aggregate} for aggregate in _WORKSPACE_AGGREGATES)
        else:
            yield from self._workspaces()
        plant = {"scope": PLANT}
        yield from ({**plant, "aggregate": aggregate} for aggregate in _PLANT_AGGREGATES)
        of_device = {**plant, "aggregate": "device"}
        yield from [of_device] if devices is None else ({**of_device, "id": device} for device in devices)

    def _workspaces(self) -> Iterable[_Levels]:
        given = self.rights.workspaces
        return [{}] if given is None else [{"scope": scope} for scope in given if scope != PLANT]
