"""A YAML document that remembers where each field stands, so that every fault can name file, line and field."""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import Composer
from yaml.constructor import ConstructorError

from plugins.api.mend import mend_of

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault in a file: where it is, what is wrong, and what would be right.

    line: from 1; 0 if the source has no lines, such as an environment variable.
    """

    source: str
    line: int
    field: str
    message: str
    mend: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        text = f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        return f"{text}\n    mend: {self.mend}" if self.mend else text


_MOST_FIELDS = 200_000
"""Far more than a gateway can poll; ten lines of aliases of aliases would make milliards of them."""


class DocumentError(ValueError):
    """A file cannot be used. faults: all of them, in the order of their lines."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))


def field_name(path: Sequence[str | int]) -> str:
    """The path as people write it: groups.fast.tags[2].name."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".")


class _MeaninglessScalar(ConstructorError):
    """A word that YAML takes for a date or a number, and cannot read as one."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `on`, `off`, `yes` and `no` stay words: they are names of states in a plant."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401 - PyYAML's own
        """What the node means. Raises YAMLError, also where PyYAML fails in other ways, as for 2026-02-30."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError):
            problem = f"{str(node.value)[:40]!r} looks like a date or a number and is none"
            raise _MeaninglessScalar(None, None, problem, node.start_mark) from None


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


_QUICK: list[Callable[[str], Any]] = []
if yaml.__with_libyaml__:  # as in every wheel of PyYAML

    class _QuickLoader(Composer, yaml.CSafeLoader):
        """libyaml's parser in C, six times as fast, and PyYAML's composer in Python: the one in C ends the process when
        a text nests too deep."""

        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)

    _QUICK.append(_QuickLoader)


def _compose(text: str) -> yaml.Node | None:
    """The document's nodes, None if there is none. Raises YAMLError, RecursionError."""
    for loader in _QUICK:
        with suppress(yaml.YAMLError, RecursionError, UnicodeError):
            return _composed(loader(text))
    return _composed(_Loader(text))  # which says better what is wrong


