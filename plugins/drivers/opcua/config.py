"""What an OPC UA device adds to a device file: fields of the connection, of a group, of a tag and of a function."""

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema

from plugins.api.certificates import CLIENT_CERTIFICATE, CLIENT_KEY, TRUSTED
from plugins.api.duration import Seconds

STANDARD_NAMESPACE = "http://opcfoundation.org/UA/"
"""Namespace 0 of every server (OPC 10000-6, 5.2.2.9)."""

DEFAULT_PORT = 4840
"""Registered for opc.tcp (OPC 10000-6, 7.2)."""
_HOST = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:\s\[\]]+)"
_URL = re.compile(rf"^opc\.tcp://{_HOST}(?::(?P<port>\d{{1,5}}))?(?P<path>/\S*)?$")
_NODE = re.compile(r"^(?:nsu=(?P<uri>[^;]+);)?(?P<kind>[isgb])=(?P<identifier>.+)$", re.DOTALL)


_BINARY: Mapping[str, tuple[Callable[[str], object], str]] = {
    "g": (UUID, "a GUID such as 72962b91-fa75-4ae6-8d28-b404dc7daf63"),
    "b": (lambda text: b64decode(text, validate=True), "base64"),
}
"""Identifiers that are written as text in a form of their own."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node id whose namespace is a URI (OPC 10000-6, 5.1.12): indexes may be others after a server's restart.

    As text, `;` and `%` of the URI are %3B and %25.

    kind: i numeric, s string, g GUID, b opaque (base64).
    """

    uri: str
    kind: str
    identifier: str

    def __str__(self) -> str:
        uri = self.uri.replace("%", "%25").replace(";", "%3B")
        prefix = "" if self.uri == STANDARD_NAMESPACE else f"nsu={uri};"
        return f"{prefix}{self.kind}={self.identifier}"


def parse_node(given: object) -> NodeAddress:
    """The node id in `nsu=URI;s=NAME` or, for namespace 0, `i=NUMBER`. Raises ValueError with what would be right."""
    if isinstance(given, NodeAddress):
        return given
    text = str(given).lstrip()  # a blank at its end may belong to a string
    if re.match(r"^ns=\d+;", text):
        raise ValueError(
            f"{text!r} names a namespace by its index, which another start of the server may change; "
            f"write nsu=URI;{text.partition(';')[2]} with the namespace's URI"
        )
    found = _NODE.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no node id; write nsu=URI;s=NAME, nsu=URI;i=NUMBER, or i=NUMBER in namespace 0")
    if found["kind"] == "i" and not (found["identifier"].isdecimal() and int(found["identifier"]) < 1 << 32):
        raise ValueError(f"{found['identifier']!r} is no number; write i=NUMBER (0 to 4294967295), or s=NAME")
    if not found["uri"] and found["kind"] != "i":
        raise ValueError(f"{text!r} names no namespace; write nsu=URI;{text}")
    if found["kind"] in _BINARY:
        make, like = _BINARY[found["kind"]]
        try:
            make(found["identifier"])
        except ValueError:
            raise ValueError(f"{found['identifier']!r} is not {like}; correct it, or write s=NAME") from None
    uri = (found["uri"] or STANDARD_NAMESPACE).replace("%3B", ";").replace("%3b", ";").replace("%25", "%")
    return NodeAddress(uri, found["kind"], found["identifier"])


def _check_url(given: object) -> str:
    text = str(given)
    if "@" in text:
        raise ValueError("the address holds a user name; write it as user: NAME, with password_file: PATH")
    found = _URL.match(text)
    if found is None or not 0 < int(found["port"] or DEFAULT_PORT) < 1 << 16:
        raise ValueError(f"{text!r} is no address of a server; write opc.tcp://HOST:PORT/PATH, usually port 4840")
    return f"opc.tcp://{found['host']}:{found['port'] or DEFAULT_PORT}{found['path'] or ''}"


