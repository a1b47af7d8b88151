"""What a device offers as text: a tree to read, and a device file that is ready to use. Pure."""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from plugins.api.driver import Offer
from plugins.api.manifest import Port

TAGS_PER_GROUP = 1000
_LONGEST = 63


def tree(offers: Sequence[Offer]) -> Iterator[str]:
    """A line for each, under what it belongs to: name, type, unit, access, address."""
    below: dict[tuple[str, ...], list[Offer]] = {}
    for offer in offers:
        below.setdefault(offer.path[:-1], []).append(offer)
    yield from _branch((), below)


def _branch(path: tuple[str, ...], below: dict[tuple[str, ...], list[Offer]]) -> Iterator[str]:
    for offer in below.pop(path, ()):
        yield "  " * len(path) + _told(offer)
        yield from _branch(offer.path, below)


def _told(offer: Offer) -> str:
    name = printable(offer.path[-1])
    if offer.kind == "folder":
        return f"{name}/"
    facts: list[str] = []
    if offer.kind == "method":
        ports = offer.ports
        inputs = ", ".join(_port(*one) for one in ports.inputs.items()) if ports else "?"
        facts.append(f"({inputs})" + (f" -> {', '.join(ports.outputs)}" if ports and ports.outputs else ""))
    elif offer.type is not None:
        facts.append(str(offer.type) + (f" {offer.unit}" if offer.unit else ""))
        facts += [f"[{offer.range[0]:g}, {offer.range[1]:g}]"] if offer.range else []
        facts.append("rw" if offer.writable else "r")
    if offer.obstacle:
        facts.append(f"({offer.obstacle})")
    return printable(f"{name}  {'  '.join(facts)}  {offer.address}" + (f"  # {offer.note}" if offer.note else ""))


def _port(name: str, port: Port) -> str:
    return f"{name}: {port.type}"


def device_text(
    *, device: str, driver: str, connection: Mapping[str, Any], offers: Sequence[Offer], interval: str, origin: str
) -> str:
    """The device file with a tag for every variable and a function for every method that can be one.

    origin: where the offers are from, for the comment on top.
    """
    variables = [offer for offer in offers if offer.kind == "variable" and not offer.obstacle]
    methods = [offer for offer in offers if offer.kind == "method" and not offer.obstacle]
    tags = [_tag(*one) for one in zip(tag_names([offer.path for offer in variables]), variables, strict=True)]
    lines = [
        f"# {printable(origin)}",
        "# Remove what nobody needs. To write: writes: enabled here, writable: true and a range at the tag.",
        f"device: {_flow(device)}",
        f"driver: {driver}",
        "connection:",
        *(f"  {key}: {_flow(value)}" for key, value in connection.items()),
        *_functions(methods),
        "groups:",
    ]
    for number, start in enumerate(range(0, len(tags), TAGS_PER_GROUP), start=1):
        lines += [f"  live{'' if number == 1 else f'-{number}'}:", f"    interval: {interval}", "    tags:"]
        lines += tags[start : start + TAGS_PER_GROUP]
    skipped = [offer for offer in offers if offer.obstacle]
    lines += ["# Not in this file:"] if skipped else []
    lines += [f"#   {printable('/'.join(offer.path))}: {printable(offer.obstacle)}" for offer in skipped]
    return "\n".join(lines) + "\n"


def _tag(name: str, offer: Offer) -> str:
    fields: dict[str, Any] = {**offer.fields, "type": str(offer.type), "title": "/".join(offer.path)}
    if offer.unit:
        fields["unit"] = offer.unit
    if offer.range:
        fields["range"] = list(offer.range)
    notes = [note for note in (offer.note, "the server lets it be written" if offer.writable else "") if note]
    comment = f"  # {printable('; '.join(notes))}" if notes else ""
    return f"      {_flow(name)}: {_flow(fields)}{comment}"


def _functions(methods: Sequence[Offer]) -> Iterator[str]:
    if methods:
        yield "functions:"
    for name, offer in zip(tag_names([one.path for one in methods]), methods, strict=True):
        ports: dict[str, Any] = {}
        for side in ("inputs", "outputs"):
            held = getattr(offer.ports, side) if offer.ports else {}
            if held:
                ports[side] = {port: {"type": one.type, "title": one.title} for port, one in held.items()}
        yield f"  {_flow(name)}: {_flow({'title': '/'.join(offer.path), **offer.fields, **ports})}"


def tag_names(paths: Sequence[Sequence[str]]) -> list[str]:
    """A name for each path, valid in a device file, no two equal: the shortest end of the path that tells it apart."""
    depths = [1] * len(paths)
    while True:
        names = [_slug(path[-depth:]) for path, depth in zip(paths, depths, strict=True)]
        often = Counter(names)
        deeper = [
            depth + 1 if often[name] > 1 and depth < len(path) else depth
            for path, depth, name in zip(paths, depths, names, strict=True)
        ]
        if deeper == depths:
            return _numbered(names)
        depths = deeper


def _slug(words: Iterable[str]) -> str:
    """OvenTemperature [°C] becomes oven-temperature-c, Größe becomes grosse."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", "-".join(words))
    letters = "".join(one for one in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(one))
    slug = re.sub(r"[^a-z0-9_]+", "-", letters).strip("-_")
    return slug[-_LONGEST:].strip("-_") or "tag"


def _numbered(names: Sequence[str]) -> list[str]:
    taken = set(names)
    seen: set[str] = set()
    numbers = defaultdict[str, Iterator[int]](lambda: count(2))  # goes on: of one name there may be tens of thousands
    unique = []
    for name in names:
        one, stem = name, name[: _LONGEST - 6]
        while one in seen or (one != name and one in taken):
            one = f"{stem}-{next(numbers[stem])}"
        seen.add(one)
        unique.append(one)
    return unique


def _flow(value: object) -> str:
    """As YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_-]*", value) and value not in {"null", "true", "false"}:
        return value
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """The text on one line, whatever a device put into it."""
    return "".join(one if one.isprintable() else "?" for one in text)