def _composed(loader: Any) -> yaml.Node | None:  # noqa: ANN401 - PyYAML's loaders have no type in common
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def plain_value(text: str) -> Any:  # noqa: ANN401 - whatever YAML has
    """What the text means in a document without quotes around it: a number, a truth value, ..., else itself."""
    loader = _Loader("")
    try:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, ValueError):
        return text
    finally:
        loader.dispose()


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML file. data: its content. lines: the line (from 1) of each field by its path."""

    source: str
    data: Any
    lines: dict[Path, int]

    @classmethod
    def parse(cls, text: str, *, source: str) -> "Document":
        """Raises DocumentError on broken YAML, on a key given twice and on a key that is no plain word."""
        loader = _Loader("")
        try:
            node = _compose(text)
            if node is None:
                raise DocumentError([Fault(source, 1, "", "the file is empty", "write at least the required fields")])
            lines: dict[Path, int] = {}
            faults: list[Fault] = []
            _walk(node, (), source, lines, faults)
            if faults:
                raise DocumentError(faults)
            return cls(source, loader.construct_document(node), lines)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            problem = str(error.problem or error.context)
            mend = "look at the indentation, colons and quotes around it"
            if isinstance(error, _MeaninglessScalar):
                mend = "put quotes around it if it is a word"
            elif r"'\t'" in problem:
                mend = "indent with spaces, not with tabs"
            raise DocumentError([Fault(source, line, "", f"not YAML: {problem}", mend)]) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise DocumentError([Fault(source, 1, "", f"not YAML: {error}")]) from None
        finally:
            loader.dispose()

    def line(self, path: Sequence[str | int]) -> int:
        """The line of the field, or of the nearest field around it that the file has."""
        for end in range(len(path), -1, -1):
            found = self.lines.get(tuple(path[:end]))
            if found is not None:
                return found
        return 1

    def fault(self, path: Sequence[str | int], message: str, mend: str = "") -> Fault:
        """A fault at this path."""
        return Fault(self.source, self.line(path), field_name(path), message, mend)

    def faults_of(
        self,
        error: ValidationError,
        *,
        at: Sequence[str | int] = (),
        model: type[BaseModel] | None = None,
        beside: Iterable[str] = (),
    ) -> list[Fault]:
        """pydantic's errors as faults of this file.

        at: where the validated part stands. model: to name near misses of an unknown key; beside: keys that may stand
        there too, though this model does not know them.
        """
        others = tuple(beside)
        return [self._fault_of(dict(item), tuple(at), model, others) for item in error.errors(include_url=False)]

    def fault_of(self, item: dict[str, Any], *, at: Path, model: type[BaseModel]) -> Fault:
        """One of pydantic's errors, whose location is seen from `at`, as faults_of() tells it."""
        return self._fault_of(item, at, model, ())

    def _fault_of(self, item: dict[str, Any], at: Path, model: type[BaseModel] | None, beside: Sequence[str]) -> Fault:
        loc = tuple(
            part for part in item["loc"] if not (isinstance(part, str) and ("[" in part or part in _TYPE_NAMES))
        )
        path = (*at, *loc)
        kind = item["type"]
        if kind == "extra_forbidden":
            around = _model_at(model, loc[:-1])
            known = sorted({*around.model_fields, *(beside if len(loc) == 1 else ())}) if around else []
            near = get_close_matches(str(path[-1]), known, n=1)
            mend = f"did you mean {near[0]!r}? " if near else ""
            return self.fault(path, "unknown key", mend + (f"known keys: {', '.join(known)}" if known else "remove it"))
        if kind == "missing":
            return self.fault(path, "is missing", f"add {path[-1]!r}")
        message = str(item["msg"]).removeprefix("Value error, ")
        text, _, mend = message.partition("; ")
        given = item.get("input")
        secret = any(isinstance(part, str) and _SECRET.search(part) for part in path) or (
            isinstance(given, str) and _SECRET_IN_ADDRESS.search(given)
        )
        if isinstance(given, str | int | float | bool) and repr(given) not in text and not secret:
            text += f" (given: {given!r})"
        return self.fault(path, text, mend or mend_of(kind, item.get("ctx", {}), given))


_TYPE_NAMES = frozenset({"int", "float", "str", "bool", "none", "constrained-str", "constrained-int"})

_SECRET = re.compile(r"(password|passphrase|token|secret)(?!_file)")
"""A field whose value must not stand in a message; that of `password_file` may: it is only a path."""

_SECRET_IN_ADDRESS = re.compile(r"//[^/\s]*@")


def _model_at(model: type[BaseModel] | None, path: Path) -> type[BaseModel] | None:
    """The model of the fields at this path below the model's own; None where the path leads through lists, or unions of
    several models."""
    for part in path:
        field = model.model_fields.get(str(part)) if model else None
        inner = field.annotation if field else None
        kinds = get_args(inner) if get_origin(inner) in {Union, UnionType} else (inner,)
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        model = models[0] if len(models) == 1 else None
    return model


def _walk(node: yaml.Node, path: Path, source: str, lines: dict[Path, int], faults: list[Fault]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > _MOST_FIELDS:
        mend = "write the fields out, or split the file; nothing that is repeated by * may repeat in turn"
        raise DocumentError([Fault(source, 1, "", f"more than {_MOST_FIELDS} fields", mend)])
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                faults.append(Fault(source, line, field_name(path), "a key must be a plain word"))
                continue
            key = key_node.value
            here = (*path, key)
            if key in seen:
                faults.append(
                    Fault(
                        source,
                        line,
                        field_name(here),
                        f"given twice, first on line {seen[key]}",
                        "rename or remove one",
                    )
                )
            seen.setdefault(key, line)
            lines[here] = line
            _walk(value_node, here, source, lines, faults)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), source, lines, faults)
