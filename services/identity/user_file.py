"""users.yaml: the one place where the users of a site stand. Pure."""

from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.v1.message import Micros
from contracts.v1.policy import MOST_USERS, Devices, Rights, Role, TagPatterns, Workspaces
from contracts.v1.user import PasswordHash
from plugins.api.document import Document, DocumentError, Fault
from services.identity.roster import User, Users, fault_of_name, fault_of_users

HEAD = """\
# The users of this site: role and rights, and the password, hashed. Written by the identity service (`dinrail users`),
# which takes up what you change here by hand; comments of yours are lost when it writes. docs/users.md tells more.
"""


class _Line(BaseModel):
    """A user as the file has him."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    devices: Devices | None = None
    writes: TagPatterns | None = None
    workspaces: Workspaces | None = None
    password: PasswordHash
    since: Micros | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    users: Annotated[dict[str, Any], Field(max_length=MOST_USERS)]


def parse_users(text: str, *, source: str) -> Users:
    """The users in the text of the file. Raises DocumentError with every fault, its line and its mend."""
    document = Document.parse(text, source=source)
    try:
        entries = _File.model_validate(document.data).users
    except ValidationError as error:
        raise DocumentError(document.faults_of(error, model=_File)) from None
    users: dict[str, User] = {}
    faults: list[Fault] = []
    for name, entry in entries.items():
        if fault := fault_of_name(name):
            faults.append(_name_fault(document, name, fault))
        try:
            line = _Line.model_validate(entry)
            users[name] = User(_rights(line), line.password, line.since)
        except ValidationError as error:
            faults += document.faults_of(error, at=("users", name), model=_Line)
    if not faults and (whole := fault_of_users(users)):
        faults = [document.fault(("users",), whole)]
    if faults:
        raise DocumentError(faults)
    return users


def users_of(content: bytes, *, source: str) -> Users:
    """The users in the bytes of the file. Raises DocumentError as parse_users() does, also where they are no text."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError([Fault(source, line, "", f"not UTF-8: {error.reason}", "save it as UTF-8")]) from None
    return parse_users(text, source=source)


def users_text(users: Users) -> str:
    """The text of the file. The same users give the same text."""
    entries = {
        name: {
            **user.rights.model_dump(mode="json"),
            "password": user.password,
            **({} if user.since is None else {"since": user.since}),
        }
        for name, user in sorted(users.items())
    }
    return HEAD + yaml.safe_dump({"users": entries}, sort_keys=False, default_flow_style=None, width=1 << 20)


def _rights(line: _Line) -> Rights:
    return Rights(role=line.role, devices=line.devices, writes=line.writes, workspaces=line.workspaces)


def _name_fault(document: Document, name: str, fault: str) -> Fault:
    message, _, mend = fault.partition("; ")
    return document.fault(("users", name), message, mend)
