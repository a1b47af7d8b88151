"""What an OPC UA device adds to a device file: fields of the connection, of a group and of a tag."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from plugins.api.duration import Seconds

STANDARD_NAMESPACE = "http://opcfoundation.org/UA/"
"""Namespace 0 of every server (OPC 10000-6, 5.2.2.9)."""

_NODE = re.compile(r"^(?:nsu=(?P<uri>[^;]+);)?(?P<kind>[isgb])=(?P<identifier>.+)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node id whose namespace is a URI (OPC 10000-6, 5.1.13): indexes may be others after a server's restart.

    kind: i numeric, s string, g GUID, b opaque (base64).
    """

    uri: str
    kind: str
    identifier: str

    def __str__(self) -> str:
        prefix = "" if self.uri == STANDARD_NAMESPACE else f"nsu={self.uri};"
        return f"{prefix}{self.kind}={self.identifier}"


def parse_node(given: object) -> NodeAddress:
    """The node id in `nsu=URI;s=NAME` or, for namespace 0, `i=NUMBER`. Raises ValueError with what would be right."""
    if isinstance(given, NodeAddress):
        return given
    text = str(given).strip()
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
    return NodeAddress(found["uri"] or STANDARD_NAMESPACE, found["kind"], found["identifier"])


def _check_url(given: object) -> str:
    text = str(given)
    if not re.match(r"^opc\.tcp://[^/:\s]+(:\d{1,5})?(/\S*)?$", text):
        raise ValueError(f"{text!r} is no address of a server; write opc.tcp://HOST:PORT/PATH, usually port 4840")
    if "@" in text:
        raise ValueError("the address holds a password; remove it, user names are not served yet")
    return text


Node = Annotated[NodeAddress, BeforeValidator(parse_node), WithJsonSchema({"type": "string"})]


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Connection(_Fields):
    """How to reach the server. timeout: of each request, and of noticing that the server is gone twice that."""

    url: Annotated[str, BeforeValidator(_check_url)]
    timeout: Annotated[Seconds, Field(ge=0.1, le=60)] = 5.0


class Group(_Fields):
    """How a group is read.

    mode: subscribe, where the server sends what changes, or poll. sampling: how often the server looks at each
    variable; absent means the group's interval, which is also the publishing interval. queue: values per variable that
    the server keeps between two publications.
    """

    mode: Literal["subscribe", "poll"] = "subscribe"
    sampling: Annotated[Seconds, Field(ge=0)] | None = None
    queue: Annotated[int, Field(ge=1, le=10_000)] = 10


class Tag(_Fields):
    """Where a tag's value is: a node id with the namespace's URI."""

    node: Node
