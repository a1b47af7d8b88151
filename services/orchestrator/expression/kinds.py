"""What kind of value an expression gives, as far as that is known before it is calculated. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from services.orchestrator.expression.tree import (
    Binary,
    Call,
    Choice,
    Comparison,
    Constant,
    ExpressionError,
    Index,
    Items,
    Name,
    Tree,
    Unary,
)
from services.orchestrator.expression.values import FUNCTIONS

Kind = str | None
"""A JSON type (number, integer, boolean, string, array, object), `null`, or None where it is not known."""

_NUMBERS = frozenset({"number", "integer"})
_NULL = "null"


def kind_of(tree: Tree, names: Mapping[str, Kind]) -> Kind:
    """The kind of the result. names: the kinds of its inputs. Raises ExpressionError where kinds cannot go together."""
    return _KINDS[type(tree)](tree, names)


def _need(tree: Tree, wanted: str, names: Mapping[str, Kind], at: int) -> Kind:
    """The kind of the tree, which must be the one that is wanted. Raises ExpressionError."""
    kind = kind_of(tree, names)
    if kind is None:
        return wanted
    if kind == wanted or (wanted == "number" and kind in _NUMBERS):
        return kind
    raise ExpressionError(f"needs a {wanted}, but gets {_told(kind)}", column=at, mend=_MENDS.get(wanted, ""))


def _items(tree: Items, names: Mapping[str, Kind]) -> Kind:
    for one in tree.items:
        kind_of(one, names)
    return "array"


def _operation(tree: Binary, names: Mapping[str, Kind]) -> Kind:
    if tree.operator in {"and", "or"}:
        _need(tree.left, "boolean", names, tree.at)
        return _need(tree.right, "boolean", names, tree.at)
    left, right = kind_of(tree.left, names), kind_of(tree.right, names)
    if tree.operator == "+" and "string" in {left, right} and {left, right} <= {"string", None}:
        return "string"
    for kind in (left, right):
        if kind is not None and kind not in _NUMBERS:
            raise ExpressionError(
                f"{tree.operator} needs numbers, but gets {_told(kind)}", column=tree.at, mend=_MENDS["number"]
            )
    if tree.operator == "+" and None in {left, right}:
        return None if left == right else "number"
    return "integer" if {left, right} == {"integer"} and tree.operator not in {"/", "**"} else "number"


def _comparison(tree: Comparison, names: Mapping[str, Kind]) -> Kind:
    kinds = [kind_of(operand, names) for operand in tree.operands]
    for operator, left, right in zip(tree.operators, kinds, kinds[1:], strict=False):
        if operator in {"==", "!="} or None in {left, right}:
            continue
        if not ({left, right} <= _NUMBERS or left == right == "string"):
            raise ExpressionError(
                f"{_told(left)} {operator} {_told(right)} has no answer",
                column=tree.at,
                mend="compare numbers, or texts",
            )
    return "boolean"


def _call(tree: Call, names: Mapping[str, Kind]) -> Kind:
    function = FUNCTIONS[tree.name]
    kinds = [kind_of(argument, names) for argument in tree.arguments]
    if function.takes == "numbers":
        wanted = {"array", *_NUMBERS} if len(kinds) == 1 else set(_NUMBERS)
    else:
        wanted = {"number": set(_NUMBERS), "array": {"array"}}.get(function.takes or "", set())
    for kind in kinds:
        if wanted and kind is not None and kind not in wanted:
            raise ExpressionError(
                f"{tree.name} cannot take {_told(kind)}", column=tree.at, mend=f"write {function.about}"
            )
    return _either(*kinds) if tree.name == "default" else function.gives


def _choice(tree: Choice, names: Mapping[str, Kind]) -> Kind:
    _need(tree.condition, "boolean", names, tree.at)
    return _either(kind_of(tree.then, names), kind_of(tree.other, names))


def _index(tree: Index, names: Mapping[str, Kind]) -> Kind:
    of, index, at = kind_of(tree.of, names), kind_of(tree.index, names), tree.at
    if of in {"number", "integer", "boolean"}:
        raise ExpressionError(f"{_told(of)} has no parts", column=at, mend="leave the [ ] out")
    if of in {"array", "string"} and index not in {"integer", None}:
        raise ExpressionError(f"a place in a list is an integer, not {_told(index)}", column=at, mend="write [0]")
    if of == "object" and index not in {"string", None}:
        raise ExpressionError("a part of an object has a name", column=at, mend='write ["name"]')
    return "string" if of == "string" else None


def _either(one: Kind, other: Kind) -> Kind:
    if one == other:
        return one
    if _NULL in {one, other}:
        return other if one == _NULL else one
    return "number" if {one, other} <= _NUMBERS else None


def _told(kind: Kind) -> str:
    return {"array": "a list", "integer": "an integer", "object": "an object", "string": "a text", _NULL: _NULL}.get(
        str(kind), f"a {kind}"
    )


_MENDS = {"number": "give it a number", "boolean": "compare it, such as x > 80"}
_CONSTANTS: Mapping[type, Kind] = {
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "string",
    type(None): _NULL,
}
_KINDS: Mapping[type, Callable[[Any, Mapping[str, Kind]], Kind]] = {
    Constant: lambda tree, names: _CONSTANTS[type(tree.value)],
    Name: lambda tree, names: names.get(tree.name),
    Items: _items,
    Unary: lambda tree, names: _need(tree.operand, "boolean" if tree.operator == "not" else "number", names, tree.at),
    Binary: _operation,
    Comparison: _comparison,
    Choice: _choice,
    Call: _call,
    Index: _index,
}
