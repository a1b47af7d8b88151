"""Expressions: a formula is read once and calculated many times, without any way to the program around it. Pure.

Every name, operator and function is one of ours (grammar, values); no text is ever given to
Python's own compiler. The same inputs give the same result or the same error.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from services.orchestrator.expression.grammar import parse
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
    parts,
)
from services.orchestrator.expression.values import (
    BINARY,
    COMPARISONS,
    FUNCTIONS,
    BadValueError,
    item,
    items_of,
    negative,
    number,
    truth,
)

__all__ = ["Expression", "ExpressionError"]

Values = Mapping[str, Any]
Run = Callable[[Values], Any]


class Expression:
    """A formula. names: what it needs, with the column (from 1) where each stands first."""

    def __init__(self, text: str) -> None:
        """Reads the text. Raises ExpressionError that names the column."""
        self.text = text
        self.tree = parse(text)
        self.names: dict[str, int] = {}
        self._gather(self.tree)
        self._run = _compiled(self.tree)

    def __call__(self, values: Values) -> Any:  # noqa: ANN401 - a JSON value
        """The result for these values by name. Raises ExpressionError, and nothing else, whatever the values are."""
        try:
            return self._run(values)
        except RecursionError:  # of a value that is nested thousands of levels deep
            raise ExpressionError("a value is nested too deep", column=1) from None

    def true(self, values: Values) -> bool:
        """The result, which must be true or false. Raises ExpressionError."""
        result = self(values)
        try:
            return truth(result)
        except BadValueError as error:
            raise ExpressionError(f"the result: {error}", column=1, mend="compare it, such as x > 80") from None

    def _gather(self, tree: Tree) -> None:
        if isinstance(tree, Name):
            self.names.setdefault(tree.name, tree.at)
        for part in parts(tree):
            self._gather(part)


def _compiled(tree: Tree) -> Run:
    return _COMPILERS[type(tree)](tree)


def _constant(tree: Constant) -> Run:
    value = tree.value
    return lambda _: value


def _name(tree: Name) -> Run:
    name, at = tree.name, tree.at

    def run(values: Values) -> Any:  # noqa: ANN401
        """Raises ExpressionError if the name was not given."""
        try:
            return values[name]
        except KeyError:
            raise ExpressionError(f"{name!r} was not given", column=at, mend=f"give {name} as an input") from None

    return run


def _items(tree: Items) -> Run:
    runs = [_compiled(one) for one in tree.items]

    def run(values: Values) -> Any:  # noqa: ANN401
        """A list of plain values. Raises ExpressionError if one is a list or an object."""
        items = [run(values) for run in runs]
        try:
            return items_of(items)
        except BadValueError as error:
            raise ExpressionError(str(error), column=tree.at, mend="use a compute function for it") from None

    return run


def _unary(operate: Callable[[Any], Any], operand: Tree, at: int) -> Run:
    inner = _compiled(operand)

    def run(values: Values) -> Any:  # noqa: ANN401
        """Raises ExpressionError, which names the operator's place."""
        value = inner(values)
        try:
            return operate(value)
        except BadValueError as error:
            raise ExpressionError(str(error), column=at) from None

    return run


def _binary(operate: Callable[[Any, Any], Any], left: Tree, right: Tree, at: int) -> Run:
    first, second = _compiled(left), _compiled(right)

    def run(values: Values) -> Any:  # noqa: ANN401
        """Both sides are calculated. Raises ExpressionError, which names the operator's place."""
        one, other = first(values), second(values)
        try:
            return operate(one, other)
        except BadValueError as error:
            raise ExpressionError(str(error), column=at) from None

    return run


def _operation(tree: Binary) -> Run:
    if tree.operator in BINARY:
        return _binary(BINARY[tree.operator], tree.left, tree.right, tree.at)
    first, second = _unary(truth, tree.left, tree.at), _unary(truth, tree.right, tree.at)
    if tree.operator == "and":
        return lambda values: first(values) and second(values)
    return lambda values: first(values) or second(values)


def _comparison(tree: Comparison) -> Run:
    if len(tree.operators) == 1:
        left, right = tree.operands
        return _binary(COMPARISONS[tree.operators[0]], left, right, tree.at)
    operands = [_compiled(operand) for operand in tree.operands]
    compares = [COMPARISONS[operator] for operator in tree.operators]

    def run(values: Values) -> bool:
        """Stops at the first that does not hold, as Python does. Raises ExpressionError."""
        one = operands[0](values)
        for compare, operand in zip(compares, operands[1:], strict=True):
            other = operand(values)
            try:
                if not compare(one, other):
                    return False
            except BadValueError as error:
                raise ExpressionError(str(error), column=tree.at) from None
            one = other
        return True

    return run


def _choice(tree: Choice) -> Run:
    condition, then, other = _unary(truth, tree.condition, tree.at), _compiled(tree.then), _compiled(tree.other)
    return lambda values: then(values) if condition(values) else other(values)


def _call(tree: Call) -> Run:
    function = FUNCTIONS.get(tree.name)
    if function is None:
        near = get_close_matches(tree.name, FUNCTIONS, n=1)
        mend = f"did you mean {near[0]}?" if near else f"there are: {', '.join(FUNCTIONS)}"
        raise ExpressionError(f"there is no function {tree.name!r}", column=tree.at, mend=mend)
    if not function.fewest <= len(tree.arguments) <= function.most:
        raise ExpressionError(
            f"{tree.name} does not take {len(tree.arguments)} values", column=tree.at, mend=f"write {function.about}"
        )
    arguments = [_compiled(argument) for argument in tree.arguments]
    call = function.call

    def run(values: Values) -> Any:  # noqa: ANN401
        """Raises ExpressionError, which names the function and its place."""
        given = [argument(values) for argument in arguments]
        try:
            return call(*given)
        except BadValueError as error:
            raise ExpressionError(f"{tree.name}: {error}", column=tree.at) from None

    return run


_UNARY: Mapping[str, Callable[[Any], Any]] = {"-": negative, "+": number, "not": lambda value: not truth(value)}
_COMPILERS: Mapping[type, Callable[[Any], Run]] = {
    Constant: _constant,
    Name: _name,
    Items: _items,
    Unary: lambda tree: _unary(_UNARY[tree.operator], tree.operand, tree.at),
    Binary: _operation,
    Comparison: _comparison,
    Choice: _choice,
    Call: _call,
    Index: lambda tree: _binary(item, tree.of, tree.index, tree.at),
}
