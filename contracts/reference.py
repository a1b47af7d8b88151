"""The contracts as a page for people, made of the AsyncAPI document, the schemas and the golden examples.

Pure: it makes a text. `dinrail contracts generate` writes it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

REFERENCE_FILE = "reference.md"
_REF = re.compile(r"#/\$defs/(\w+)")
_BOUNDS = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("minLength", "at least {} long"),
    ("maxLength", "at most {} long"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("pattern", "`{}`"),
)
_ELSEWHERE = {"Definition": "the text of a pipeline: see [pipelines.md](../docs/pipelines.md)"}
_LONGEST = 2**53 - 1

Schema = Mapping[str, Any]


def reference(api: Mapping[str, Any], schemas: Mapping[str, Schema], examples: Mapping[str, Mapping[str, Any]]) -> str:
    """The page. api: the AsyncAPI document. schemas: by message. examples: topic and payload, by file name.

    Each channel gets the examples whose topic fits its address, the first of them printed.
    """
    types: dict[str, Schema] = {}
    lines = [
        "# Reference of the contracts",
        "",
        "Generated from `asyncapi.yaml` by `dinrail contracts generate`; edits are lost. What a reader should",
        "know first stands in [README.md](README.md).",
        "",
        "| address under `dinrail/v1/{site}/` | what |",
        "|---|---|",
    ]
    channels = api["channels"]
    lines += [f"| [`{_short(one)}`](#{name}) | {one['description']} |" for name, one in channels.items()]
    for name, channel in channels.items():
        lines += _channel(name, channel, api["operations"][f"publish_{name}"], schemas, types)
        lines += _examples(channel, examples)
    lines += _results(api, schemas, types)
    lines += ["", "## Types", ""]
    for name in sorted(types):
        # The word keeps its anchor apart from that of a channel: there is a channel `frame` and a type Frame.
        lines += [f"### type {name}", "", *_model(types[name], {}), ""]
    return "\n".join(lines).rstrip() + "\n"


def _channel(
    name: str,
    channel: Mapping[str, Any],
    operation: Mapping[str, Any],
    schemas: Mapping[str, Schema],
    types: dict[str, Schema],
) -> Iterator[str]:
    delivery = operation["bindings"]["mqtt"]
    expiry = delivery.get("messageExpiryInterval")
    (message,) = channel["messages"]
    yield from ("", f"## {name}", "", f"`{channel['address']}`", "", channel["description"], "")
    yield f"{operation['summary']} {operation['description']}"
    kept = "retained" if delivery["retain"] else "not retained"
    yield f"QoS {delivery['qos']}, {kept}" + (f", expires after {expiry} s." if expiry else ".")
    yield from ("", f"**{message}**", "")
    yield from _model(schemas[message], types)


def _results(api: Mapping[str, Any], schemas: Mapping[str, Schema], types: dict[str, Schema]) -> Iterator[str]:
    """What travels as a reply's result, and nowhere else."""
    sent = {message for channel in api["channels"].values() for message in channel["messages"]}
    yield from ("", "## Results", "", "What stands as `result` in a reply, by its command's model.")
    for name in sorted(set(schemas) - sent - set(_ELSEWHERE)):
        yield from ("", f"### {name}", "")
        yield from _model(schemas[name], types)


def _examples(channel: Mapping[str, Any], examples: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(channel["address"])))
    found = [(name, one) for name, one in sorted(examples.items()) if pattern.fullmatch(one["topic"])]
    if found:
        _, first = found[0]
        text = json.dumps(first["payload"], indent=2, ensure_ascii=False)
        yield from ("", f"`{first['topic']}`", "", "```json", text, "```")
    if found[1:]:
        files = ", ".join(f"[{name}](examples/v1/{name}.json)" for name, _ in found[1:])
        yield from ("", f"More: {files}")


def _model(schema: Schema, types: dict[str, Schema]) -> Iterator[str]:
    """Of a schema's fields a table; what it refers to is added to the types."""
    for name, one in schema.get("$defs", {}).items():
        if name not in _ELSEWHERE:
            types.setdefault(name, one)
    about, words = _taken_apart(schema.get("description", ""), schema.get("properties", {}))
    if about:
        yield from (about, "")
    if "enum" in schema:
        yield "One of " + ", ".join(f"`{one}`" for one in schema["enum"]) + "."
        return
    properties = schema.get("properties", {})
    if not properties:
        yield "No fields." if schema.get("type") == "object" else f"{_kind(schema)}."
        return
    required = set(schema.get("required", ()))
    yield "| field | type | needed | |"
    yield "|---|---|---|---|"
    for name, one in properties.items():
        told = "; ".join([*([_cell(words[name])] if name in words else ()), *_told(one)])
        yield f"| `{name}` | {_kind(one)} | {'yes' if name in required else 'no'} | {told} |"


def _taken_apart(about: str, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """What a model's words say of it as a whole, and of each field: `name: words.` or `name, name: words.`"""
    known = set(names)
    pieces = re.split(r"(?:^|(?<=[.;]) )(?=[a-z_]+(?:, [a-z_]+)*: )", " ".join(about.split()))
    whole: list[str] = []
    words: dict[str, str] = {}
    for piece in pieces:
        head, _, text = piece.partition(": ")
        fields = head.split(", ")
        if known.issuperset(fields):
            words |= dict.fromkeys(fields, text.rstrip(".;"))
        else:
            whole.append(piece)
    return " ".join(whole).strip(), words


def _told(schema: Schema) -> Iterable[str]:
    """What else is to be known of a field: words, bounds, what it is if it is left out."""
    parts = [schema, *(one for one in schema.get("anyOf", ()) if one.get("type") != "null")]
    for part in parts:
        if "description" in part:
            yield _cell(part["description"])
        for key, form in _BOUNDS:
            if key in part and part[key] != _LONGEST:
                yield _cell(form.format(part[key]))
    if schema.get("default") is not None:
        yield f"default `{json.dumps(schema['default'], ensure_ascii=False)}`"


def _kind(schema: Schema) -> str:
    """A field's type in a word or two; what it refers to as a link."""
    if "$ref" in schema:
        name = _REF.fullmatch(schema["$ref"])
        word = name[1] if name else schema["$ref"]
        return _ELSEWHERE.get(word) or f"[{word}](#type-{word.lower()})"
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", (schema.get("const"),))
        return ", ".join(f"`{json.dumps(one, ensure_ascii=False)}`" for one in values)
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts:
        return " or ".join(dict.fromkeys(_kind(one) for one in parts))
    return _container(schema) or str(schema.get("type", "any"))


def _container(schema: Schema) -> str | None:
    if "prefixItems" in schema:
        return "[" + ", ".join(_kind(one) for one in schema["prefixItems"]) + "]"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    values = schema.get("additionalProperties")
    return f"map to {_kind(values)}" if isinstance(values, dict) else None


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _short(channel: Mapping[str, Any]) -> str:
    return str(channel["address"]).removeprefix("dinrail/v1/{site}/")
