"""Whether a changed JSON Schema still keeps what its released version promised (contracts/README.md, Evolution)."""

import json
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "$defs"})
_WALKED = frozenset(
    {"anyOf", "oneOf", "discriminator", "prefixItems", "items", "additionalProperties", "patternProperties"}
)


def breaks(old: Schema, new: Schema, *, name: str) -> list[str]:
    """Everything in `new` that breaks a partner which knows only `old`; empty if it may be released within v1.

    An added optional field passes. A field removed, retyped, newly required or no longer required, a narrowed or
    widened set of values: each is one line that names the place.
    """
    return list(_Comparison(old, new).walk(old, new, name))


class _Comparison:
    """Walks two schemas side by side; each resolves its references in its own root."""

    def __init__(self, old_root: Schema, new_root: Schema) -> None:
        self._old_root = old_root
        self._new_root = new_root
        self._seen: set[tuple[str, str]] = set()

    def walk(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        """What breaks between the two schemas, from this place down; a reference is followed once."""
        if "$ref" in old:
            pair = (old["$ref"], str(new.get("$ref")))
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolved(old, self._old_root), _resolved(new, self._new_root)
        if "properties" in old and "properties" in new:
            yield from self._objects(old, new, place)
        elif _plain(old) != _plain(new):
            yield f"{place}: retyped from {_shown(old)} to {_shown(new)}"
        else:
            yield from self._parts(old, new, place)

    def _objects(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        before, after = old["properties"], new["properties"]
        was_required, is_required = set(old.get("required", [])), set(new.get("required", []))
        for field in before:
            if field in after:
                yield from self.walk(before[field], after[field], f"{place}.{field}")
            else:
                yield f"{place}.{field}: removed"
        for field in sorted(is_required - was_required):
            yield f"{place}.{field}: newly required"
        for field in sorted((was_required - is_required) & set(after)):
            yield f"{place}.{field}: no longer required, though its readers rely on it"
        if old.get("additionalProperties") != new.get("additionalProperties"):
            yield f"{place}: unknown fields are treated otherwise"

    def _parts(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        yield from self._kinds(old, new, place)
        for keyword in ("anyOf", "prefixItems"):
            before, after = old.get(keyword, []), new.get(keyword, [])
            if len(before) != len(after):
                yield f"{place}: retyped: {len(before)} alternatives became {len(after)}"
                return
            for one, other in zip(before, after, strict=True):
                yield from self.walk(one, other, place)
        for keyword, suffix in (("items", "[]"), ("additionalProperties", ".*")):
            part, other = old.get(keyword), new.get(keyword)
            if isinstance(part, dict) and isinstance(other, dict):
                yield from self.walk(part, other, place + suffix)
            elif part != other:
                yield f"{place}{suffix}: retyped from {part} to {other}"

    def _kinds(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        """Of a union with a discriminator: a kind may be added, none may go or change."""
        before, after = (one.get("discriminator", {}).get("mapping", {}) for one in (old, new))
        for kind, reference in before.items():
            if kind in after:
                yield from self.walk({"$ref": reference}, {"$ref": after[kind]}, f"{place}({kind})")
            else:
                yield f"{place}({kind}): removed"
        patterns, others = old.get("patternProperties", {}), new.get("patternProperties", {})
        if patterns.keys() != others.keys():
            yield f"{place}.*: other names are allowed"
            return
        for pattern, values in patterns.items():
            yield from self.walk(values, others[pattern], f"{place}.*")


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


def _plain(schema: Schema) -> Schema:
    """The keywords that compare as they stand; the ones that hold schemas are walked."""
    return {key: value for key, value in schema.items() if key not in _ANNOTATIONS | _WALKED}


def _shown(schema: Schema) -> str:
    return json.dumps({key: value for key, value in schema.items() if key not in _ANNOTATIONS}, sort_keys=True)
