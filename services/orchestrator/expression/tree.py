"""What an expression is once it is read: a tree of a few kinds of parts. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


class ExpressionError(Exception):
    """An expression cannot be read or calculated. column: from 1. mend: what would be right."""

    def __init__(self, message: str, *, column: int, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.mend = mend

    def __str__(self) -> str:
        return f"column {self.column}: {self.message}" + (f"; {self.mend}" if self.mend else "")


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that stands in the text."""

    value: float | int | str | bool | None
    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """An input or constant of the node."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple["Tree", ...]
    at: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `not x`."""

    operator: str
    operand: "Tree"
    at: int


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic, or `and` and `or`."""

    operator: str
    left: "Tree"
    right: "Tree"
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`a < b`, or a chain of them: `a < b <= c` means `a < b and b <= c`."""

    operators: tuple[str, ...]
    operands: tuple["Tree", ...]
    at: int


@dataclass(frozen=True, slots=True)
class Choice:
    """`then if condition else other`."""

    condition: "Tree"
    then: "Tree"
    other: "Tree"
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the language."""

    name: str
    arguments: tuple["Tree", ...]
    at: int


@dataclass(frozen=True, slots=True)
class Index:
    """`values[0]`, `values["speed"]`."""

    of: "Tree"
    index: "Tree"
    at: int


Tree: TypeAlias = Constant | Name | Items | Unary | Binary | Comparison | Choice | Call | Index


def parts(tree: Tree) -> tuple[Tree, ...]:
    """What a tree is made of, one level down."""
    return _PARTS[type(tree)](tree)


_PARTS: Mapping[type, Callable[[Any], tuple[Tree, ...]]] = {
    Constant: lambda tree: (),
    Name: lambda tree: (),
    Items: lambda tree: tree.items,
    Unary: lambda tree: (tree.operand,),
    Binary: lambda tree: (tree.left, tree.right),
    Comparison: lambda tree: tree.operands,
    Choice: lambda tree: (tree.condition, tree.then, tree.other),
    Call: lambda tree: tree.arguments,
    Index: lambda tree: (tree.of, tree.index),
}
