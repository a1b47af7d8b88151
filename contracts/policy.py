"""What a user's rights allow: the one source of the broker's lines and of the check by each executing service.

A role stands in each Command; devices, tags and workspaces narrow it by what kind of thing is asked:
- device: to the user's devices; a write to the tags that he may write as well. A call may move anything that the device
  has: who may write only some tags may call functions of those devices alone all of whose tags he may write (`D/*`).
- pipeline, run, alarm, function: to the user's workspaces.
- what looks within what it is asked (Command.within): history and events tell of the user's devices and workspaces
  alone, and of users to nobody who is narrowed so; of a gateway, the device that is added, changed or removed must be
  one of the user's. A file says what each tag moves: who may write only some tags may change it as he may call
  functions.
- what a user does for himself (Command.own): to everybody, under his own name alone.
- all else (services, recorders, plugins, users) concerns the whole site, and is closed to who is narrowed at all.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from contracts.v1.command import ANY_SCOPE, CALL, PLANT, WRITE, Command
from contracts.v1.policy import Rights, Role

# Not checked, so that the model is not built where it is not used.
WHOLE = Rights.model_construct(role=Role.ADMIN)
"""Of a service."""
NOTHING = Rights.model_construct(role=Role.VIEWER, devices=[], writes=[], workspaces=[])
"""Of who is no user any more."""
USER = "user"
"""The aggregate of users, whose events name devices and workspaces of the whole site."""
_DEVICE = "device"


def is_whole(rights: Rights) -> bool:
    """Whether nothing narrows the role."""
    return rights.devices is None and rights.writes is None and rights.workspaces is None


def sees_all(rights: Rights) -> bool:
    """Whether nothing narrows what the user sees."""
    return rights.devices is None and rights.workspaces is None


def has_device(rights: Rights, device: str) -> bool:
    """Whether the device is one of the user's."""
    return rights.devices is None or device in rights.devices


def has_workspace(rights: Rights, scope: str) -> bool:
    """Whether the workspace is one of the user's."""
    return rights.workspaces is None or scope in rights.workspaces


def missing_of_device(rights: Rights, device: str) -> str | None:
    """As missing(), of what is about one device."""
    return None if has_device(rights, device) else f"has no right to the device {device!r}"


def missing_of_file(rights: Rights, device: str) -> str | None:
    """As missing(), of what says which registers or nodes the device's tags are."""
    told = missing_of_device(rights, device)
    if told is not None or _has_all_tags(rights, device):
        return told
    return f"has no right to change the file of {device!r}: {_takes_all_tags(device)}"


def missing_of_events(rights: Rights, scope: str, aggregate: str, name: str) -> str | None:
    """As missing(), of what is about the events of an aggregate. What else happens in the plant all may see."""
    if scope != PLANT:
        return missing_of_workspace(rights, scope)
    if aggregate == USER and not sees_all(rights):
        return "has rights to a part of the site; what users may do concerns all of it"
    return missing_of_device(rights, name) if aggregate == _DEVICE else None


def missing_of_workspace(rights: Rights, scope: str) -> str | None:
    """As missing(), of what is about one workspace."""
    return None if has_workspace(rights, scope) else f"has no right to the workspace {scope!r}"


def missing(rights: Rights, command: Command[Any, Any], levels: Mapping[str, str]) -> str | None:
    """What the user lacks for this command, as the end of `USER ...`; None if nothing. levels: those of its topic."""
    if command.role is None:
        return f"is no service, and {command.target} {command.verb} is for services only"
    if not rights.role.includes(command.role):
        return f"is {_one(rights.role)}; {command.target} {command.verb} takes {_one(command.role)}"
    if command.target == _DEVICE:
        return _missing_of_device(rights, command, levels)
    if _has_scope(command):
        return missing_of_workspace(rights, levels["scope"])
    if command.own:
        return None if levels["id"] == levels["user"] else "may do that for nobody but himself"
    told = f"has rights to a part of the site; {command.target} {command.verb} concerns all of it"
    return None if command.within or is_whole(rights) else told


def filters(rights: Rights, command: Command[Any, Any], *, site: str, user: str) -> tuple[str, ...]:
    """Topic filters of the commands that missing() allows this user: exactly those, but where a pattern of tags has
    a wildcard, which stands for the whole level in a filter.
    """
    if command.role is None or not rights.role.includes(command.role):
        return ()
    if command.own:
        return (command.filter(site=site, user=user, id=user),)
    return tuple(dict.fromkeys(command.filter(site=site, user=user, **levels) for levels in _levels(rights, command)))


def _levels(rights: Rights, command: Command[Any, Any]) -> Iterator[dict[str, str]]:
    if command.target == _DEVICE:
        yield from _levels_of_device(rights, command)
    elif _has_scope(command):
        yield from _each("scope", rights.workspaces)
    elif command.within or is_whole(rights):
        yield {}


def _levels_of_device(rights: Rights, command: Command[Any, Any]) -> Iterator[dict[str, str]]:
    if rights.writes is None or command not in (WRITE, CALL):
        yield from _each("id", rights.devices)
        return
    for pattern in rights.writes:
        device, _, tag = pattern.partition("/")
        if command is CALL and not _is_any(tag):
            continue
        named = (
            [one for one in rights.devices or () if fnmatchcase(one, device)] if rights.devices is not None else None
        )
        arg = {} if command is CALL or _is_open(tag) else {"arg": tag}
        for levels in _each("id", named if named is not None else None if _is_open(device) else [device]):
            yield levels | arg


def _missing_of_device(rights: Rights, command: Command[Any, Any], levels: Mapping[str, str]) -> str | None:
    device = levels["id"]
    told = missing_of_device(rights, device)
    if told is not None:
        return told
    if rights.writes is None or command not in (WRITE, CALL):
        return None
    if command is WRITE:
        tag = levels["arg"]
        may = any(fnmatchcase(tag, one) for one in _tags(rights.writes, device))
        return None if may else f"has no right to write the tag {device}/{tag}"
    if _has_all_tags(rights, device):
        return None
    return f"has no right to call functions of {device!r}: {_takes_all_tags(device)}"


def _tags(writes: list[str], device: str) -> list[str]:
    """The patterns of tags that hold for this device."""
    return [tag for wanted, _, tag in (one.partition("/") for one in writes) if fnmatchcase(device, wanted)]


def _has_all_tags(rights: Rights, device: str) -> bool:
    return rights.writes is None or any(map(_is_any, _tags(rights.writes, device)))


def _takes_all_tags(device: str) -> str:
    return f"that takes the right to write all of its tags, `{device}/*`"


def _each(level: str, names: list[str] | None) -> Iterator[dict[str, str]]:
    if names is None:
        yield {}
    else:
        yield from ({level: name} for name in names)


def _has_scope(command: Command[Any, Any]) -> bool:
    return ANY_SCOPE in command.pattern


def _is_open(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _is_any(pattern: str) -> bool:
    """Whether the pattern matches every name."""
    return set(pattern) == {"*"}


def _one(role: str) -> str:
    return f"{'an' if role[0] in 'aeiou' else 'a'} {role}"
