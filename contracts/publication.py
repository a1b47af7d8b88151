"""The contracts as documents for other programs: a JSON Schema per message and one AsyncAPI 3 document.

Pure: it makes texts. `dinrail contracts` writes them and compares them with the committed files.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from contracts.acl import ACCOUNTS, OWN_ACCOUNTS
from contracts.reference import REFERENCE_FILE, reference
from contracts.topic import ROOT, Topic
from contracts.v1.command import REPLY, Command
from contracts.v1.definition import Definition
from contracts.v1.topics import COMMANDS, TOPICS

SCHEMA_FOLDER = "schema/v1"
RELEASED_FOLDER = "schema/released/v1"
ASYNCAPI_FILE = "asyncapi.yaml"


def models() -> dict[str, type[BaseModel]]:
    """Every model that travels as a whole payload or as a reply's result, and that of a pipeline's file, by name."""
    payloads = {topic.payload.__name__: topic.payload for topic in TOPICS}
    results = {command.result.__name__: command.result for command in COMMANDS}
    return payloads | results | {Definition.__name__: Definition}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every accepted payload of the model keeps."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(mode="validation")}


def documents(examples: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The text of every generated file by its path under contracts/. examples: golden messages, for the reference."""
    schemas = {
        f"{SCHEMA_FOLDER}/{name}.json": json.dumps(schema_of(model), indent=2, sort_keys=True) + "\n"
        for name, model in models().items()
    }
    api = asyncapi()
    return {
        **schemas,
        ASYNCAPI_FILE: yaml.safe_dump(api, sort_keys=False, width=120, allow_unicode=True),
        REFERENCE_FILE: reference(api, {name: schema_of(model) for name, model in models().items()}, examples),
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.1 document: a channel per topic, a send operation for it, a message per payload."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "dinrail",
            "version": "1.0.0",
            "description": "Topics and messages of dinrail, version 1 of the wire.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name.lower(): _channel(topic) for topic in TOPICS},
        "operations": {f"publish_{topic.name.lower()}": _operation(topic) for topic in TOPICS},
        "components": {"messages": {name: _message(name, model) for name, model in models().items()}},
    }


def topic_table() -> str:
    """The topics as the table that stands in contracts/README.md."""
    rows = [
        "| name | topic under the root | payload | QoS | retain | expiry | written by |",
        "|---|---|---|---|---|---|---|",
    ]
    for topic in TOPICS:
        expiry = f"{topic.expiry_s} s" if topic.expiry_s else "–"
        delivery = f"{topic.qos} | {'yes' if topic.retain else 'no'} | {expiry} | {_writers(topic)}"
        rows.append(f"| {topic.name} | `{topic.pattern}` | {topic.payload.__name__} | {delivery} |")
    return "\n".join(rows)


def _writers(topic: Topic[BaseModel]) -> str:
    """Of a command: what a user must be at least, and the services that may send it."""
    if not isinstance(topic, Command):
        return ", ".join(topic.writers)
    return ", ".join(([f"{topic.role}s"] if topic.role else []) + list(topic.senders))


def _readers(topic: Topic[BaseModel]) -> str:
    """The accounts that may read it; of a command the service that executes it, of an answer who has asked."""
    if isinstance(topic, Command):
        found = [account.name for account in ACCOUNTS if topic.target in account.targets]
    else:
        found = [account.name for account in ACCOUNTS if topic in account.reads]
    if topic is REPLY:
        return "whoever asked"
    own = {account.name for account in OWN_ACCOUNTS}
    return ", ".join(name if name in own else f"{name}s" for name in found) or "nobody"


def _channel(topic: Topic[BaseModel]) -> dict[str, Any]:
    return {
        "address": f"{ROOT}/{topic.pattern}",
        "description": topic.about,
        "parameters": {level: {"description": "1 to 63 of a-z 0-9 _ -"} for level in topic.levels},
        "messages": {topic.payload.__name__: {"$ref": f"#/components/messages/{topic.payload.__name__}"}},
    }


def _operation(topic: Topic[BaseModel]) -> dict[str, Any]:
    channel = f"#/channels/{topic.name.lower()}"
    binding: dict[str, Any] = {"qos": topic.qos, "retain": topic.retain, "bindingVersion": "0.2.0"}
    if topic.expiry_s:
        binding["messageExpiryInterval"] = topic.expiry_s
    return {
        "action": "send",
        "channel": {"$ref": channel},
        "summary": f"Written by: {_writers(topic)}.",
        "description": f"Read by: {_readers(topic)}.",
        "messages": [{"$ref": f"{channel}/messages/{topic.payload.__name__}"}],
        "bindings": {"mqtt": binding},
    }


def _message(name: str, model: type[BaseModel]) -> dict[str, Any]:
    summary = (model.__doc__ or name).strip().splitlines()[0]
    return {
        "name": name,
        "summary": summary,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./{SCHEMA_FOLDER}/{name}.json"},
        },
        "bindings": {
            "mqtt": {"payloadFormatIndicator": 1, "contentType": "application/json", "bindingVersion": "0.2.0"}
        },
    }
