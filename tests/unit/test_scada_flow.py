"""The flow for Node-RED speaks of topics that there are, safely; that it works was tried by hand (docs/scada.md)."""

import json
from pathlib import Path
from typing import Any

from contracts.acl import OPERATOR
from contracts.v1.command import REPLY, WRITE
from contracts.v1.tag import TAG

FLOW: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "examples" / "scada" / "node-red-flow.json").read_text()
)


def nodes(kind: str) -> list[dict[str, Any]]:
    return [node for node in FLOW if node["type"] == kind]


def test_what_the_flow_listens_to_is_a_tag_and_its_own_users_replies() -> None:
    tag, replies = (node["topic"].replace("+", OPERATOR.name) for node in nodes("mqtt in"))

    assert TAG.parse(tag) is not None
    assert REPLY.parse(replies) is not None


def test_what_the_flow_commands_is_a_write_with_a_deadline_that_is_never_retained() -> None:
    (function,) = nodes("function")
    (out,) = nodes("mqtt out")
    topic = function["func"].split("msg.topic = `")[1].split("`")[0].replace("${user}", OPERATOR.name)

    assert WRITE in OPERATOR.sends
    assert WRITE.parse(topic) == {
        "site": "plant",
        "user": OPERATOR.name,
        "id": "filler-plc",
        "arg": "level-set-point",
    }
    assert "msg.messageExpiryInterval = 5" in function["func"]
    assert "msg.responseTopic" in function["func"]
    assert out["retain"] == "false"


def test_the_flow_checks_the_brokers_certificate_and_holds_no_secret() -> None:
    (broker,) = nodes("mqtt-broker")
    (tls,) = nodes("tls-config")

    assert broker["usetls"] is True
    assert tls["verifyservercert"] is True
    assert broker["credentials"] == {"user": "${DINRAIL_USER}", "password": "${DINRAIL_PASSWORD}"}