def _policy(given: object) -> object:
    """As people and other tools write it too: Aes128_Sha256_RsaOaep, none."""
    text = str(given).rpartition("#")[2].replace("_", "")
    return next((name for name in POLICIES if name.lower() == text.lower()), given)


def _deadband(given: object) -> "Deadband":
    """`0.5` in the variable's own unit, or `2%` of its range."""
    if isinstance(given, Deadband):
        return given
    text = str(given).strip()
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e-?\d+)?) *(%?)", text, re.IGNORECASE)
    if found is None or isinstance(given, bool) or float(found[1]) == 0:
        raise ValueError(f"{given!r} is no dead band; write a number above 0, such as 0.5, or a share such as 2%")
    if found[2] and float(found[1]) > 100:
        raise ValueError(f"{text!r} is more than the whole range; write 0.1% to 100%")
    return Deadband(float(found[1]), percent=bool(found[2]))


@dataclass(frozen=True, slots=True)
class Deadband:
    """How far a value must move until the server reports it (OPC 10000-4, 7.22.2).

    size: in the variable's own unit, or percent of its EURange.
    """

    size: float
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.size:g}%" if self.percent else f"{self.size:g}"


Policy = Literal["None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
POLICIES = ("None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
Check = Literal["dates", "host", "usage"]
"""Checks of a certificate that OPC 10000-4, 6.1.3 lets an administrator suppress."""
Node = Annotated[NodeAddress, BeforeValidator(parse_node), WithJsonSchema({"type": "string"})]
AnyDeadband = Annotated[Deadband, BeforeValidator(_deadband), WithJsonSchema({"type": ["number", "string"]})]


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Security(_Fields):
    """How messages are signed and encrypted, and whom we trust.

    certificate, key: our own, in DER or PEM. trust: a folder of certificates of servers or authorities, or one file.
    ignore: checks of the server's certificate that its owner cannot satisfy.
    Relative paths begin at the site's folder.
    """

    policy: Annotated[Policy, BeforeValidator(_policy)] = "Basic256Sha256"
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate: Path = CLIENT_CERTIFICATE
    key: Path = CLIENT_KEY
    trust: Path = TRUSTED
    ignore: frozenset[Check] = frozenset()

    @property
    def secured(self) -> bool:
        """Whether messages are signed at all."""
        return self.policy != "None"


class Connection(_Fields):
    """How to reach the server, and as whom.

    timeout: of each request, and of noticing that the server is gone twice that. user: with password_file.
    clear_password: send the password though nothing encrypts it. user_certificate, user_key: a user known by that.
    """

    url: Annotated[str, BeforeValidator(_check_url)]
    timeout: Annotated[Seconds, Field(ge=0.1, le=60)] = 5.0
    security: Security = Security(policy="None")
    user: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    clear_password: StrictBool = False
    user_certificate: Path | None = None
    user_key: Path | None = None


class Group(_Fields):
    """How a group is read.

    mode: subscribe, where the server sends what changes, or poll. sampling: how often the server looks at each
    variable; absent means the group's interval, which is also the publishing interval. queue: values per variable that
    the server keeps between two publications.
    """

    mode: Literal["subscribe", "poll"] = "subscribe"
    sampling: Annotated[Seconds, Field(ge=0)] | None = None
    queue: Annotated[int, Field(ge=1, le=10_000)] = 10


class Monitor(_Fields):
    """What the server reports of a variable. deadband: how far it must move; absent reports each change.

    This is the server's own filter; the host's `deadband` of a tag only thins out its topic.
    """

    deadband: AnyDeadband | None = None


class Tag(_Fields):
    """Where a tag's value is: a node id with the namespace's URI; and how it is monitored."""

    node: Node
    monitor: Monitor = Monitor()


class Function(_Fields):
    """A method of an object (OPC 10000-4, 5.11.2): both by node id."""

    object: Node
    method: Node
